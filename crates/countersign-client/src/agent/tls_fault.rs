//! Why there was no agreement on TLS, and what to do about it: one text for the agent, `request` and
//! `doctor`.

use std::error::Error;
use std::path::Path;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// Where TLS was tried, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'t> {
    /// The name or address of the gateway.
    pub host: &'t str,
    /// The same, with its port where the URL has one.
    pub authority: &'t str,
    /// The file of the authorities that are believed; `None`: the system's.
    pub ca: Option<&'t Path>,
}

/// The fault that rustls found, wherever it lies under an error.
pub fn of<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An `io::Error` gives what it wraps here, and only what that wraps as its source.
        let io = error.downcast_ref::<std::io::Error>();
        next = match io.and_then(|io| io.get_ref()) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

impl Tried<'_> {
    /// The fault and the next step, in words. `error` is shown where rustls did not find anything.
    pub fn words(&self, error: &(dyn Error + 'static)) -> String {
        match of(error) {
            Some(TlsError::InvalidCertificate(why)) => self.certificate(why),
            Some(TlsError::InvalidMessage(_)) => format!(
                "what listens there does not speak TLS: use http://{} if that is meant, or another port",
                self.authority
            ),
            Some(TlsError::AlertReceived(AlertDescription::CertificateRequired)) => {
                "the listener asks for a client certificate (`client_ca`), which a machine does not have: \
                 name a listener without it"
                    .into()
            }
            Some(other) => format!("{other}"),
            None => format!("it breaks off ({error}): does this port speak TLS?"),
        }
    }

    /// An error in the middle of an exchange: what TLS has to do with it, or as it stands.
    pub fn explained(&self, error: &(dyn Error + 'static)) -> String {
        match of(error) {
            Some(_) => self.words(error),
            None => error.to_string(),
        }
    }

    fn certificate(&self, why: &CertificateError) -> String {
        match why {
            CertificateError::UnknownIssuer => match self.ca {
                Some(file) => format!(
                    "the certificate is of an authority that is not in {}: name the right file, or look who answers there",
                    file.display()
                ),
                None => "the certificate is of an authority that this system does not know: name it with --cacert FILE"
                    .into(),
            },
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "the certificate is not for the name {}: use a name that is in it, or have it made for this one",
                self.host
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate has expired: renew it, unless this machine's clock is ahead".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet: this machine's clock is behind, or the gateway's was ahead".into()
            }
            // These have no variant of their own, and their names are all that they show.
            CertificateError::Other(other) => match format!("{other:?}") {
                name if name.contains("CaUsedAsEndEntity") => {
                    "the gateway's certificate is marked as an authority's (CA:TRUE), as `openssl req -x509` \
                     makes it: make one with -addext basicConstraints=critical,CA:FALSE and \
                     -addext subjectAltName=.., and trust that"
                        .into()
                }
                name if name.contains("UnsupportedCertVersion") => {
                    "the gateway's certificate is of X.509 version 1, as `openssl x509 -req` makes it without \
                     -extfile: make one of version 3 with a subjectAltName"
                        .into()
                }
                name => format!("the certificate is not taken: {name}"),
            },
            other => format!("the certificate is not taken: {other}"),
        }
    }
}

/// The text for a URL with `http://` that got no byte of an answer: a listener that speaks TLS may hang
/// up on plain HTTP without a word.
pub fn hung_up(authority: &str) -> String {
    format!(
        "it closed the connection without an answer: use https://{authority} if it speaks TLS, and look \
         at its log if it does not"
    )
}

/// The text for a URL with `http://` that got an answer which is not HTTP.
pub fn not_http(authority: &str) -> String {
    format!(
        "what listens there does not answer in plain HTTP: use https://{authority} if it speaks TLS, or \
         another port"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io;
    use std::sync::Arc;

    use rustls::{InvalidMessage, OtherError};

    use super::*;

    const TRIED: Tried<'static> = Tried {
        host: "gw",
        authority: "gw:8443",
        ca: None,
    };

    /// As webpki has it.
    #[derive(Debug, thiserror::Error)]
    #[error("ca used as end entity")]
    struct CaUsedAsEndEntity;

    fn words(error: TlsError) -> String {
        TRIED.words(&io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn a_certificate_of_an_authority_is_told_with_the_way_to_make_another() {
        let other = CertificateError::Other(OtherError(Arc::new(CaUsedAsEndEntity)));
        let text = words(TlsError::InvalidCertificate(other));
        assert!(text.contains("CA:FALSE"), "{text}");
        assert!(!text.contains("OtherError"), "{text}");
    }

    #[test]
    fn plain_http_at_the_other_end_is_told() {
        let text = words(TlsError::InvalidMessage(InvalidMessage::InvalidContentType));
        assert!(text.contains("use http://gw:8443"), "{text}");
    }

    #[test]
    fn what_rustls_found_is_found_under_any_number_of_errors() {
        let mut error = io::Error::other(TlsError::InvalidCertificate(CertificateError::Expired));
        for _ in 0..3 {
            error = io::Error::other(error);
        }
        assert!(TRIED.words(&error).contains("expired"));
        assert!(of(&io::Error::other("text")).is_none());
    }
}
