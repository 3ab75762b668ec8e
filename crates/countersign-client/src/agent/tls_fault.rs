//! Error texts for TLS: the cause and the next step. The agent, `request` and `doctor` share them.

use std::error::Error;
use std::path::Path;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// The endpoint of a TLS connection, for error texts.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'t> {
    /// The name or address of the gateway.
    pub host: &'t str,
    /// The host, with the port if the URL has one.
    pub authority: &'t str,
    /// The PEM file of trusted certificate authorities; `None` for the system's.
    pub ca: Option<&'t Path>,
}

/// The rustls error in the chain of sources of `error`.
pub fn of<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an `io::Error` skips the wrapped error itself, so `get_ref` comes first.
        let io = error.downcast_ref::<std::io::Error>();
        next = match io.and_then(|io| io.get_ref()) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

impl Tried<'_> {
    /// The cause and the next step. Without a rustls error, the text shows `error`.
    pub fn words(&self, error: &(dyn Error + 'static)) -> String {
        match of(error) {
            Some(TlsError::InvalidCertificate(why)) => self.certificate(why),
            Some(TlsError::InvalidMessage(_)) => format!(
                "{0} does not speak TLS: use http://{0}, or check the port",
                self.authority
            ),
            Some(TlsError::AlertReceived(AlertDescription::CertificateRequired)) => {
                "the listener requires a client certificate (`client_ca`), which a machine does not have: \
                 use a listener without `client_ca`"
                    .into()
            }
            Some(other) => format!("{other}"),
            None => format!(
                "the handshake with {} failed: {error}. Does this port speak TLS?",
                self.authority
            ),
        }
    }

    /// The text for an error after the handshake, whether it is of TLS or not.
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
                    "the gateway's certificate is from an authority that is not in {}: use the right CA file, or check the \
                     gateway's address",
                    file.display()
                ),
                None => "the gateway's certificate is from an authority that this system does not trust: set --cacert FILE"
                    .into(),
            },
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "the certificate is not for the name {}: use a name in the certificate, or reissue it for this one",
                self.host
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate has expired: renew it, or set this machine's clock if that is ahead".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet: set this machine's clock if that is behind, or reissue the certificate".into()
            }
            // rustls has no variants for these; only their debug names tell them apart.
            CertificateError::Other(other) => match format!("{other:?}") {
                name if name.contains("CaUsedAsEndEntity") => {
                    "the gateway's certificate is marked as an authority's (CA:TRUE), as `openssl req -x509` \
                     makes it: reissue it with -addext basicConstraints=critical,CA:FALSE and \
                     -addext subjectAltName=.., and trust the new one"
                        .into()
                }
                name if name.contains("UnsupportedCertVersion") => {
                    "the gateway's certificate is of X.509 version 1, as `openssl x509 -req` makes it without \
                     -extfile: reissue it as version 3 with a subjectAltName"
                        .into()
                }
                name => format!("the certificate is not accepted: {name}"),
            },
            other => format!("the certificate is not accepted: {other}"),
        }
    }
}

/// The error text if a URL with `http://` got no byte of a response. A TLS listener may close the
/// connection on plain HTTP without a response.
pub fn hung_up(authority: &str) -> String {
    format!(
        "{authority} closed the connection without a response: use https://{authority} if it speaks TLS, \
         otherwise see its log"
    )
}

/// The error text if a URL with `http://` got a response that is not HTTP.
pub fn not_http(authority: &str) -> String {
    format!(
        "{authority} does not speak plain HTTP: use https://{authority} if it speaks TLS, or check the port"
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
