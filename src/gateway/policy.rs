//! What an admitted request may not do all the same.

use crate::auth::decision::{Admitted, Denied, Signed};
use crate::auth::refusal::Refusal;
use crate::config::{Route, Upstream};

/// An admitted request that the policy lets through.
#[derive(Debug)]
pub(super) struct Permitted(Admitted);

/// Where Vault-like servers issue, show and revoke tokens.
const CREDENTIAL_PATHS: [&str; 2] = ["/v1/auth", "/v1/sys"];

impl Permitted {
    /// Checks the policy: paths at which a Vault-like backend hands out the credential that the
    /// gateway injects, or mints another from it, are closed unless the operator wrote a route
    /// that lies inside them.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotPermitted`].
    pub(super) fn check(
        admitted: Admitted,
        route: &Route,
        upstream: &Upstream,
    ) -> Result<Permitted, Box<Denied>> {
        let target = admitted.signed().message().target();
        let permitted = upstream.credential.is_none()
            || CREDENTIAL_PATHS
                .iter()
                .all(|closed| !lies_in(target, closed) || lies_in(route.inner_path(), closed));
        match permitted {
            true => Ok(Permitted(admitted)),
            false => Err(admitted.deny(Refusal::NotPermitted)),
        }
    }

    /// What was signed, and by whom.
    pub(super) fn signed(&self) -> &Signed {
        self.0.signed()
    }

    /// Gives the permission up.
    pub(super) fn deny(self, refusal: Refusal) -> Box<Denied> {
        self.0.deny(refusal)
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
