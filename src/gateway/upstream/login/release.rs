//! Tokens that the gateway lets go of. Each is revoked and wiped once nothing uses it any more.

use std::sync::Arc;

use super::BackendLogin;
use super::answer::Grant;
use super::kept::KeptLogin;
use super::revocation::ReleasedToken;
use super::token::MachineToken;
use countersign_core::identity::Machine;

impl BackendLogin {
    /// Lets go of a token that no machine gets.
    pub(super) fn release(&self, grant: Grant) {
        self.revoker.revoke(ReleasedToken {
            value: Arc::new(grant.token),
            is_batch: grant.is_batch,
            _counted: None,
        });
    }

    /// Drops a token that the backend refuses, unless the machine has another one by now.
    pub(super) async fn drop_token(&self, token: &Arc<MachineToken>) {
        let is_it = |kept: KeptLogin| match kept {
            KeptLogin::Token(known, _) => Arc::ptr_eq(&known, token),
            KeptLogin::Failed(_) => false,
        };
        if self.tokens.get(token.owner()).await.is_some_and(is_it) {
            self.tokens.invalidate(token.owner()).await;
            // Wiped now, and not at the next sweep.
            self.tokens.run_pending_tasks().await;
        }
    }

    /// Drops the tokens of all machines but those that are still the same, as `is_same` tells. None
    /// of those would be used again; this revokes and wipes them.
    pub(crate) fn keep_only(
        &self,
        is_same: impl Fn(&Arc<Machine>) -> bool + Send + Sync + 'static,
    ) {
        // It fails only without support for closures, which the builder asks for.
        let _ = (self.tokens).invalidate_entries_if(move |owner, _| !is_same(owner.machine()));
    }

    /// Has all tokens in the cache revoked, also those that a request still carries: the gateway shuts
    /// down.
    pub(crate) fn revoke_all(&self) {
        for (_, kept) in &self.tokens {
            if let KeptLogin::Token(token, _) = kept {
                token.revoke_now();
            }
        }
    }
}
