//! Several pieces onto a connection, by as few and as cheap system calls as it takes.
//!
//! Never waits longer than the connection does.

use std::future::poll_fn;
use std::io::{self, Cursor, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::within::within;

/// What isn't longer is written as one piece: the copy costs less than the system takes to gather several, and TLS makes a
/// record of each. Bytes.
const JOINED_MAX_BYTES: usize = 4 << 10;

/// How long a connection that is ended is read on.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// And how much of it. Bytes.
const LINGER_MAX_BYTES: usize = 1 << 20;
/// So much at once. Bytes.
const LINGER_READ_BYTES: usize = 2 << 10;

/// Writes all slices, the empty ones left out.
///
/// # Errors
/// The connection's.
pub async fn write_all(stream: &mut Stream, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    let mut left = slices;
    // Takes the empty ones away from the beginning.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let written = poll_fn(|context| poll_write(stream, context, left)).await?;
        IoSlice::advance_slices(&mut left, written);
    }
    stream.flush().await
}

/// Ends a connection whose other side may still be sending: what comes after the last answer is read for a while, since a
/// connection that is closed on unread bytes is reset, and the answer is lost on its way.
pub async fn linger(stream: &mut Stream) {
    let lingered = async {
        stream.shutdown().await?;
        let mut room = [0; LINGER_READ_BYTES];
        let mut left = LINGER_MAX_BYTES;
        while left > 0 {
            match stream.read(&mut room).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // Whoever isn't there any more can't be waited for.
    let _gone = within(LINGER_TIMEOUT, lingered).await;
}

/// Writes some slices, as much as the connection takes at once; how much. One of them at least must hold something.
///
/// # Errors
/// The connection's; also where it takes nothing and says so.
pub fn poll_write(
    stream: &mut Stream,
    context: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let length: usize = slices.iter().map(|slice| slice.len()).sum();
    let whole = slices.iter().find(|slice| slice.len() == length);
    let stream = Pin::new(stream);
    let written = match (whole, slices) {
        (Some(one), _) => stream.poll_write(context, one),
        (None, several) if length <= JOINED_MAX_BYTES => {
            let mut room = [const { MaybeUninit::uninit() }; JOINED_MAX_BYTES];
            let mut joined = ReadBuf::uninit(&mut room);
            for slice in several {
                joined.put_slice(slice);
            }
            stream.poll_write(context, joined.filled())
        }
        (None, several) => stream.poll_write_vectored(context, several),
    };
    match ready!(written)? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

/// In the place of a connection that somebody else holds: nothing comes of it, and nothing can be written.
pub fn nowhere() -> Stream {
    Box::new(Cursor::new(Box::<[u8]>::default()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn all_pieces_arrive_in_order_whatever_the_connection_takes_at_once() {
        let long = vec![b'x'; JOINED_MAX_BYTES];
        for pieces in [
            vec![&b"head "[..], b"", b"body", b""],
            vec![b"", b"one"],
            vec![b"head ", &long, b"", b" end"],
            vec![],
        ] {
            for room in [1, 7, 1 << 16] {
                let (mut reader, writer) = tokio::io::duplex(room);
                let mut stream: Stream = Box::new(writer);
                let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                let mut read = Vec::new();
                let (written, _) = tokio::join!(
                    async {
                        let written = write_all(&mut stream, &mut slices).await;
                        drop(stream);
                        written
                    },
                    reader.read_to_end(&mut read)
                );
                written.unwrap();
                assert_eq!(read, pieces.concat());
            }
        }
    }
}
