//! A connection that still reads the response after a failed write. A gateway that refuses an
//! upload, for example with 413, may close before it has read the whole request. Its response can
//! then still be read, and the failed write must not hide it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection. After a failed write, further writes are ignored without an error. Reading then
/// shows whether there was a response.
pub(super) struct AnswerFirst<T> {
    inner: T,
    takes_no_more: bool,
}

impl<T> AnswerFirst<T> {
    pub(super) fn new(inner: T) -> AnswerFirst<T> {
        AnswerFirst {
            inner,
            takes_no_more: false,
        }
    }

    /// The outcome of a write: a failed one counts as `nothing` written, without an error.
    fn forgive<R>(&mut self, done: Poll<io::Result<R>>, nothing: R) -> Poll<io::Result<R>> {
        match done {
            Poll::Ready(Err(_)) => {
                self.takes_no_more = true;
                Poll::Ready(Ok(nothing))
            }
            done => done,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for AnswerFirst<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for AnswerFirst<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.takes_no_more {
            return Poll::Ready(Ok(bytes.len()));
        }
        let done = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.forgive(done, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.takes_no_more {
            return Poll::Ready(Ok(()));
        }
        let done = Pin::new(&mut self.inner).poll_flush(context);
        self.forgive(done, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn the_answer_is_read_after_a_write_has_failed() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        theirs.write_all(b"413").await.unwrap();
        drop(theirs);
        let mut connection = AnswerFirst::new(ours);
        connection.write_all(&[0; 1024]).await.unwrap();
        connection.flush().await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "413");
    }
}
