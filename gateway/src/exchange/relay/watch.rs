//! Watches for what ends a stream from outside: its caller leaves, or the process has no more time for it.
//!
//! Each event wakes the task that passes the stream on. To look each time at the caller's connection and at the process'
//! end, where nearly never is anything, takes as long as reading the event. So each of the two wakes the task by a bell of
//! this file, and is looked at only if that was rung. Never reads the backend's answer.

use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

use crate::downstream::Wakes;

/// Why a stream is over though its backend has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The caller left.
    Gone,
    /// The process ends.
    Stopped,
}

/// A watch over one stream.
pub struct Watch<C> {
    cut: Pin<C>,
    task: Waker,
    bell: Arc<Bell>,
    ringer: Waker,
}

/// What was looked at wakes the task by it.
struct Bell {
    is_rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<C> Watch<C>
where
    C: DerefMut<Target: Future<Output = ()>>,
{
    /// Nothing was looked at yet; `cut` ends when the process has no more time.
    pub fn new(cut: Pin<C>) -> Self {
        let bell = Arc::new(Bell {
            is_rung: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        Watch {
            cut,
            task: Waker::noop().clone(),
            ringer: Waker::from(bell.clone()),
            bell,
        }
    }

    /// Whether the stream is over by now. Whoever asks is woken when it is. `leaves` looks at the caller's connection.
    pub fn poll<L>(&mut self, context: &mut Context<'_>, leaves: L) -> Poll<Ended>
    where
        L: FnOnce(&mut Context<'_>) -> (Poll<()>, Wakes),
    {
        let is_rung = self.bell.is_rung.load(Ordering::Relaxed)
            && self.bell.is_rung.swap(false, Ordering::AcqRel);
        // Whoever rang took the task's waker.
        if is_rung || !self.task.will_wake(context.waker()) {
            self.task.clone_from(context.waker());
            self.bell.task.register(context.waker());
            if self.bell.is_rung.load(Ordering::Acquire) {
                // Rung in between, when there was nobody to wake.
                context.waker().wake_by_ref();
            }
        }
        if !is_rung {
            return Poll::Pending;
        }
        let mut ringing = Context::from_waker(&self.ringer);
        let (leaves, wakes) = leaves(&mut ringing);
        if wakes == Wakes::Once {
            self.bell.is_rung.store(true, Ordering::Release);
        }
        if leaves.is_ready() {
            return Poll::Ready(Ended::Gone);
        }
        self.cut
            .as_mut()
            .poll(&mut ringing)
            .map(|()| Ended::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whatever_is_looked_at_wakes_the_task_each_time() {
        let cut = pin!(std::future::pending());
        let mut watch = Watch::new(cut);
        for _task in 0..2 {
            let woken = Arc::new(Woken::default());
            let task = Waker::from(woken.clone());
            for times in 1..4 {
                let mut bell = None;
                let polled = watch.poll(&mut Context::from_waker(&task), |ringing| {
                    bell = Some(ringing.waker().clone());
                    (Poll::Pending, Wakes::Always)
                });
                assert_eq!(polled, Poll::Pending);
                bell.expect("it was rung").wake_by_ref();
                assert_eq!(woken.0.load(Ordering::Relaxed), times);
            }
        }
    }
}
