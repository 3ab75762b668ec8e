//! The head of an HTTP/1 request, read before Pingora's parser gets to see it.
//!
//! It has three purposes. The wait for the first byte has a deadline of its own, so that an idle
//! connection and a slow head differ. The request line is known as it was sent: the parser rewrites
//! an illegal target, and drops a `#fragment` silently. The parser gets the head and no more, so
//! that the body is checked before Pingora reads it.

use bytes::{Buf, BytesMut};
use memchr::{memchr, memchr_iter};
use pingora::Error;
use pingora::protocols::http::ServerSession;

use crate::config::HEADER_BYTES;
use crate::gateway::receive::framing::{self, Framing};
use crate::gateway::receive::request_stream::RequestStream;
use countersign_core::refusal::Refusal;
use countersign_core::target::{Target, TargetError};

/// The request line and the length of the head, before the head is parsed.
#[derive(Debug)]
pub(crate) struct FirstLine {
    /// The request line, without its line end.
    line: Vec<u8>,
    /// The length of the head, from the request line to the empty line.
    head_len: usize,
}

/// The refusal for a second empty line before a request. The parser skips any number of them.
const NO_REQUEST_LINE: Refusal =
    Refusal::BadRequest("an empty line stands where the request line should be");

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// The client closed within it.
    Gone,
    /// It has no end within the bytes that a head may have.
    TooLarge,
}

impl FirstLine {
    /// Waits for the first byte of a request; `false` when the client closes instead. An empty line
    /// before the request line is skipped, once (RFC 9112, section 2.2), and does not begin it:
    /// some clients send one behind a body.
    pub(crate) async fn wait(stream: &mut RequestStream) -> bool {
        let mut may_be_blank = true;
        loop {
            match &stream.ahead()[..] {
                [] => {}
                [b'\r'] if may_be_blank => {}
                [b'\r', b'\n', ..] if may_be_blank => {
                    stream.ahead().advance(2);
                    may_be_blank = false;
                    continue;
                }
                _ => return true,
            }
            if !stream.read_ahead().await {
                return false;
            }
        }
    }

    /// Reads on to the end of the head, and takes the head off the stream.
    ///
    /// A first line that is no request line of HTTP/1 is not read on behind: the parser refuses it.
    ///
    /// # Errors
    ///
    /// [`HeadError`].
    pub(crate) async fn read(
        stream: &mut RequestStream,
    ) -> Result<(FirstLine, BytesMut), HeadError> {
        let (mut line_end, mut seen) = (None, 0);
        loop {
            let ahead = stream.ahead();
            if line_end.is_none() {
                line_end = memchr(b'\n', &ahead[seen..]).map(|at| seen + at);
            }
            if let Some(end) = line_end {
                let line = &ahead[..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let is_request = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
                let head_len = match is_request {
                    // A line end may be in two reads.
                    true => end_of_head(ahead, seen.saturating_sub(2).max(end)),
                    false => Some(ahead.len()),
                };
                if let Some(head_len) = head_len {
                    let line = line.to_vec();
                    // A buffer that holds nothing else changes hands as it is.
                    let head = match head_len == ahead.len() {
                        true => std::mem::take(ahead),
                        false => ahead.split_to(head_len),
                    };
                    return Ok((FirstLine { line, head_len }, head));
                }
            }
            if ahead.len() > HEADER_BYTES {
                return Err(HeadError::TooLarge);
            }
            seen = ahead.len();
            if !stream.read_ahead().await {
                return Err(HeadError::Gone);
            }
        }
    }

    /// Judges what the parser made of the head, and bounds the body by it: nothing behind the body
    /// is this request's.
    ///
    /// # Errors
    ///
    /// As [`framing::check_h1`]; and 400 where there is no request line, or the parser found another
    /// end of the head.
    pub(crate) fn check(&self, session: &ServerSession) -> Result<Framing, Refusal> {
        if self.line.is_empty() {
            return Err(NO_REQUEST_LINE);
        }
        let raw = session.to_h1_raw();
        let framing = framing::check_h1(session.req_header(), &self.line, &raw, HEADER_BYTES)?;
        if raw.len() != self.head_len {
            return Err(Refusal::BadRequest("the header block has two ends"));
        }
        match RequestStream::begin_body(session, framing.content_length) {
            true => Ok(framing),
            false => Err(Refusal::Internal),
        }
    }

    /// The refusal for a head that Pingora's parser gave up on. It tells a block that is too large
    /// only by its words.
    pub(crate) fn refusal(&self, error: &Error) -> Refusal {
        let text = error.to_string();
        if text.contains("header larger than") || text.contains("too many headers") {
            Refusal::HeaderTooLarge
        } else if self.line.is_empty() {
            NO_REQUEST_LINE
        } else if self.has_bad_target() {
            Refusal::BadTarget(TargetError::ForbiddenByte)
        } else {
            Refusal::BadRequest("the request line or a header is malformed")
        }
    }

    /// Whether what stands between the method and the version is no target: it tells why a parser
    /// may have given up.
    fn has_bad_target(&self) -> bool {
        let mut spaces = self.line.iter().enumerate().filter(|(_, b)| **b == b' ');
        let (Some((first, _)), Some((last, _))) = (spaces.next(), spaces.next_back()) else {
            return false;
        };
        Target::parse(&self.line[first + 1..last]).is_err()
    }
}

/// The length up to and with the empty line, looked for from the line feed at or behind `from`.
/// Line ends are taken as the parser takes them, with or without a carriage return; it is `framing`
/// that refuses bare ones.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let ends = memchr_iter(b'\n', &bytes[from..]).map(|at| from + at + 1);
    ends.into_iter().find_map(|line| match &bytes[line..] {
        [b'\n', ..] => Some(line + 1),
        [b'\r', b'\n', ..] => Some(line + 2),
        _ => None,
    })
}

/// A session for a request with this head.
pub(crate) fn session_with(stream: Box<RequestStream>, head: BytesMut) -> ServerSession {
    let mut session = ServerSession::new_http1(stream);
    session.set_pipelined_prefix(head);
    session
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn line(text: &str) -> FirstLine {
        FirstLine {
            line: text.as_bytes().to_vec(),
            head_len: 0,
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

    /// Reads these bytes in pieces of `size`: the request line, the head, and the bytes behind it.
    async fn read(bytes: &[u8], size: usize) -> Result<(String, String, String), HeadError> {
        let (mut client, server) = tokio::io::duplex(size);
        let sent = bytes.to_vec();
        let writer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let _ = client.write_all(&sent).await;
            client
        });
        let mut stream = RequestStream::next_request(Box::new(server)).unwrap();
        if !FirstLine::wait(&mut stream).await {
            return Err(HeadError::Gone);
        }
        // A read that waits for more bytes waits for ever.
        let soon = std::time::Duration::from_millis(100);
        let read = tokio::time::timeout(soon, FirstLine::read(&mut stream)).await;
        writer.abort();
        let (line, head) = read.unwrap_or(Err(HeadError::Gone))?;
        assert_eq!(line.head_len, head.len());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&line.line), text(&head), text(stream.ahead())))
    }

    #[tokio::test]
    async fn a_head_is_read_to_its_end_and_no_further_however_it_arrives() {
        let head = "GET /a/long/path HTTP/1.1\r\nHost: a\r\n\r\n";
        let bytes = format!("{head}body");
        for size in [1, 2, 3, 8, 64] {
            let (line, read, _) = read(bytes.as_bytes(), size).await.unwrap();
            assert_eq!(
                (line.as_str(), read.as_str()),
                ("GET /a/long/path HTTP/1.1", head)
            );
        }
        assert_eq!(read(bytes.as_bytes(), 64).await.unwrap().2, "body");
    }

    #[tokio::test]
    async fn the_end_of_a_head_is_where_the_parser_sees_it() {
        for head in [
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/1.1\r\n\n",
            "GET / HTTP/1.1\n\r\n",
            "GET / HTTP/1.0\r\nA: b\n\n",
        ] {
            let bytes = format!("{head}rest");
            assert_eq!(
                read(bytes.as_bytes(), 64).await.unwrap().1,
                head,
                "{head:?}"
            );
        }
    }

    #[tokio::test]
    async fn one_empty_line_before_a_request_is_skipped() {
        let head = "GET / HTTP/1.1\r\n\r\n";
        for size in [1, 64] {
            let (.., read, _) = read(format!("\r\n{head}").as_bytes(), size).await.unwrap();
            assert_eq!(read, head);
        }
        let (line, ..) = read(format!("\r\n\r\n{head}").as_bytes(), 64)
            .await
            .unwrap();
        assert_eq!(line, "");
    }

    #[tokio::test]
    async fn several_empty_lines_before_a_request_are_named_as_such() {
        for before in ["\r\n\r\n", "\r\n\r\n\r\n", "\n", "\n\n"] {
            let (mut client, server) = tokio::io::duplex(256);
            let text = format!("{before}GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut client, text.as_bytes())
                .await
                .unwrap();
            let mut stream = RequestStream::next_request(Box::new(server)).unwrap();
            assert!(FirstLine::wait(&mut stream).await);
            let (line, head) = FirstLine::read(&mut stream).await.unwrap();
            let mut session = session_with(stream, head);
            assert!(session.read_request().await.unwrap());
            assert_eq!(
                line.check(&session).unwrap_err(),
                NO_REQUEST_LINE,
                "{text:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_line_that_is_no_request_line_is_not_read_on_behind() {
        for line in ["GET /", "NONSENSE", "GET / HTTP/2.0", "\u{16}\u{3}\u{1}"] {
            let (read, ..) = read(format!("{line}\r\n").as_bytes(), 64).await.unwrap();
            assert_eq!(read, line);
        }
    }

    #[tokio::test]
    async fn a_head_without_end_is_too_large() {
        let padding = "a".repeat(2 * HEADER_BYTES);
        for bytes in [padding.clone(), format!("GET / HTTP/1.1\r\nA: {padding}")] {
            assert_eq!(read(bytes.as_bytes(), 4096).await, Err(HeadError::TooLarge));
        }
    }

    #[tokio::test]
    async fn a_client_that_closes_first_sent_no_line() {
        for bytes in [&b""[..], b"\r", b"\r\n"] {
            let (mut client, server) = tokio::io::duplex(8);
            tokio::io::AsyncWriteExt::write_all(&mut client, bytes)
                .await
                .unwrap();
            drop(client);
            let mut stream = RequestStream::next_request(Box::new(server)).unwrap();
            assert!(!FirstLine::wait(&mut stream).await);
        }
    }
}
