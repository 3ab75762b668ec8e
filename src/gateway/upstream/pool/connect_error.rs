//! Why no connection to a server could be made, in words for the log.

use pingora::{Error, ErrorType};

/// Describes a failed connection for the log, for TLS with its cause. Of the server's bytes only
/// the names in its certificate get in, without control characters.
pub(crate) fn describe(error: &Error) -> String {
    let etype = error.etype().as_str();
    let is_tls = matches!(
        error.etype(),
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert
    );
    match &error.context {
        Some(context) if is_tls => {
            let text = context.as_str();
            // Pingora's prefix and suffix around the text of rustls.
            let text = text.rsplit_once("cause: ").map_or(text, |(_, cause)| cause);
            let text = text.rsplit_once(", SNI: ").map_or(text, |(text, _)| text);
            let shown = text.chars().filter(|c| !c.is_control());
            let shown: String = shown.take(LONGEST_REASON).collect();
            let hint = HINTS.iter().find(|(name, _)| text.contains(name));
            format!("{etype}: {shown}{}", hint.map_or("", |(_, hint)| *hint))
        }
        _ => etype.to_owned(),
    }
}

/// Hints for two common mistakes that rustls names without saying what to do.
const HINTS: [(&str, &str); 2] = [
    (
        "CaUsedAsEndEntity",
        " (its certificate is marked as an authority's, CA:TRUE, as `openssl req -x509` makes it; make \
         one with -addext basicConstraints=critical,CA:FALSE)",
    ),
    (
        "InvalidContentType",
        " (it does not speak TLS: write http:// in `servers` if that is meant)",
    ),
];

/// In characters. A certificate may hold any number of names.
const LONGEST_REASON: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_tls_failure_is_in_the_words_of_rustls() {
        let context = "TLS connect() failed:  TLSHandshakeFailure context: tls connect error \
                       cause: invalid peer certificate: UnknownIssuer, SNI: vault.internal";
        let error = Error::explain(ErrorType::TLSHandshakeFailure, context);
        assert_eq!(
            describe(&error),
            "TLSHandshakeFailure: invalid peer certificate: UnknownIssuer"
        );
    }

    #[test]
    fn the_names_of_common_mix_ups_come_with_what_to_do() {
        for (name, hint) in [
            (
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                "CA:FALSE",
            ),
            (
                "received corrupt message of type InvalidContentType",
                "write http://",
            ),
        ] {
            let text = describe(&Error::explain(ErrorType::TLSHandshakeFailure, name));
            assert!(text.contains(hint), "{text}");
        }
    }

    #[test]
    fn a_reason_has_no_controls_and_a_bound_and_no_other_context_is_told() {
        let context = "not valid for \n\u{1b}[31m".repeat(99);
        let text = describe(&Error::explain(ErrorType::TLSHandshakeFailure, context));
        assert!(
            text.starts_with("TLSHandshakeFailure: not valid for [31mnot"),
            "{text}"
        );
        assert!(text.chars().count() < LONGEST_REASON + 50);
        let other = Error::explain(ErrorType::ReadError, "what the peer said");
        assert_eq!(describe(&other), "ReadError");
    }
}
