//! The echo check: no answer hands the credential of its request to the client. Some backends
//! write the headers of a request into their answers: in debug pages, in errors, in echo services.

mod spellings;
mod stream_search;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use pingora::http::ResponseHeader;

use self::spellings::Spellings;
use self::stream_search::StreamSearch;
use super::upstream_request::RequestSecrets;

/// The secrets of one request, which its answer must not contain.
#[derive(Default)]
pub(super) struct EchoedSecrets(Spellings);

/// The part of an answer in which a secret was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EchoPart {
    Head,
    Body,
}

/// Looks through one answer. What may be the beginning of a secret is held back until more is
/// known; everything else passes at once.
pub(super) struct EchoCheck<'s> {
    secrets: &'s EchoedSecrets,
    /// Made with the first piece of the body: many answers have none.
    searches: Vec<StreamSearch<'s>>,
}

impl EchoedSecrets {
    /// The credential or token, and the assertion: who has one can log in as the machine while it
    /// is valid.
    pub(super) fn of(secrets: RequestSecrets<'_>) -> EchoedSecrets {
        let mut spellings = match secrets.injection {
            None => Spellings::default(),
            Some(injection) => Spellings::of(injection.prefix(), injection.secret()),
        };
        if let Some(assertion) = secrets.assertion {
            spellings.add(assertion.as_bytes());
        }
        EchoedSecrets(spellings)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a secret stands in the name or the value of a header.
    pub(super) fn are_in_head(&self, head: &ResponseHeader) -> bool {
        head.headers.iter().any(|(name, value)| {
            self.0.are_in(value.as_bytes()) || self.0.are_in_name(name.as_str())
        })
    }

    /// Whether a secret stands in a whole body.
    pub(super) fn are_in_body(&self, body: &[u8]) -> bool {
        self.0.are_in(body)
    }
}

impl EchoPart {
    /// The word in the log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            EchoPart::Head => "head",
            EchoPart::Body => "body",
        }
    }
}

impl<'s> EchoCheck<'s> {
    pub(super) fn new(secrets: &'s EchoedSecrets) -> EchoCheck<'s> {
        EchoCheck {
            secrets,
            searches: Vec::new(),
        }
    }

    /// Takes the next piece of the body. Returns what may pass before it, from earlier pieces, and
    /// what of it may pass; `None` if a secret ends in it. Then nothing more may pass.
    pub(super) fn pass(&mut self, piece: &Bytes) -> Option<(Bytes, Bytes)> {
        if self.searches.is_empty() {
            let texts = self.secrets.0.iter();
            self.searches = texts.filter_map(StreamSearch::new).collect();
        }
        let before = self.held();
        if (self.searches.iter_mut()).any(|search| search.finds_in(piece)) {
            return None;
        }
        // What is held now ends both together.
        let free = before.len() + piece.len() - self.held().len();
        let released = &before[..free.min(before.len())];
        Some((
            Bytes::copy_from_slice(released),
            piece.slice(..free.saturating_sub(before.len())),
        ))
    }

    /// Gives out what is held, at the end of the body: it was not the beginning of a secret.
    pub(super) fn finish(&mut self) -> Bytes {
        let held = Bytes::copy_from_slice(self.held());
        self.searches.clear();
        held
    }

    /// The end of the body so far that has not passed.
    fn held(&self) -> &'s [u8] {
        let held = self.searches.iter().map(StreamSearch::held);
        held.max_by_key(|held| held.len()).unwrap_or_default()
    }
}

/// Whether a body is written as it is, so that a search can read it.
pub(super) fn is_readable(head: &ResponseHeader) -> bool {
    let codings = head.headers.get_all(CONTENT_ENCODING).iter();
    codings
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secrets(secret: &str) -> EchoedSecrets {
        EchoedSecrets(Spellings::of(b"", secret.as_bytes()))
    }

    /// What passes of these pieces, and whether all of it did.
    fn passed<'a>(secret: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
        let secrets = secrets(secret);
        let mut check = EchoCheck::new(&secrets);
        let mut out = Vec::new();
        for piece in pieces {
            match check.pass(&Bytes::copy_from_slice(piece)) {
                None => return (out, false),
                Some((earlier, this)) => {
                    out.extend_from_slice(&earlier);
                    out.extend_from_slice(&this);
                }
            }
        }
        out.extend_from_slice(&check.finish());
        (out, true)
    }

    #[test]
    fn a_body_without_the_secret_passes_byte_for_byte_in_every_cut() {
        let body = b"abababac ab+ ab\\u002 ababab\\u0061 abab+aba";
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let pieces = [&body[..first], &body[first..second], &body[second..]];
                assert_eq!(passed("abab+abab", pieces), (body.to_vec(), true));
            }
        }
    }

    #[test]
    fn of_a_secret_nothing_passes_in_any_cut_and_any_spelling() {
        for spelling in ["abab+abab", "abab\\u002Babab"] {
            let body = format!("x:{spelling}!").into_bytes();
            for first in 0..=body.len() {
                for second in first..=body.len() {
                    let pieces = [&body[..first], &body[first..second], &body[second..]];
                    let (out, whole) = passed("abab+abab", pieces);
                    assert!(!whole, "{spelling} cut at {first} and {second}");
                    let out = String::from_utf8(out).unwrap();
                    assert!("x:".starts_with(&out), "{out} passed");
                }
            }
        }
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_of_a_body_passes_with_the_end() {
        let whole = (b"see hvs.tok".to_vec(), true);
        assert_eq!(passed("hvs.token", [&b"see hvs.tok"[..]]), whole);
    }

    #[test]
    fn an_event_that_ends_in_a_line_break_is_never_held() {
        let secrets = secrets("hvs.token");
        let mut check = EchoCheck::new(&secrets);
        for event in ["data: h\n\n", "data: hvs.\n\n", "data: hvs.toke\n\n"] {
            let piece = Bytes::from(event);
            assert_eq!(check.pass(&piece), Some((Bytes::new(), piece.clone())));
        }
    }

    #[test]
    fn what_is_held_passes_as_soon_as_it_cannot_be_the_secret() {
        let secrets = secrets("hvs.token");
        let mut check = EchoCheck::new(&secrets);
        let mut pass = |piece: &'static str| check.pass(&Bytes::from(piece)).unwrap();
        assert_eq!(pass("a hvs.hvs"), (Bytes::new(), Bytes::from("a hvs.")));
        assert_eq!(pass(".tok"), (Bytes::new(), Bytes::new()));
        assert_eq!(pass("X"), (Bytes::from("hvs.tok"), Bytes::from("X")));
    }

    #[test]
    fn a_head_is_looked_through_by_name_and_value() {
        let secrets = secrets("Token-12");
        let with = |name: &'static str, value: &str| {
            let mut head = ResponseHeader::build(200, None).unwrap();
            head.append_header("X-One", "1").unwrap();
            head.append_header(name, value).unwrap();
            secrets.are_in_head(&head)
        };
        assert!(with("X-Echo", "Token-12"));
        assert!(with("X-Echo", "Bearer Token-12;x"));
        assert!(with("X-Token-12", "1"));
        assert!(!with("X-Echo", "token-12"));
    }

    #[test]
    fn only_a_body_without_a_coding_can_be_read() {
        let with = |values: &[&str]| {
            let mut head = ResponseHeader::build(200, None).unwrap();
            for value in values {
                head.append_header("Content-Encoding", *value).unwrap();
            }
            is_readable(&head)
        };
        for readable in [&[][..], &["identity"], &["Identity, "], &[""]] {
            assert!(with(readable), "{readable:?}");
        }
        for coded in [&["gzip"][..], &["identity, br"], &["identity", "zstd"]] {
            assert!(!with(coded), "{coded:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

        #[test]
        fn what_passes_is_all_of_a_body_without_a_secret_or_none_of_the_secret(
            secret in "[ab/]{8,10}",
            template in "([ab/]{0,9}|\\\\/|x|S|E){0,12}",
            cuts in prop::collection::vec(0..7_usize, 0..64),
        ) {
            let escaped = secret.replace('/', "\\/");
            let body = template.replace('S', &secret).replace('E', &escaped);
            let mut rest = body.as_bytes();
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            // The first to end, by its beginning.
            let echo = [&secret, &escaped]
                .into_iter()
                .filter_map(|text| body.find(text.as_str()).map(|at| (at + text.len(), at)))
                .min();
            let (out, whole) = passed(&secret, pieces);
            match echo {
                None => prop_assert_eq!((out, whole), (body.into_bytes(), true)),
                Some((_, begins)) => {
                    prop_assert!(!whole);
                    prop_assert!(body.as_bytes()[..begins].starts_with(&out));
                }
            }
        }
    }
}
