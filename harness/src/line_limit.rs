//! A limit on what a peer may send before it ends a line.
//!
//! Both protocols here are lines of JSON, and their decoder collects a line before it looks at it. A guest that never
//! ends one would fill the host's memory; behind this reader it gets an error instead.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Passes bytes through until a line grows longer than its limit.
#[derive(Debug)]
pub(crate) struct LineLimit<R> {
    inner: R,
    limit: usize,
    line: usize,
}

impl<R> LineLimit<R> {
    /// Limits the lines of a reader.
    pub(crate) fn new(inner: R, limit: usize) -> Self {
        Self { inner, limit, line: 0 }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for LineLimit<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let fresh = &buffer.filled()[before..];
        self.line = match fresh.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => fresh.len() - end - 1,
            None => self.line.saturating_add(fresh.len()),
        };
        if self.line > self.limit {
            // An error promises that nothing was read.
            buffer.set_filled(before);
            let error = format!("a line of more than {} bytes", self.limit);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        LineLimit::new(bytes, limit).read_to_end(&mut out).await.map(|_| out)
    }

    #[tokio::test]
    async fn lines_within_the_limit_pass_unchanged() {
        let text = b"12345678\n12345678\n\n1".repeat(100);
        assert_eq!(read(&text, 9).await.unwrap(), text);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_an_error() {
        let error = read(&[b'x'; 10_000], 64).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
