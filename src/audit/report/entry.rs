//! One line, reduced to the facts that the report counts.

use std::net::IpAddr;

use crate::audit::reader::{Record, RecordText};
use countersign_core::refusal::Code;

/// The content of a line.
#[derive(Debug)]
pub(super) enum ReportEntry<'a> {
    /// A request was decided.
    Decision(Decision<'a>),
    /// The response to a forwarded request, with its status unless the client was gone.
    Response {
        request_id: RecordText<'a>,
        status: Option<u16>,
    },
    /// So many refusals were left out of the log, up to this time (Unix seconds).
    LeftOut { at: Option<u64>, count: u64 },
    /// A record that the report does not use.
    Other,
}

#[derive(Debug)]
pub(super) struct Decision<'a> {
    /// Unix seconds.
    pub(super) at: u64,
    pub(super) request_id: RecordText<'a>,
    pub(super) kind: DecisionKind<'a>,
    pub(super) route: Option<RecordText<'a>>,
    pub(super) path: RecordText<'a>,
    pub(super) address: Option<IpAddr>,
}

/// The kind of a decision, by decision and authentication.
#[derive(Debug)]
pub(super) enum DecisionKind<'a> {
    /// Accepted: this machine signed it.
    Signed(RecordText<'a>),
    /// Forwarded, with a bearer credential.
    Bearer(TokenId),
    /// Forwarded on an open route.
    Open,
    /// Forwarded on an observed route.
    Observed {
        code: Code,
        claimed: Option<RecordText<'a>>,
        token: Option<TokenId>,
    },
    /// Refused; with the machine, where its signature verified.
    Refused {
        code: Code,
        machine: Option<RecordText<'a>>,
    },
}

/// The name of a bearer token in records.
pub(super) type TokenId = [u8; 16];

/// Reads a line. `None` for a line that no gateway of this version writes: it is counted as unread,
/// and never as a request.
pub(super) fn entry(line: &[u8]) -> Option<ReportEntry<'_>> {
    let record = Record::parse(line)?;
    match &*record.decision {
        "accepted" | "observed" | "refused" => decision(record).map(ReportEntry::Decision),
        "response" => Some(ReportEntry::Response {
            request_id: record.request_id?,
            status: record.status,
        }),
        "summary" => Some(ReportEntry::LeftOut {
            at: record.unix_seconds(),
            count: (record.left_out?.values()).fold(0, |sum: u64, n| sum.saturating_add(*n)),
        }),
        "registry" | "enrolled" | "log" | "checkpoint" => Some(ReportEntry::Other),
        _ => None,
    }
}

fn decision(record: Record<'_>) -> Option<Decision<'_>> {
    let at = record.unix_seconds()?;
    let token = match &record.token_hash {
        Some(text) => Some(token(text)?),
        None => None,
    };
    let code = match &record.code {
        Some(word) => Some(
            Code::ALL
                .into_iter()
                .find(|code| code.as_str() == &**word)?,
        ),
        None => None,
    };
    let machine = record.machine.map(|machine| machine.id);
    let kind = match (&*record.decision, record.auth.as_deref()?) {
        ("accepted", "signature") => DecisionKind::Signed(machine?),
        ("accepted", "bearer") => DecisionKind::Bearer(token?),
        ("accepted", "none") => DecisionKind::Open,
        ("observed", _) => DecisionKind::Observed {
            code: code?,
            claimed: record.claimed_machine,
            token,
        },
        ("refused", _) => DecisionKind::Refused {
            code: code?,
            machine,
        },
        _ => return None,
    };
    Some(Decision {
        at,
        request_id: record.request_id?,
        kind,
        route: record.route,
        path: record.path?,
        address: match record.client_ip {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        },
    })
}

fn token(text: &str) -> Option<TokenId> {
    let mut token = [0; 16];
    if text.len() != 32 {
        return None;
    }
    for (byte, pair) in token.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(token)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use super::*;

    const BEARER: &str = r#"{"ts":"2027-01-15T08:00:01.000Z","request_id":"r1","decision":"accepted","auth":"bearer","token_hash":"000102030405060708090a0b0c0d0e0f","client_ip":"192.0.2.7","method":"GET","path":"/v1/a","route":"/v1"}"#;

    #[test]
    fn a_bearer_record_is_read() {
        let Some(ReportEntry::Decision(read)) = entry(BEARER.as_bytes()) else {
            panic!("not read");
        };
        assert_eq!(read.at, 1_800_000_001);
        assert_eq!(&*read.path, "/v1/a");
        assert_eq!(read.route.as_deref(), Some("/v1"));
        assert_eq!(read.address, "192.0.2.7".parse().ok());
        assert!(matches!(read.kind, DecisionKind::Bearer(token) if token[15] == 15));
    }

    #[test]
    fn what_no_gateway_writes_is_not_read() {
        for (from, to) in [
            ("000102030405060708090a0b0c0d0e0f", "0001"),
            (
                "000102030405060708090a0b0c0d0e0f",
                "g0102030405060708090a0b0c0d0e0f0",
            ),
            (r#""token_hash":"000102030405060708090a0b0c0d0e0f","#, ""),
            ("bearer", "signature"),
            ("bearer", "basic"),
            ("accepted", "observed"),
            ("accepted", "refused"),
            ("accepted", "approved"),
            ("2027-01-15T08:00:01.000Z", "yesterday"),
            ("2027-01-15", "1927-01-15"),
            ("192.0.2.7", "the moon"),
            (r#""path":"/v1/a","#, ""),
            (r#""path":"/v1/a""#, r#""path":7"#),
            (r#""request_id":"r1","#, ""),
            ("}", ""),
        ] {
            let line = BEARER.replace(from, to);
            assert_ne!(line, BEARER, "{from}");
            assert!(entry(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn a_code_that_this_version_does_not_know_is_not_taken_for_another() {
        let line = |code: &str| {
            format!(
                r#"{{"ts":"2027-01-15T08:00:01.000Z","request_id":"r1","decision":"refused","auth":"none","code":"{code}","method":"GET","path":"/"}}"#
            )
        };
        assert!(entry(line("no_route").as_bytes()).is_some());
        assert!(entry(line("no_coffee").as_bytes()).is_none());
    }

    #[test]
    fn bytes_that_are_no_json_are_not_read() {
        for line in [
            &b""[..],
            b"\n",
            b"{}",
            b"[]",
            b"null",
            b"\xff\xfe",
            b"{\"decision\":",
        ] {
            assert!(entry(line).is_none());
        }
    }
}
