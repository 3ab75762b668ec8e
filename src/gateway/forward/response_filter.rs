//! The part of a response that may pass to the client: without the credential of its request.

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use tracing::warn;

use super::echo::{EchoCheck, EchoPart, EchoedSecrets, is_readable};
use super::failure::ForwardFailure;
use super::token_lookup::{self, LookupAnswer, NotALookup};
use super::upstream_request::RequestSecrets;
use crate::gateway::record::authorized::{AuthorizedRequest, RecordedPass};
use countersign_core::refusal::Refusal;

/// What the responses to one request must not hand to the client.
pub(super) struct ResponsePolicy<'r> {
    request: &'r AuthorizedRequest,
    /// None: the request carried no credential, its upstream's check is off, or the secret is too
    /// short.
    secrets: EchoedSecrets,
    /// The request asks the backend about the token that it carries.
    is_lookup: bool,
    is_head: bool,
}

/// Filters one response.
pub(super) struct ResponseFilter<'r> {
    policy: &'r ResponsePolicy<'r>,
    /// The body's; `None` where there is nothing to find, or no way to read it.
    echo: Option<EchoCheck<'r>>,
    /// A response that is held back until all of it is there.
    lookup: Option<(Box<ResponseHeader>, LookupAnswer)>,
}

/// Why a response is not passed on.
enum Unfit {
    Echo(EchoPart),
    NotALookup,
}

impl From<NotALookup> for Unfit {
    fn from(_: NotALookup) -> Unfit {
        Unfit::NotALookup
    }
}

impl<'r> ResponsePolicy<'r> {
    pub(super) fn new(
        request: &'r AuthorizedRequest,
        sent: RequestSecrets<'_>,
    ) -> ResponsePolicy<'r> {
        let is_checked = request.upstream().echo_check;
        let (is_lookup, is_head) = match &request.pass {
            RecordedPass::Signed(signed) if sent.injection.is_some() => {
                let message = signed.signed().message();
                let (method, target) = (message.method(), message.target());
                (token_lookup::is_asked(method, target), method == "HEAD")
            }
            _ => (false, false),
        };
        ResponsePolicy {
            request,
            secrets: match is_checked {
                true => EchoedSecrets::of(sent),
                false => EchoedSecrets::default(),
            },
            is_lookup,
            is_head,
        }
    }

    /// Judges the head of a response as the backend sent it.
    ///
    /// # Errors
    ///
    /// It holds the credential. The response must not pass.
    pub(super) fn check_head(&self, head: &ResponseHeader) -> Result<(), ForwardFailure> {
        match self.secrets.are_in_head(head) {
            false => Ok(()),
            true => Err(self.failure(Unfit::Echo(EchoPart::Head))),
        }
    }

    /// Judges the whole body of a response that is not passed on itself, and made another one of.
    ///
    /// # Errors
    ///
    /// It holds the credential. Nothing of it must pass.
    pub(super) fn check_body(&self, body: &[u8]) -> Result<(), ForwardFailure> {
        match self.secrets.are_in_body(body) {
            false => Ok(()),
            true => Err(self.failure(Unfit::Echo(EchoPart::Body))),
        }
    }

    /// Says why a response is not passed on, and counts it. Nothing of it is repeated.
    fn failure(&self, unfit: Unfit) -> ForwardFailure {
        let upstream = &*self.request.upstream().name;
        let request_id = self.request.provenance.id;
        let what = match unfit {
            Unfit::Echo(part) => {
                self.request.echo_counts().found();
                let what = "the backend's answer holds the credential of the request";
                warn!(%request_id, upstream, part = part.as_str(), "{what}");
                what
            }
            Unfit::NotALookup => {
                let what = "the backend's answer to lookup-self has no object `data` to take the \
                            token from, or more than 64 KiB";
                warn!(%request_id, upstream, "{what}");
                what
            }
        };
        ForwardFailure::replaced(Refusal::UpstreamError, what)
    }
}

impl<'r> ResponseFilter<'r> {
    pub(super) fn new(policy: &'r ResponsePolicy<'r>) -> ResponseFilter<'r> {
        let is_checked = !policy.secrets.is_empty();
        ResponseFilter {
            policy,
            echo: is_checked.then(|| EchoCheck::new(&policy.secrets)),
            lookup: None,
        }
    }

    /// Takes the next pieces of the response. Returns those that may pass now, perhaps none.
    ///
    /// # Errors
    ///
    /// The response must not pass, and none of these pieces may.
    pub(super) fn pass(&mut self, pieces: Vec<HttpTask>) -> Result<Vec<HttpTask>, ForwardFailure> {
        if self.echo.is_none() && !self.policy.is_lookup {
            return Ok(pieces);
        }
        let mut passing = Vec::with_capacity(pieces.len() + 1);
        for piece in pieces {
            let passed = match piece {
                HttpTask::Header(head, ends) => self.head(head, ends, &mut passing),
                HttpTask::Body(body, ends) | HttpTask::UpgradedBody(body, ends) => {
                    self.body(&body.unwrap_or_default(), ends, &mut passing)
                }
                // Trailers do not pass.
                HttpTask::Trailer(_) | HttpTask::Done => {
                    self.body(&Bytes::new(), true, &mut passing)
                }
                // What is held does not pass: it may have been going to be the credential.
                HttpTask::Failed(error) => {
                    passing.push(HttpTask::Failed(error));
                    Ok(())
                }
            };
            passed.map_err(|unfit| self.policy.failure(unfit))?;
        }
        Ok(passing)
    }

    fn head(
        &mut self,
        mut head: Box<ResponseHeader>,
        ends: bool,
        passing: &mut Vec<HttpTask>,
    ) -> Result<(), Unfit> {
        if self.policy.is_lookup && head.status.is_success() {
            if self.policy.is_head || !ends {
                token_lookup::forget_body(&mut head);
            }
            if !ends {
                self.lookup = Some((head, LookupAnswer::new()));
                return Ok(());
            }
        }
        if !ends && self.echo.is_some() && !is_readable(&head) {
            self.echo = None;
            self.policy.request.echo_counts().unread();
        }
        passing.push(HttpTask::Header(head, ends));
        Ok(())
    }

    fn body(
        &mut self,
        piece: &Bytes,
        ends: bool,
        passing: &mut Vec<HttpTask>,
    ) -> Result<(), Unfit> {
        if let Some((_, answer)) = &mut self.lookup {
            answer.take(piece)?;
            return match self.lookup.take_if(|_| ends) {
                Some((head, answer)) => self.looked_up(head, &answer, passing),
                None => Ok(()),
            };
        }
        let Some(echo) = &mut self.echo else {
            passing.push(HttpTask::Body(Some(piece.clone()), ends));
            return Ok(());
        };
        let passed = echo.pass(piece).ok_or(Unfit::Echo(EchoPart::Body))?;
        let (earlier, this) = passed;
        let last = if ends { echo.finish() } else { Bytes::new() };
        for part in [earlier, this, last] {
            if !part.is_empty() {
                passing.push(HttpTask::Body(Some(part), false));
            }
        }
        match passing.last_mut() {
            _ if !ends => {}
            Some(HttpTask::Body(_, last)) => *last = true,
            _ => passing.push(HttpTask::Done),
        }
        Ok(())
    }

    /// Passes the whole answer to a look-up, without the token.
    fn looked_up(
        &self,
        mut head: Box<ResponseHeader>,
        answer: &LookupAnswer,
        passing: &mut Vec<HttpTask>,
    ) -> Result<(), Unfit> {
        let body = answer.emptied()?;
        if self.policy.secrets.are_in_body(&body) {
            return Err(Unfit::Echo(EchoPart::Body));
        }
        head.remove_header(&http::header::TRANSFER_ENCODING);
        (head.insert_header(http::header::CONTENT_LENGTH, body.len())).map_err(|_| NotALookup)?;
        passing.push(HttpTask::Header(head, false));
        passing.push(HttpTask::Body(Some(body.into()), true));
        Ok(())
    }
}
