//! Turns a response into check results, without I/O.

use super::probe::Probe;
use super::report::{Check, CheckResult, CheckStatus};
use crate::agent::refused::RefusalCode;
use countersign_core::refusal::Code;

/// The result of the first signed request, on a route that requires a signature.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The gateway accepted the signature, so more checks are possible.
    Verified(Vec<CheckResult>),
    /// The gateway did not accept the signature, or did not check it.
    NotVerified(Vec<CheckResult>),
}

fn ok(check: Check, text: impl Into<String>) -> CheckResult {
    CheckResult::new(check, CheckStatus::Ok, text)
}

fn fail(check: Check, text: impl Into<String>) -> CheckResult {
    CheckResult::new(check, CheckStatus::Fail, text)
}

fn skipped(check: Check, text: impl Into<String>) -> CheckResult {
    CheckResult::new(check, CheckStatus::Skipped, text)
}

/// Judges the response to a signed GET of `path` by the machine `id` with the key `public`.
pub(super) fn plain(probe: &Probe, path: &str, id: &str, public: &str) -> Judgement {
    use Judgement::{NotVerified, Verified};
    if !probe.marked {
        return NotVerified(vec![fail(
            Check::Gateway,
            format!(
                "the response {} has no X-Request-Id of a gateway, so it is not Countersign's: a proxy in \
                 between or the backend answered; set --gateway to the gateway's address",
                probe.status
            ),
        )]);
    }
    let here = || ok(Check::Gateway, "a Countersign gateway, ready");
    let known = || {
        ok(
            Check::Registry,
            format!("{id} is known, and its signature verifies"),
        )
    };
    let Some(code) = probe.code() else {
        let backend = ok(
            Check::Backend,
            format!("answers {} to GET {path}", probe.status),
        );
        return Verified(vec![here(), known(), backend]);
    };
    let word = code.as_str();
    let other = || {
        NotVerified(vec![fail(
            Check::Gateway,
            format!(
                "refused with {} {word}; see docs/reference/refusals.md and the gateway's log",
                probe.status
            ),
        )])
    };
    let Some(code) = code.known() else {
        return other();
    };
    match code {
        Code::BadSignature => NotVerified(vec![
            here(),
            fail(
                Check::Registry,
                format!(
                    "the signature does not verify: the registry has no machine {id}, or it has another key for {id}, \
                     or a proxy in between changed the path. Compare this machine's {public} with \
                     `countersign machine show {id}` at the gateway"
                ),
            ),
        ]),
        Code::MachineDisabled => NotVerified(vec![
            here(),
            fail(
                Check::Registry,
                format!(
                    "{id} is switched off in the registry; to enable it, run `countersign machine enable {id}` at the gateway"
                ),
            ),
        ]),
        Code::MachineExpired => NotVerified(vec![
            here(),
            fail(
                Check::Registry,
                format!(
                    "{id} or its key is outside its period of validity; extend `not_before` and `expires` in the \
                     registry, or sign with the machine's current key: see `countersign machine show {id}`"
                ),
            ),
        ]),
        Code::MissingHeader | Code::MalformedHeader => NotVerified(vec![
            here(),
            fail(
                Check::Path,
                "the signing headers did not arrive as sent: a proxy in between drops, repeats or changes \
                 X-Machine-Id, X-Timestamp, X-Nonce or X-Signature; have it forward them unchanged",
            ),
        ]),
        Code::BadTarget | Code::BadRequest => NotVerified(vec![
            here(),
            fail(
                Check::Path,
                format!(
                    "{path} did not arrive as sent ({word}): a proxy in between rewrites requests; have it \
                     forward them unchanged (docs/load-balancers.md)"
                ),
            ),
        ]),
        Code::Replayed => NotVerified(vec![
            here(),
            fail(
                Check::Replay,
                "a request that was sent once arrived twice: a proxy in between retries requests; turn its retries off",
            ),
        ]),
        Code::NoRoute | Code::MethodNotAllowed | Code::QueryNotAllowed => NotVerified(vec![
            here(),
            skipped(
                Check::Registry,
                format!(
                    "not checked: the gateway has no route for GET {path} ({word}), so it did not check the \
                         signature; choose a routed path with --path"
                ),
            ),
        ]),
        Code::NotPermitted => Verified(vec![
            here(),
            known(),
            ok(
                Check::Backend,
                format!(
                    "the policy of {id} does not allow GET {path}, so the gateway did not ask the backend"
                ),
            ),
        ]),
        Code::ReplayUnavailable | Code::AuditUnavailable | Code::RegistryUnavailable => {
            NotVerified(vec![
                fail(
                    Check::Gateway,
                    format!(
                        "not ready ({word}): wait a few seconds; if it stays, see the gateway's log and /readyz"
                    ),
                ),
                known(),
            ])
        }
        Code::UpstreamCredential => Verified(vec![
            here(),
            known(),
            fail(
                Check::Backend,
                format!(
                    "{word}: the gateway works, but the backend refuses its credential, or refused to log this \
                     machine in; ask the gateway's operator to see its log"
                ),
            ),
        ]),
        Code::UpstreamUnreachable | Code::UpstreamTimeout | Code::UpstreamError => Verified(vec![
            here(),
            known(),
            fail(
                Check::Backend,
                format!(
                    "{word}: the gateway works, but its backend does not; ask the gateway's operator to see its log"
                ),
            ),
        ]),
        Code::Throttled => NotVerified(vec![fail(
            Check::Gateway,
            "throttled: this address had too many refused requests, or the machine is over its quota; wait a minute",
        )]),
        Code::HeaderNotForwarded
        | Code::HeaderTooLarge
        | Code::BodyTooLarge
        | Code::RequestTimeout
        | Code::ClockSkew
        | Code::EnrolmentRefused
        | Code::Invalid
        | Code::NoMachine
        | Code::Exists
        | Code::Overloaded
        | Code::NotReady
        | Code::Internal => other(),
    }
}

/// Whether the gateway let an unsigned request pass.
pub(super) fn passes(unsigned: &Probe) -> bool {
    let behind = |code: &RefusalCode| match code {
        RefusalCode::Known(code) => is_of_backend(*code),
        RefusalCode::Unknown(word) => word.starts_with("upstream_"),
    };
    unsigned.marked && unsigned.code().is_none_or(behind)
}

/// Whether the gateway gives this code after its own checks, because the backend failed.
fn is_of_backend(code: Code) -> bool {
    matches!(
        code,
        Code::UpstreamCredential
            | Code::UpstreamUnreachable
            | Code::UpstreamTimeout
            | Code::UpstreamError
    )
}

/// The findings that remain valid if unsigned requests pass too. A route with `mode: observe`
/// forwards a request with a bad signature, and an open route does not check signatures.
pub(super) fn without_registry(findings: Vec<CheckResult>, path: &str) -> Vec<CheckResult> {
    let rest = findings
        .into_iter()
        .filter(|it| it.check != Check::Registry);
    let text = format!(
        "not checked: the route of {path} lets unsigned requests pass (`mode: observe` or `open`), so its \
         responses do not show whether the signature verifies; choose a path of an enforcing route with \
         --path, or find the machine in `countersign report` at the gateway"
    );
    let mut left: Vec<CheckResult> = rest.collect();
    left.push(skipped(Check::Registry, text));
    for check in [Check::Path, Check::Replay] {
        left.push(skipped(
            check,
            "not checked: the route lets unsigned requests pass",
        ));
    }
    left
}

/// Judges the response to a path that proxies often rewrite. A plain path passed before.
pub(super) fn fragile(probe: &Probe, path: &str) -> CheckResult {
    match probe.known_code() {
        Some(code @ (Code::BadSignature | Code::BadTarget | Code::BadRequest | Code::NoRoute)) => {
            fail(
                Check::Path,
                format!(
                    "{path} did not arrive as sent ({}), though a plain path did: a proxy in between normalises \
                     paths; have it forward them raw (docs/load-balancers.md)",
                    code.as_str()
                ),
            )
        }
        _ if !probe.marked => fail(
            Check::Path,
            format!(
                "{path} did not reach the gateway: a proxy in between answered; have it forward all paths"
            ),
        ),
        _ => ok(
            Check::Path,
            "arrives byte for byte, with percent-encoding and a trailing slash",
        ),
    }
}

/// Judges the response to a replayed request.
pub(super) fn again(probe: &Probe) -> CheckResult {
    match probe.known_code() {
        Some(Code::Replayed) => ok(Check::Replay, "the gateway refuses a replayed request"),
        Some(
            code @ (Code::ClockSkew | Code::Throttled | Code::ReplayUnavailable | Code::NotReady),
        ) => skipped(
            Check::Replay,
            format!(
                "not checked: the replayed request was refused with {}",
                code.as_str()
            ),
        ),
        _ => fail(
            Check::Replay,
            "the same request passed twice: several gateways behind one address have separate replay caches; \
             set `replay.store: redis` (docs/replay.md)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::refused::Refused;

    fn answer(status: u16, code: Option<&str>) -> Probe {
        Probe {
            status,
            marked: true,
            refused: code.map(|code| Refused {
                code: RefusalCode::parse(code),
                server_time: None,
                retry_after: None,
            }),
            date: None,
        }
    }

    fn failed(judgement: Judgement) -> Vec<Check> {
        let (Judgement::Verified(findings) | Judgement::NotVerified(findings)) = judgement;
        let failed = findings
            .into_iter()
            .filter(|it| it.result == CheckStatus::Fail);
        failed.map(|it| it.check).collect()
    }

    #[test]
    fn each_code_fails_the_check_of_its_cause() {
        for (code, check) in [
            ("bad_signature", Check::Registry),
            ("machine_disabled", Check::Registry),
            ("machine_expired", Check::Registry),
            ("missing_header", Check::Path),
            ("bad_target", Check::Path),
            ("replayed", Check::Replay),
            ("not_ready", Check::Gateway),
            ("replay_unavailable", Check::Gateway),
            ("overloaded", Check::Gateway),
            ("throttled", Check::Gateway),
            ("upstream_unreachable", Check::Backend),
            ("of_a_newer_gateway", Check::Gateway),
        ] {
            let judgement = plain(&answer(401, Some(code)), "/a", "m", "k");
            assert_eq!(failed(judgement), [check], "{code}");
        }
    }

    #[test]
    fn no_code_of_the_gateways_leaves_everything_well_but_a_policy() {
        for code in Code::ALL {
            let judgement = plain(&answer(code.status(), Some(code.as_str())), "/a", "m", "k");
            let verified = matches!(judgement, Judgement::Verified(_));
            if failed(judgement).is_empty() {
                let fine = code == Code::NotPermitted;
                assert_eq!(verified, fine, "{}", code.as_str());
            }
        }
    }

    #[test]
    fn a_key_to_compare_is_printed_where_the_signature_does_not_verify() {
        let Judgement::NotVerified(findings) = plain(
            &answer(401, Some("bad_signature")),
            "/a",
            "web-1",
            "public key AAA=",
        ) else {
            unreachable!("it did not verify")
        };
        assert!(
            findings
                .iter()
                .any(|it| it.text.contains("public key AAA="))
        );
    }

    #[test]
    fn whatever_the_backend_says_the_signature_was_good() {
        for status in [200, 404, 403, 500] {
            let judgement = plain(&answer(status, None), "/a", "m", "k");
            assert!(matches!(judgement, Judgement::Verified(_)), "{status}");
            assert!(failed(judgement).is_empty());
        }
    }

    #[test]
    fn an_unsigned_request_passes_where_the_gateway_does_not_refuse_it() {
        for code in Code::ALL {
            let unsigned = answer(code.status(), Some(code.as_str()));
            let behind = code.as_str().starts_with("upstream_");
            assert_eq!(passes(&unsigned), behind, "{}", code.as_str());
        }
        assert!(passes(&answer(403, None)), "the backend answered");
    }

    #[test]
    fn where_unsigned_requests_pass_nothing_is_said_of_the_signature() {
        let Judgement::Verified(findings) = plain(&answer(200, None), "/a", "m", "k") else {
            unreachable!("it was answered")
        };
        let left = without_registry(findings, "/a");
        let good = |it: &CheckResult| (it.result == CheckStatus::Ok).then_some(it.check);
        let good: Vec<Check> = left.iter().filter_map(good).collect();
        assert_eq!(good, [Check::Gateway, Check::Backend]);
        assert_eq!(left.len(), 5);
    }

    #[test]
    fn an_answer_without_the_mark_is_somebody_elses() {
        let mut probe = answer(200, None);
        probe.marked = false;
        assert_eq!(failed(plain(&probe, "/a", "m", "k")), [Check::Gateway]);
    }

    #[test]
    fn only_a_refusal_as_replayed_shows_that_a_request_passes_once() {
        assert_eq!(
            again(&answer(401, Some("replayed"))).result,
            CheckStatus::Ok
        );
        assert_eq!(again(&answer(200, None)).result, CheckStatus::Fail);
        assert_eq!(
            again(&answer(503, Some("not_ready"))).result,
            CheckStatus::Skipped
        );
    }
}
