//! Answers a call to the registry, and writes its outcome.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;

use super::changes::ChangeContext;
use super::manager::{Manager, invalid};
use crate::config::headers::REQUEST_ID;
use crate::gateway::forward::client::{Afterwards, Client};
use crate::gateway::receive::body::Body;
use crate::gateway::record::authorized::AuthorizedCall;
use crate::gateway::record::outcome::CallOutcome;
use crate::gateway::record::recorder::Recorder;
use crate::management::answer::{self, CallAnswer};
use crate::management::body;
use crate::management::call::RegistryCall;
use crate::management::query::{self, ChangesQuery, MachinesQuery};
use crate::registry::database::{Database, Revision, WriteError};
use countersign_core::refusal::{Refusal, RegistryFault};

/// Changes of a page of the log.
const CHANGES_OF_A_PAGE: u32 = 1000;

impl Manager {
    /// Makes the call, and answers the client. Returns how it ended, and what the client's
    /// connection is good for then.
    pub(crate) async fn answer(
        &self,
        client: &mut Client,
        recorder: &Recorder,
        call: &AuthorizedCall,
        body: Body,
    ) -> (CallOutcome, Afterwards) {
        let refusal = match self.run(recorder, call, &body).await {
            Ok(answer) => {
                if let Ok(pieces) = pieces(answer, call) {
                    // A client that has left may read what it changed.
                    let _ = client.pass_on(pieces).await;
                }
                None
            }
            Err(refusal) => {
                client.refuse(&refusal, call.provenance.id).await;
                Some(refusal.code())
            }
        };
        let outcome = CallOutcome {
            status: client.status(),
            bytes: client.bytes_sent(),
            refusal,
        };
        (outcome, client.afterwards())
    }

    async fn run(
        &self,
        recorder: &Recorder,
        authorized: &AuthorizedCall,
        body: &Body,
    ) -> Result<CallAnswer, Refusal> {
        let away = Refusal::RegistryUnavailable(RegistryFault::Away);
        let database = self.registry.database().ok_or(away)?;
        let target = authorized.signed.signed().message().target();
        let query = target.split_once('?').map(|(_, query)| query);
        let takes_query = matches!(
            authorized.call,
            RegistryCall::ListMachines | RegistryCall::ListChanges
        );
        if !takes_query {
            query::none(query).map_err(invalid)?;
        }
        let context = ChangeContext {
            manager: self,
            recorder,
            authorized,
            database,
        };
        match &authorized.call {
            RegistryCall::ListMachines => {
                body::none(body.bytes()).map_err(invalid)?;
                self.list_machines(database, query).await
            }
            RegistryCall::ShowMachine(id) => {
                body::none(body.bytes()).map_err(invalid)?;
                self.show_machine(database, id).await
            }
            RegistryCall::ListTokens => {
                body::none(body.bytes()).map_err(invalid)?;
                let tokens = self.read(database.tokens()).await?;
                Ok(answer::tokens(&tokens))
            }
            RegistryCall::ListChanges => {
                body::none(body.bytes()).map_err(invalid)?;
                let asked = ChangesQuery::parse(query).map_err(invalid)?;
                let after = Revision(asked.after);
                let reading = async {
                    // The semaphore is never closed; the deadline of the read bounds the wait.
                    let _one_of_few = self.log_reads.acquire().await;
                    let (changes, revision) = database.changes(after, CHANGES_OF_A_PAGE).await?;
                    Ok::<_, WriteError>(answer::changes(&changes, revision))
                };
                self.read(reading).await
            }
            RegistryCall::AddMachines => context.add_machines(body.bytes()).await,
            RegistryCall::ChangeMachine(id) => context.change_machine(id, body.bytes()).await,
            RegistryCall::RemoveMachine(id) => context.remove_machine(id, body.bytes()).await,
            RegistryCall::AddKey(id) => context.add_key(id, body.bytes()).await,
            RegistryCall::RevokeToken(id) => context.revoke_token(id, body.bytes()).await,
            RegistryCall::CreateToken => context.create_token(body.bytes()).await,
            RegistryCall::RenewOwnKey => context.renew_own_key(body.bytes()).await,
        }
    }

    async fn list_machines(
        &self,
        database: &Database,
        query: Option<&str>,
    ) -> Result<CallAnswer, Refusal> {
        let asked = MachinesQuery::parse(query).map_err(invalid)?;
        let reading = database.page(asked.after.as_ref(), asked.limit, asked.text.as_deref());
        let page = self.read(reading).await?;
        let groups = self.read(database.groups()).await?;
        Ok(answer::machines(&page, &groups))
    }
}

fn pieces(answer: CallAnswer, call: &AuthorizedCall) -> pingora::Result<Vec<HttpTask>> {
    let mut head = ResponseHeader::build(200, Some(4))?;
    head.insert_header(CONTENT_TYPE, "application/json")?;
    head.insert_header(CONTENT_LENGTH, answer.len())?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    head.insert_header(REQUEST_ID, call.provenance.id.as_str())?;
    Ok(vec![
        HttpTask::Header(Box::new(head), false),
        // Wiped once it is sent.
        HttpTask::Body(Some(Bytes::from_owner(answer)), true),
    ])
}
