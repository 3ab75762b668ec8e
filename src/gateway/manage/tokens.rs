//! The calls about enrolment tokens.

use bytes::Bytes;

use super::changes::ChangeContext;
use super::manager::invalid;
use crate::audit::CalledChange;
use crate::enrolment::{IssuedToken, KeyRenewal, NoRandomness};
use crate::management::answer::{self, CallAnswer};
use crate::management::body;
use crate::registry::database::TAKEN_KEY;
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

    /// Adds a key to the machine that signed the call, and moves its end. The registry in memory may
    /// be older than the database, so the signer is judged by its entry there: here, before the
    /// record of the change, and in the transaction, which alone decides.
    pub(super) async fn renew_own_key(&self, body: &Bytes) -> Result<CallAnswer, Refusal> {
        let signed = self.authorized.signed.signed();
        let (id, signer) = (signed.machine().id.clone(), *signed.key());
        let entry = self.manager.read(self.database.entry(&id)).await?;
        // To the client of a machine that is gone, it never was there.
        let entry = entry.ok_or(Refusal::BadSignature)?;
        let now = self.manager.clock.now().unix_seconds();
        entry.check_signer(&signer, now)?;
        let window = &self.authorized.plan.window;
        let renewal = KeyRenewal::judge(body, &entry, window, now).map_err(invalid)?;
        if let Some(operators) = &self.manager.operators
            && operators.has_key(&renewal.key)
        {
            return Err(invalid(vec![TAKEN_KEY.into()]));
        }
        let recorded = self.record(CalledChange::AddKey(&id, &renewal.key)).await?;
        let making = self.make(recorded, |database, author| async move {
            database.renew(&id, renewal.key, &signer, &author).await
        });
        let (revision, expires) = making.await?;
        Ok(answer::renewed(revision, expires))
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
