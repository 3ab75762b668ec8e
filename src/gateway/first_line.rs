//! The beginning of an HTTP/1 request, read before Pingora's parser gets to see it.
//!
//! It serves two ends. An idle connection and a slow head are told apart: the wait for the first
//! byte has a deadline of its own. And the request line is known as it was sent: the parser
//! rewrites a target that it finds illegal, and drops a `#fragment` without a word.

use bytes::{Buf, BytesMut};
use memchr::memchr;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::server::HttpSession;
use tokio::io::AsyncReadExt;

use crate::auth::target::Target;
use crate::config::HEADER_BYTES;

/// What was read of a request before it was parsed.
#[derive(Debug)]
pub(super) struct FirstLine {
    /// The request line, without its line end as far as that has come.
    line: Vec<u8>,
}

/// How much is read at once: most heads fit.
const READ: usize = 2048;

impl FirstLine {
    /// Waits for the first bytes of a request; `None` when the client closes instead.
    pub(super) async fn wait(stream: &mut Stream) -> Option<BytesMut> {
        let mut bytes = BytesMut::with_capacity(READ);
        match stream.read_buf(&mut bytes).await {
            Ok(count) if count > 0 => Some(bytes),
            _ => None,
        }
    }

    /// Reads on until the first line is complete, or longer than any head may be. `None` when
    /// the client closes before.
    pub(super) async fn complete(stream: &mut Stream, bytes: &mut BytesMut) -> Option<FirstLine> {
        let mut may_be_blank = true;
        loop {
            // An empty line before the request line is skipped, once (RFC 9112, section 2.2).
            if may_be_blank && bytes.starts_with(b"\r\n") {
                bytes.advance(2);
                may_be_blank = false;
            }
            let end = memchr(b'\n', bytes);
            if end.is_some() || bytes.len() > HEADER_BYTES {
                let line = &bytes[..end.unwrap_or(bytes.len())];
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                return Some(FirstLine { line });
            }
            match stream.read_buf(bytes).await {
                Ok(count) if count > 0 => {}
                _ => return None,
            }
        }
    }

    /// The line as sent.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.line
    }

    /// Whether what stands between the method and the version is no target: it tells why a parser
    /// may have given up.
    pub(super) fn has_bad_target(&self) -> bool {
        let mut spaces = self.line.iter().enumerate().filter(|(_, b)| **b == b' ');
        let (Some((first, _)), Some((last, _))) = (spaces.next(), spaces.next_back()) else {
            return false;
        };
        Target::parse(&self.line[first + 1..last]).is_err()
    }
}

/// Takes an HTTP/1 session that has read nothing apart, down to its stream.
pub(super) fn into_stream(session: HttpSession) -> Stream {
    session.into_inner()
}

/// A session that begins with these bytes.
pub(super) fn session_with(stream: Stream, bytes: BytesMut) -> ServerSession {
    let mut session = ServerSession::new_http1(stream);
    session.set_pipelined_prefix(bytes);
    session
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> FirstLine {
        FirstLine {
            line: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_bad_target_is_found_between_the_first_and_the_last_space() {
        for bad in [
            "GET /a b HTTP/1.1",
            "GET /a\"b HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET  /a HTTP/1.1",
        ] {
            assert!(line(bad).has_bad_target(), "{bad}");
        }
    }

    #[test]
    fn a_line_that_is_no_request_line_says_nothing_about_its_target() {
        for other in ["", "GET", "GET /", "NONSENSE x"] {
            assert!(!line(other).has_bad_target(), "{other}");
        }
        assert!(!line("GET /a HTTP/1.1").has_bad_target());
    }

    #[tokio::test]
    async fn the_line_is_put_together_from_pieces() {
        let (mut client, server) = tokio::io::duplex(8);
        let mut stream: Stream = Box::new(server);
        let writer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let _ = client
                .write_all(b"GET /a/long/path HTTP/1.1\r\nHost: a\r\n\r\n")
                .await;
        });
        let mut bytes = FirstLine::wait(&mut stream).await.unwrap_or_default();
        let line = FirstLine::complete(&mut stream, &mut bytes).await;
        assert_eq!(
            line.map(|l| l.line),
            Some(b"GET /a/long/path HTTP/1.1".to_vec())
        );
        writer.abort();
    }

    #[tokio::test]
    async fn a_client_that_closes_first_sent_no_line() {
        let (client, server) = tokio::io::duplex(8);
        drop(client);
        let mut stream: Stream = Box::new(server);
        assert!(FirstLine::wait(&mut stream).await.is_none());
    }
}
