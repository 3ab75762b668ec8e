//! What an admitted request may not do all the same.

use super::credentials::{Choice, Injection};
use crate::auth::decision::{Admitted, Denied, Signed};
use crate::auth::refusal::Refusal;
use crate::config::Route;

/// An admitted request that the policy lets through, with the credential it carries.
#[derive(Debug)]
pub(super) struct Permitted {
    admitted: Admitted,
    injection: Option<Injection>,
}

/// Where Vault-like servers issue, show and revoke tokens.
const CREDENTIAL_PATHS: [&str; 2] = ["/v1/auth", "/v1/sys"];

impl Permitted {
    /// Checks the policy: paths at which a Vault-like backend hands out the credential that the
    /// request carries, or mints another from it, are closed unless the operator wrote a route
    /// that lies inside them.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotPermitted`]; [`Refusal::UpstreamCredential`] where the credential cannot be
    /// had. There is no going on without it.
    pub(super) fn check(
        admitted: Admitted,
        route: &Route,
        choice: Choice,
    ) -> Result<Permitted, Box<Denied>> {
        let target = admitted.signed().message().target();
        let is_open =
            |closed: &&str| !lies_in(target, closed) || lies_in(route.inner_path(), closed);
        if !matches!(choice, Choice::Nothing) && !CREDENTIAL_PATHS.iter().all(is_open) {
            return Err(admitted.deny(Refusal::NotPermitted));
        }
        let injection = match choice {
            Choice::Nothing => None,
            Choice::Carry(injection) => Some(injection),
            Choice::Missing => return Err(admitted.deny(Refusal::UpstreamCredential)),
        };
        Ok(Permitted {
            admitted,
            injection,
        })
    }

    /// The credential it carries.
    pub(super) fn injection(&self) -> Option<&Injection> {
        self.injection.as_ref()
    }

    /// What was signed, and by whom.
    pub(super) fn signed(&self) -> &Signed {
        self.admitted.signed()
    }

    /// Gives the permission up.
    pub(super) fn deny(self, refusal: Refusal) -> Box<Denied> {
        self.admitted.deny(refusal)
    }
}

/// Whether a path or target lies at or below `prefix`, on whole segments.
fn lies_in(target: &str, prefix: &str) -> bool {
    target
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_a_prefix_on_whole_segments() {
        for inside in ["/v1/sys", "/v1/sys/", "/v1/sys/mounts", "/v1/sys?x"] {
            assert!(lies_in(inside, "/v1/sys"), "{inside}");
        }
        for outside in ["/v1/system", "/v1", "/v1/secret/sys", "/"] {
            assert!(!lies_in(outside, "/v1/sys"), "{outside}");
        }
    }
}
