//! The calls about enrolment tokens.

use bytes::Bytes;

use super::changes::ChangeContext;
use super::manager::invalid;
use crate::audit::CalledChange;
use crate::enrolment::{IssuedToken, KeyRenewal, NoRandomness};
use crate::management::answer::{self, CallAnswer};
use crate::management::body;
use countersign_core::refusal::Refusal;

impl ChangeContext<'_> {
    /// Creates a token. The answer alone has it: neither the record nor the database does.
    pub(super) async fn create_token(&self, body: &Bytes) -> Result<CallAnswer, Refusal> {
        let terms = body::token_terms(body).map_err(invalid)?;
        let now = self.manager.clock.now().unix_seconds();
        let issued = IssuedToken::create(&terms, now);
        let IssuedToken { token, stored } = issued.map_err(|NoRandomness| Refusal::Internal)?;
        let recorded = self.record(CalledChange::CreateToken {
            id: &stored.id,
            max_uses: stored.max_uses,
            expires: stored.expires,
        });
        let recorded = recorded.await?;
        let id = stored.id.clone();
        let making = self.make(recorded, |database, author| async move {
            database.create_token(&stored, &author).await
        });
        making.await?;
        Ok(answer::token(&id, token.reveal()))
    }

    /// Adds a key to the machine that signed the call, and moves its end.
    pub(super) async fn renew_own_key(&self, body: &Bytes) -> Result<CallAnswer, Refusal> {
        let id = self.authorized.signed.signed().machine().id.clone();
        let entry = self.manager.read(self.database.entry(&id)).await?;
        let entry = entry.ok_or(Refusal::NoMachine)?;
        let now = self.manager.clock.now().unix_seconds();
        let window = &self.authorized.plan.window;
        let renewal = KeyRenewal::judge(body, &entry, window, now).map_err(invalid)?;
        if let Some(operators) = &self.manager.operators
            && operators.has_key(&renewal.key)
        {
            return Err(invalid(vec!["public_key: it is an operator's.".into()]));
        }
        let recorded = self.record(CalledChange::AddKey(&id, &renewal.key)).await?;
        let expires = renewal.expires;
        let making = self.make(recorded, |database, author| async move {
            let KeyRenewal {
                key,
                others_end,
                expires,
            } = renewal;
            (database.add_key(&id, key, others_end, Some(expires), &author)).await
        });
        Ok(answer::renewed(making.await?, expires))
    }

    pub(super) async fn revoke_token(&self, id: &str, body: &Bytes) -> Result<CallAnswer, Refusal> {
        body::none(body).map_err(invalid)?;
        let recorded = self.record(CalledChange::RevokeToken(id)).await?;
        let its_id = id.to_owned();
        let making = self.make(recorded, |database, author| async move {
            database.revoke_token(&its_id, &author).await
        });
        match making.await? {
            true => Ok(answer::revoked(id)),
            false => Err(Refusal::NoEnrolmentToken),
        }
    }
}
