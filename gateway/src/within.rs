//! A bound on how long something takes, which costs nothing where it is there at once.
//!
//! `tokio::time::timeout` asks for the time and makes a timer before it looks; most reads and writes of a call are done at
//! the first look. Never decides what follows.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Waits for something; `None` if it takes longer than the bound, from the first look on.
pub async fn within<T>(bound: Duration, what: impl Future<Output = T>) -> Option<T> {
    let mut what = pin!(what);
    let mut timer = pin!(None);
    poll_fn(|context| {
        if let Poll::Ready(done) = what.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        if timer.is_none() {
            timer.set(Some(tokio::time::sleep(bound)));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(context).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_comes_and_what_is_late_does_not() {
        // Without a moment to wait, what is there at once is there.
        assert_eq!(within(Duration::ZERO, async { 1 }).await, Some(1));
        let late = std::future::pending::<()>();
        assert_eq!(within(Duration::from_millis(1), late).await, None);
        let soon = tokio::time::sleep(Duration::from_millis(1));
        assert_eq!(within(Duration::from_secs(60), soon).await, Some(()));
    }
}
