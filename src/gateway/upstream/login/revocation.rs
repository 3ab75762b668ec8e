//! The revocation of tokens. A token that nothing uses any more would stay valid until its lease
//! ends, and copies of it stay in memory: buffers of the HTTP client are freed and not wiped. So the
//! backend is asked to revoke it.
//!
//! It is asked in tasks of their own, after the last request that carries the token. It is a best
//! effort: the number of waiting tokens, of requests at once and of tries is bounded, and a token that
//! could not be revoked is counted and ends with its lease.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::backend_call::{BackendCall, ServersInTurn};
use super::backend_errors::is_unknown_token;
use super::failure::LoginFailure;
use super::line_rate::LineRate;
use crate::config::Login;
use crate::gateway::upstream::pool::Pool;
use crate::gateway::upstream::pool::context::PoolContext;
use crate::gateway::upstream::pool::server::UpstreamServer;
use crate::metrics::{CountedToken, RevocationCounts, RevocationResult};
use countersign_client::clock::Clock;

const PATH: &str = "/v1/auth/token/revoke-self";

/// Most tokens that wait for their revocation at one upstream; further ones are not revoked. A
/// waiting token takes some 500 bytes.
const MOST_WAITING: usize = 20_000;

/// Most revocations at once at one upstream: a quarter of the logins, which clients wait for.
const MOST_AT_ONCE: usize = 8;

/// Longest time of one try.
const DEADLINE: Duration = Duration::from_secs(5);

/// The pauses before the tries: a backend that is restarted or sealed may be back soon. All are over
/// within a minute of the token's last use.
const PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// The revocations at one upstream. It lives until the last of its tokens is revoked.
pub(super) struct Revoker {
    /// The name of the login in logs.
    name: String,
    login: Login,
    waiting: Arc<Semaphore>,
    turns: Semaphore,
    counts: RevocationCounts,
    lines: LineRate,
    /// Whether the log has told of a refusal, which holds for all tokens of the role.
    has_told_of_refusal: AtomicBool,
    has_told_of_batch: AtomicBool,
    context: OnceLock<PoolContext>,
    /// The servers, by the configuration in force.
    pool: ArcSwapOption<Pool>,
}

/// A token that nothing uses any more.
pub(super) struct ReleasedToken {
    pub(super) value: Arc<HeaderValue>,
    pub(super) is_batch: bool,
    /// It counts as held until it is revoked.
    pub(super) _counted: Option<CountedToken>,
}

impl Revoker {
    pub(super) fn new(name: &str, login: &Login, counts: RevocationCounts) -> Revoker {
        Revoker {
            name: name.to_owned(),
            login: login.clone(),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            turns: Semaphore::new(MOST_AT_ONCE),
            counts,
            lines: LineRate::default(),
            has_told_of_refusal: AtomicBool::new(false),
            has_told_of_batch: AtomicBool::new(false),
            context: OnceLock::new(),
            pool: ArcSwapOption::empty(),
        }
    }

    /// Revokes tokens at these servers from now on.
    pub(super) fn start(&self, context: &PoolContext, pool: &Arc<Pool>) {
        self.pool.store(Some(Arc::clone(pool)));
        self.context.get_or_init(|| context.clone());
    }

    /// Has the token revoked. It returns at once.
    pub(super) fn revoke(self: &Arc<Self>, token: ReleasedToken) {
        if !self.login.revoke {
            return;
        }
        let (Some(context), Some(pool)) = (self.context.get(), self.pool.load_full()) else {
            return; // not started: no request has been served
        };
        if token.is_batch {
            self.counts.revocation(RevocationResult::Unsupported);
            self.tell_of_batch();
            return;
        }
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            self.counts.revocation(RevocationResult::Dropped);
            self.tell_of_loss(context, "too many tokens wait for their revocation");
            return;
        };
        let (this, context_of_task) = (Arc::clone(self), context.clone());
        let revoking = async move {
            this.run(&token, &context_of_task, &pool).await;
            drop((token, place));
        };
        (context.revocations).spawn_on(revoking, &context.runtime);
    }

    async fn run(&self, token: &ReleasedToken, context: &PoolContext, pool: &Pool) {
        let mut failure = LoginFailure::Unreachable;
        for pause in PAUSES {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            // Never closed.
            let _turn = self.turns.acquire().await;
            // Boxed: it is large, and most tokens wait.
            match Box::pin(self.ask(token, context, pool)).await {
                Ok(()) => {
                    self.counts.revocation(RevocationResult::Revoked);
                    return;
                }
                Err(why @ LoginFailure::Refused(..)) => {
                    self.counts.revocation(RevocationResult::Refused);
                    self.tell_of_refusal(&why);
                    return;
                }
                Err(why) => failure = why,
            }
            if context.revocations.is_closed() {
                break; // the gateway shuts down
            }
        }
        self.counts.revocation(RevocationResult::Unavailable);
        self.tell_of_loss(context, &failure.cause());
    }

    /// One try at each server, until one revokes the token or refuses to.
    async fn ask(
        &self,
        token: &ReleasedToken,
        context: &PoolContext,
        pool: &Pool,
    ) -> Result<(), LoginFailure> {
        let clock = &context.clock;
        let until = clock.now().mono + DEADLINE;
        let mut servers = ServersInTurn::new(pool, clock, until);
        loop {
            let turn = servers.next()?;
            let call = BackendCall {
                login: &self.login,
                path: PATH,
                token: Some((self.login.header.clone(), HeaderValue::clone(&token.value))),
                body: Bytes::new(),
            };
            let asked = tokio::time::timeout(turn.wait, ask(call, &turn.server, clock)).await;
            if let Some(end) = servers.decided(&turn, asked) {
                return end;
            }
        }
    }

    /// Logs once that the role lets no token revoke itself.
    fn tell_of_refusal(&self, why: &LoginFailure) {
        if !self.has_told_of_refusal.swap(true, Ordering::Relaxed) {
            warn!(
                login = self.name,
                "{}: so tokens that the gateway no longer uses are valid until their lease ends. Let \
                 the role's policies update auth/token/revoke-self, as the default policy does, or \
                 set token_ttl of the role to a minute",
                why.cause()
            );
        }
    }

    fn tell_of_batch(&self) {
        if !self.has_told_of_batch.swap(true, Ordering::Relaxed) {
            info!(
                login = self.name,
                "the backend grants batch tokens, which cannot be revoked: they are valid until their \
                 lease ends. Set token_type of the role to service, or token_ttl to a minute"
            );
        }
    }

    fn tell_of_loss(&self, context: &PoolContext, why: &str) {
        if let Some(unlogged) = self.lines.turn(context.clock.now().mono) {
            warn!(
                login = self.name,
                unlogged, "a token could not be revoked, and is valid until its lease ends: {why}"
            );
        }
    }
}

async fn ask(
    call: BackendCall<'_>,
    server: &UpstreamServer,
    clock: &Clock,
) -> Result<(), LoginFailure> {
    let answer = call.send(server, clock).await?;
    let is_unknown = answer.status == StatusCode::FORBIDDEN
        && (answer.body.as_ref()).is_ok_and(|body| is_unknown_token(body));
    match answer.status.is_success() || is_unknown {
        true => Ok(()),
        false => Err(answer.failure()),
    }
}
