//! Unchecked text of a client in a record: capped in length, and a path always without its query.

use std::fmt;

use http::HeaderName;
use serde::{Serialize, Serializer};

/// The method as sent, at most 32 bytes of it: the longest registered one has 17.
pub type SentMethod<'a> = Capped<'a, 32>;

/// The machine id as sent, at most 128 bytes of it, the length of the longest real one.
pub type ClaimedMachine<'a> = Capped<'a, 128>;

/// The nonce as sent, at most 128 bytes of it, the length of the longest valid one.
pub type ClaimedNonce<'a> = Capped<'a, 128>;

/// At most `MAX` bytes of a client's text. In the record, bytes that are not UTF-8 become U+FFFD,
/// and one U+2026 (an ellipsis) marks a cut, so that the beginning of a long value never passes for
/// a short one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Capped<'a, const MAX: usize> {
    bytes: &'a [u8],
    cut: bool,
}

impl<'a, const MAX: usize> Capped<'a, MAX> {
    /// Takes the first `MAX` bytes.
    pub fn of(sent: &'a [u8]) -> Capped<'a, MAX> {
        Capped {
            bytes: sent.get(..MAX).unwrap_or(sent),
            cut: sent.len() > MAX,
        }
    }

    /// The mark of a cut.
    const fn ellipsis(self) -> &'static str {
        if self.cut { "\u{2026}" } else { "" }
    }
}

impl<const MAX: usize> fmt::Display for Capped<'_, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.bytes))?;
        f.write_str(self.ellipsis())
    }
}

impl<const MAX: usize> fmt::Debug for Capped<'_, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl<const MAX: usize> Serialize for Capped<'_, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Names of headers that a client sent and that were not forwarded: at most 64 bytes of each, and
/// never a value. The caller bounds their number.
#[derive(Clone, Copy, Debug, Default)]
pub struct DroppedHeaders<'a> {
    /// The names.
    pub names: &'a [HeaderName],
    /// There were more, for which one U+2026 (an ellipsis) stands.
    pub and_more: bool,
}

impl DroppedHeaders<'_> {
    /// Whether there is nothing to write.
    pub(super) const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl Serialize for DroppedHeaders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = self.names.iter().map(|name| name.as_str().as_bytes());
        let more = self.and_more.then_some("\u{2026}".as_bytes());
        serializer.collect_seq(names.chain(more).map(Capped::<64>::of))
    }
}

/// The path of a request target, at most 4 KiB of it (the longest target that is accepted), and
/// never its query or fragment, which may hold a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PathOnly<'a>(Capped<'a, 4096>);

impl<'a> PathOnly<'a> {
    /// Cuts a raw request target at its first `?` or `#`. Of a target that does not begin with
    /// `/` nothing is kept: its absolute form may carry a user name and password (RFC 3986,
    /// section 3.2.1), and the gateway refuses it anyway.
    pub fn of(target: &'a [u8]) -> PathOnly<'a> {
        let path = if target.starts_with(b"/") {
            let end = target.iter().position(|b| matches!(b, b'?' | b'#'));
            &target[..end.unwrap_or(target.len())]
        } else {
            b""
        };
        PathOnly(Capped::of(path))
    }
}

impl fmt::Display for PathOnly<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(target: &[u8]) -> String {
        PathOnly::of(target).0.to_string()
    }

    #[test]
    fn a_path_is_kept_as_sent() {
        assert_eq!(path(b"/v1/secret/a%20b"), "/v1/secret/a%20b");
    }

    #[test]
    fn the_query_is_cut_off() {
        assert_eq!(path(b"/v1/secret?token=s.123"), "/v1/secret");
    }

    #[test]
    fn an_empty_query_is_cut_off() {
        assert_eq!(path(b"/v1/secret?"), "/v1/secret");
    }

    #[test]
    fn everything_from_the_first_question_mark_is_cut_off() {
        assert_eq!(path(b"/a?b/c?d"), "/a");
    }

    #[test]
    fn a_fragment_is_cut_off_and_a_query_within_it() {
        assert_eq!(path(b"/a#token?x"), "/a");
    }

    #[test]
    fn the_absolute_form_is_not_kept_for_it_may_hold_a_password() {
        assert_eq!(path(b"http://user:secret@host/path?x"), "");
    }

    #[test]
    fn a_query_without_a_path_is_not_kept() {
        assert_eq!(path(b"?token=x"), "");
    }

    #[test]
    fn a_path_of_4096_bytes_is_kept_whole() {
        let target = [b'/'; 4096];
        assert_eq!(path(&target).len(), 4096);
    }

    #[test]
    fn a_longer_path_is_cut_and_says_so() {
        let text = path(&[b'/'; 4097]);
        assert_eq!(text.chars().count(), 4097);
        assert!(text.ends_with("/\u{2026}"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(path(b"/\xff\xfe"), "/\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_claimed_id_with_a_real_one_as_its_beginning_is_told_apart() {
        let real = [b'a'; 128];
        let longer = [b'a'; 129];
        let (real, longer) = (ClaimedMachine::of(&real), ClaimedMachine::of(&longer));
        assert_ne!(real.to_string(), longer.to_string());
    }

    #[test]
    fn a_method_is_cut_at_32_bytes() {
        let text = SentMethod::of(&[b'G'; 1000]).to_string();
        assert_eq!(text, "G".repeat(32) + "\u{2026}");
    }

    #[test]
    fn debug_output_shows_no_more_than_the_record() {
        let shown = format!("{:?}", PathOnly::of(b"/a?secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
