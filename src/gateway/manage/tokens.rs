//! The calls about enrolment tokens.

use bytes::Bytes;

use super::changes::ChangeContext;
use super::manager::invalid;
use crate::audit::CalledChange;
use crate::management::answer::{self, AnswerBody};
use crate::management::body;
use countersign_core::refusal::Refusal;

impl ChangeContext<'_> {
    pub(super) async fn revoke_token(&self, id: &str, body: &Bytes) -> Result<AnswerBody, Refusal> {
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
