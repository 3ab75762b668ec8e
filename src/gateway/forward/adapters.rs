//! Requests on a route with an adapter: they are answered from reads of the backend, under the one
//! record of the request. The client's own request is never sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use pingora::connectors::http::Connector;
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::{Error, ErrorType};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tracing::warn;

use super::client::Client;
use super::failure::ForwardFailure;
use super::kv_forwarder::{KvForwarder, ReadProgress};
use super::upstream_request::client_head_of_read;
use crate::audit::BackendPaths;
use crate::config::Adapter;
use crate::config::headers::REQUEST_ID;
use crate::gateway::adapter::client_answer::ClientAnswer;
use crate::gateway::adapter::client_call::ClientCall;
use crate::gateway::adapter::poll_marks::PollMarks;
use crate::gateway::adapter::translation::{PollContext, Translated, translate};
use crate::gateway::receive::body::{Body, BodyBudget};
use crate::gateway::record::authorized::{AuthorizedRequest, RecordedPass};
use crate::gateway::upstream::credentials::injection::Injection;
use countersign_client::clock::Clock;
use countersign_core::refusal::Refusal;

/// Longest time for all reads of a call. The SDKs give up after 15 s.
const DEADLINE: Duration = Duration::from_secs(14);

/// Reads that all requests together make at once. Further ones wait, within the deadline of their
/// call.
const MOST_READS: usize = 256;

/// What the adapters of all routes share. It outlives a reload.
pub(super) struct Adapters {
    marks: PollMarks,
    budget: BodyBudget,
    slots: Semaphore,
}

/// A request on a route with an adapter.
pub(super) struct AdaptedRequest<'a> {
    pub(super) request: &'a AuthorizedRequest,
    pub(super) adapter: &'a Adapter,
    pub(super) injection: Option<&'a Injection>,
    pub(super) lookups: &'a Arc<Connector>,
    pub(super) clock: &'a Clock,
}

/// How a request ended, with or without an adapter.
#[derive(Default)]
pub(super) struct ForwardEnd {
    pub(super) failure: Option<ForwardFailure>,
    /// A refusal that is no failure of forwarding.
    pub(super) refusal: Option<Refusal>,
    pub(super) backend_paths: BackendPaths,
}

impl Adapters {
    pub(super) fn new(budget: BodyBudget) -> Adapters {
        Adapters {
            marks: PollMarks::new(),
            budget,
            slots: Semaphore::new(MOST_READS),
        }
    }

    /// Makes the reads, and answers the client, unless they fail.
    pub(super) async fn run(
        &self,
        client: &mut Client,
        adapted: &AdaptedRequest<'_>,
        body: &Body,
    ) -> ForwardEnd {
        let AdaptedRequest {
            request,
            adapter,
            injection,
            lookups,
            clock,
        } = *adapted;
        let RecordedPass::Signed(signed) = &request.pass else {
            // The configuration has no such route.
            return ForwardEnd::refused(Refusal::Internal);
        };
        let message = signed.signed().message();
        let path = message.target().split('?').next().unwrap_or_default();
        let Some(call) = ClientCall::find(message.method(), path) else {
            return ForwardEnd::refused(Refusal::NoRoute);
        };
        let query = match call.query(body.bytes()) {
            Ok(query) => query,
            Err(why) => return ForwardEnd::refused(Refusal::BadRequest(why)),
        };
        // A store would answer 403 to a request without a token, and the client would give up.
        let Some(injection) = injection else {
            return ForwardEnd::refused(Refusal::UpstreamCredential);
        };
        let head = match client_head_of_read(client.head()) {
            Ok(head) => head,
            Err(error) => return ForwardEnd::failed(ForwardFailure::unsent(error)),
        };
        let kv = KvForwarder {
            request,
            signed,
            injection,
            kv: &adapter.kv,
            client: &head,
            lookups,
            clock,
            budget: &self.budget,
            slots: &self.slots,
            progress: Mutex::new(ReadProgress::default()),
        };
        let machine = *signed.signed().key().as_bytes();
        let marks = self.marks.of(&machine);
        let place = format!("{} /v1/{}", request.upstream().name, adapter.kv);
        let poll = PollContext {
            marks: &marks,
            place: &place,
            now: wall_time(clock),
        };
        let translated = tokio::select! {
            biased; // nothing more is read for a client that has left
            gone = client.gone() => Err(ForwardFailure::sent(gone)),
            translated = tokio::time::timeout(DEADLINE, async {
                let translated = translate(query, &kv, poll).await?;
                match kv.is_refused().await {
                    false => Ok(translated),
                    true => Err(refused_credential(request)),
                }
            }) => translated.unwrap_or_else(|_| Err(too_late())),
        };
        let answered = match translated {
            Ok(translated) => self.answer(client, request, translated, machine).await,
            Err(failure) => Err(failure),
        };
        ForwardEnd {
            failure: answered.err(),
            refusal: None,
            backend_paths: kv.paths(),
        }
    }

    /// Writes the answer. What a poll has seen is noted before, because the next poll may come at
    /// once. An answer that cannot be written takes it back, so that the next poll gives it again.
    async fn answer(
        &self,
        client: &mut Client,
        request: &AuthorizedRequest,
        translated: Translated,
        machine: [u8; 32],
    ) -> Result<(), ForwardFailure> {
        let Translated { answer, seen } = translated;
        if answer.is_cut {
            warn!(
                request_id = %request.provenance.id,
                "a list is cut: there are more secrets or folders than one answer may hold; the \
                 client can ask for one project"
            );
        }
        let pieces = pieces(answer, request).map_err(ForwardFailure::sent)?;
        let undo = seen.map(|seen| self.marks.set(machine, seen));
        let passed = client.pass_on(pieces).await;
        if let (Err(_), Some(before)) = (&passed, undo) {
            self.marks.restore(machine, &before);
        }
        passed.map(drop).map_err(ForwardFailure::sent)
    }
}

impl ForwardEnd {
    /// The end of a request that was forwarded itself.
    pub(super) fn of(forwarded: Result<(), ForwardFailure>) -> ForwardEnd {
        ForwardEnd {
            failure: forwarded.err(),
            ..ForwardEnd::default()
        }
    }

    fn refused(refusal: Refusal) -> ForwardEnd {
        ForwardEnd {
            refusal: Some(refusal),
            ..ForwardEnd::default()
        }
    }

    fn failed(failure: ForwardFailure) -> ForwardEnd {
        ForwardEnd::of(Err(failure))
    }
}

fn pieces(answer: ClientAnswer, request: &AuthorizedRequest) -> pingora::Result<Vec<HttpTask>> {
    let ClientAnswer { status, body, .. } = answer;
    let mut head = ResponseHeader::build(status, Some(4))?;
    head.insert_header(CONTENT_TYPE, "application/json")?;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    head.insert_header(REQUEST_ID, request.provenance.id.as_str())?;
    Ok(vec![
        HttpTask::Header(Box::new(head), false),
        HttpTask::Body(Some(body.into()), true),
    ])
}

fn refused_credential(request: &AuthorizedRequest) -> ForwardFailure {
    warn!(request_id = %request.provenance.id, "the backend refuses the credential");
    let what = "the backend refuses the gateway's credential";
    ForwardFailure::replaced(Refusal::UpstreamCredential, what)
}

fn too_late() -> ForwardFailure {
    let what = "the reads of a call took too long";
    ForwardFailure::sent(Error::explain(ErrorType::ReadTimedout, what).into_up())
}

fn wall_time(clock: &Clock) -> OffsetDateTime {
    let seconds = i64::try_from(clock.now().unix_seconds()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
