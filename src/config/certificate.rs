//! The validity of certificates, and the warnings before they expire.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::instant::to_text;

/// A warning begins this long before the end of validity, in seconds: three weeks.
const EARLY: u64 = 21 * 24 * 3600;

/// The first and the last second of validity, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateValidity {
    from: u64,
    /// The last second in which it is valid.
    pub until: u64,
}

impl CertificateValidity {
    /// Of a chain, all of which must be valid: from the latest beginning until the earliest end.
    /// `None` where there is none that can be parsed.
    pub fn of_chain(chain: &[CertificateDer<'_>]) -> Option<CertificateValidity> {
        let all = chain.iter().filter_map(one);
        all.reduce(|a, b| CertificateValidity {
            from: a.from.max(b.from),
            until: a.until.min(b.until),
        })
    }

    /// Of authorities, of which one is enough: until the last of them has ended.
    pub fn of_authorities(authorities: &[CertificateDer<'_>]) -> Option<CertificateValidity> {
        let all = authorities.iter().filter_map(one);
        all.reduce(|a, b| CertificateValidity {
            from: a.from.min(b.from),
            until: a.until.max(b.until),
        })
    }

    /// The warning about it at `now` (Unix seconds): that it is not valid, or soon will not be. It
    /// should have been renewed when a fifth of its time is left, or three weeks.
    pub fn warning(&self, now: u64) -> Option<String> {
        let early = EARLY.min(self.until.saturating_sub(self.from) / 5);
        let end = to_text(self.until);
        if now < self.from {
            Some(format!("is not valid before {}", to_text(self.from)))
        } else if now > self.until {
            Some(format!("expired on {end}; renew it"))
        } else if self.until - now < early {
            Some(format!("expires on {end}; renew it"))
        } else {
            None
        }
    }
}

fn one(der: &CertificateDer<'_>) -> Option<CertificateValidity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let seconds = |timestamp: i64| u64::try_from(timestamp).unwrap_or(0);
    Some(CertificateValidity {
        from: seconds(validity.not_before.timestamp()),
        until: seconds(validity.not_after.timestamp()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    #[test]
    fn a_warning_comes_before_the_beginning_near_the_end_and_after_it() {
        let year = CertificateValidity {
            from: 1000 * DAY,
            until: 1365 * DAY,
        };
        let day = CertificateValidity {
            from: 1000 * DAY,
            until: 1001 * DAY,
        };
        for (validity, now, word) in [
            (year, 999 * DAY, Some("is not valid before 1972-09-27")),
            (year, 1000 * DAY, None),
            (year, 1344 * DAY, None),
            (year, 1344 * DAY + 1, Some("expires on 1973-09-27")),
            (year, 1365 * DAY, Some("expires on")),
            (year, 1365 * DAY + 1, Some("expired on 1973-09-27")),
            (day, 1000 * DAY + DAY / 2, None),
            (day, 1001 * DAY - 3600, Some("expires on")),
        ] {
            let warning = validity.warning(now);
            let is_so = match (&warning, word) {
                (None, None) => true,
                (Some(text), Some(word)) => text.starts_with(word),
                _ => false,
            };
            assert!(is_so, "{now}: {warning:?}, not {word:?}");
        }
    }
}
