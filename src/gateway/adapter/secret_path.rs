//! The path of a secret or a folder below a KV mount. It is kept decoded, by segments, and written
//! with every segment encoded, so that no id can leave the mount.

use std::fmt::{self, Write as _};

use countersign_core::target::Target;

/// Longest path, in bytes as it is written. A backend's target with it stays within
/// [`Target::MAX_LEN`]. A longer one names no secret.
const MAX_LEN: usize = 2048;

/// Where a secret or a folder lies below its mount; without segments: the mount itself.
///
/// No segment is empty, `.` or `..`, or holds a slash, a backslash, a question mark or a control
/// character: the same as in request targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SecretPath(Vec<Box<str>>);

impl SecretPath {
    /// The folder of the whole mount.
    pub(crate) const ROOT: SecretPath = SecretPath(Vec::new());

    /// Parses an id or a folder as clients write it: in the path of a request, or in a JSON body.
    /// Both have the grammar of request targets, so a name with a space is `a%20b`. `None`: no
    /// secret and no folder can have this name.
    pub(crate) fn parse(text: &str) -> Option<SecretPath> {
        let target = format!("/{text}");
        let target = Target::parse(target.as_bytes()).ok()?;
        if target.query().is_some() {
            return None;
        }
        let segments = target.path().get(1..)?.split('/').map(decode);
        let segments: Option<Vec<Box<str>>> = segments.collect();
        SecretPath(segments?).bounded()
    }

    /// The path of an entry of this folder, by its name as the backend lists it. `None`: a name
    /// that no client could ask for.
    pub(crate) fn child(&self, name: &str) -> Option<SecretPath> {
        let mut segments = self.0.clone();
        segments.push(is_segment(name).then(|| name.into())?);
        SecretPath(segments).bounded()
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The first folder of the path; `None` for a secret directly below the mount.
    pub(crate) fn project(&self) -> Option<SecretPath> {
        match &self.0[..] {
            [first, _, ..] => Some(SecretPath(vec![first.clone()])),
            _ => None,
        }
    }

    /// Its name for people: decoded, and without the folder `within` that it lies in.
    pub(crate) fn name(&self, within: &SecretPath) -> String {
        let own = self.0.strip_prefix(&within.0[..]).unwrap_or(&self.0);
        own.join("/")
    }

    fn bounded(self) -> Option<SecretPath> {
        (self.to_string().len() <= MAX_LEN).then_some(self)
    }
}

/// The path with every segment encoded: only unreserved characters (RFC 3986, section 2.3) stand as
/// they are. It is the id of a secret, and the end of the backend's path.
impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char('/')?;
            }
            for byte in segment.bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        f.write_char(char::from(byte))?;
                    }
                    _ => write!(f, "%{byte:02X}")?,
                }
            }
        }
        Ok(())
    }
}

/// Decodes a segment of a target. An escape that is half of a character makes it no name.
fn decode(segment: &str) -> Option<Box<str>> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail.get(2..)?;
    }
    let text = String::from_utf8(bytes).ok()?;
    is_segment(&text).then(|| text.into())
}

fn is_segment(name: &str) -> bool {
    let is_forbidden = |c: char| matches!(c, '/' | '\\' | '?') || c.is_control();
    !matches!(name, "" | "." | "..") && !name.chars().any(is_forbidden)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(id: &str) -> Option<String> {
        SecretPath::parse(id).map(|path| path.to_string())
    }

    #[test]
    fn a_plain_id_is_written_as_it_came() {
        for id in [
            "sk_db",
            "app/db",
            "a/b/c/d",
            "a.b-c_d~e",
            "...",
            "a..b",
            "sys",
            "data/auth",
        ] {
            assert_eq!(written(id).as_deref(), Some(id));
        }
    }

    #[test]
    fn every_other_byte_is_encoded_whichever_way_the_client_wrote_it() {
        for (id, expected) in [
            ("a@b", "a%40b"),
            ("a%40b", "a%40b"),
            ("a%20b", "a%20b"),
            ("a(b)", "a%28b%29"),
            ("a%25b", "a%25b"),
            ("a:b,c", "a%3Ab%2Cc"),
            ("%E2%82%AC", "%E2%82%AC"),
            ("a%3Bb", "a%3Bb"),
            ("a%23b", "a%23b"),
        ] {
            assert_eq!(written(id).as_deref(), Some(expected), "{id}");
        }
    }

    #[test]
    fn an_id_that_is_encoded_twice_is_decoded_once() {
        assert_eq!(written("%252E%252E").as_deref(), Some("%252E%252E"));
        assert_eq!(written("a%252Fb").as_deref(), Some("a%252Fb"));
    }

    #[test]
    fn no_id_can_leave_its_place() {
        for id in [
            "", "/", "..", ".", "../sys", "a/../b", "a/..", "a/.", "a//b", "/a", "a/", "%2E%2E",
            "%2e%2e/a", "..%2Fsys", "a%2Fb", "a%5Cb", "a\\b", "a%3Fb", "a?b", "a?", "a#b", "a;b",
            "a b", "a%00b", "a%0Ab", "a\nb", "%", "%4", "%zz", "a%2fb", "é", "%C2%80", "%FF",
            "%E2%82",
        ] {
            assert_eq!(written(id), None, "{id}");
        }
    }

    #[test]
    fn an_id_that_is_too_long_names_nothing() {
        assert!(written(&"a".repeat(MAX_LEN)).is_some());
        assert_eq!(written(&"a".repeat(MAX_LEN + 1)), None);
        assert_eq!(written(&"@".repeat(MAX_LEN / 2)), None);
    }

    #[test]
    fn a_name_that_the_backend_lists_is_one_segment_or_nothing() {
        let folder = SecretPath::parse("app").unwrap();
        let child = |name| folder.child(name).map(|path| path.to_string());
        assert_eq!(child("a b@c").as_deref(), Some("app/a%20b%40c"));
        assert_eq!(child("50%").as_deref(), Some("app/50%25"));
        for name in [
            "", ".", "..", "a/b", "../sys", "a\\b", "a?b", "a\u{0}b", "a\u{85}b",
        ] {
            assert_eq!(child(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_project_of_a_secret_is_its_first_folder() {
        let project = |id| {
            SecretPath::parse(id)
                .unwrap()
                .project()
                .map(|it| it.to_string())
        };
        assert_eq!(project("app/db"), Some("app".into()));
        assert_eq!(project("app/x/db"), Some("app".into()));
        assert_eq!(project("db"), None);
        assert_eq!(SecretPath::ROOT.project(), None);
    }

    #[test]
    fn a_name_is_decoded_and_without_the_folder_that_was_asked_for() {
        let path = SecretPath::parse("app/x/a%20b").unwrap();
        let name = |within: &str| path.name(&SecretPath::parse(within).unwrap());
        assert_eq!(path.name(&SecretPath::ROOT), "app/x/a b");
        assert_eq!(name("app"), "x/a b");
        assert_eq!(name("app/x"), "a b");
        assert_eq!(name("other"), "app/x/a b");
    }

    proptest! {
        /// Whatever a client or a backend writes: what is asked stays below the mount, in one
        /// spelling, with as many segments as the path has.
        #[test]
        fn what_is_written_is_a_target_of_as_many_segments(
            id in r"([a-z]|\.|/|%[0-9A-F]{2}|%[0-9a-f]{2}|[!-~]|[^\x00]){0,12}",
            name in r"\PC{0,8}|[./%\\?#; a-z\x00-\x1f]{0,6}",
        ) {
            let paths = SecretPath::parse(&id).into_iter();
            let children = paths.clone().chain([SecretPath::ROOT]).filter_map(|it| it.child(&name));
            for path in paths.chain(children) {
                let target = format!("/v1/kv/data/{path}");
                let parsed = Target::parse(target.as_bytes()).unwrap();
                prop_assert_eq!(parsed.query(), None);
                prop_assert_eq!(target.split('/').count(), 4 + path.0.len());
                let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~%/".contains(&b);
                prop_assert!(target.bytes().all(unreserved));
                prop_assert_eq!(SecretPath::parse(&path.to_string()), Some(path));
            }
        }
    }
}
