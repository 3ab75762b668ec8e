//! The login of each machine at a backend: with an assertion of the gateway, a machine gets a token
//! of its own, which its requests then carry.
//!
//! Tokens are kept in a bounded cache, until two thirds of their lease and for 45 s without use. Then
//! the backend is asked to revoke them. However many requests of a machine wait, one login goes to
//! the backend. A failed login is kept for a second: a thousand clients that try again do not become
//! a thousand logins.

mod answer;
mod backend_call;
pub(super) mod backend_errors;
pub(super) mod doubt;
mod failure;
mod kept;
mod line_rate;
mod release;
mod request;
mod revocation;
mod settings;
pub(crate) mod token;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderName;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use self::answer::Grant;
use self::doubt::Doubts;
use self::failure::FailureLog;
pub(crate) use self::failure::LoginFailure;
use self::kept::{ByKind, KeptLogin};
use self::line_rate::CheckLines;
use self::revocation::Revoker;
use self::settings::LoginSettings;
use self::token::MachineToken;
use super::assertion::Assertions;
use super::assertion::asserted_machine::{AssertedMachine, SignerOf};
use super::pool::Pool;
use super::pool::context::PoolContext;
use crate::config::{LoginRole, Upstream};
use crate::metrics::{CheckCounts, LoginCounts, LoginResult, Metrics};
use crate::registry::RegistryStore;
use countersign_client::clock::Clock;
use countersign_core::decision::Signed;
use countersign_core::identity::Machine;

/// Most machines with a token, or with a failed login, at one upstream. At the limit the ones that
/// have asked least recently log in again. A token takes some 600 bytes.
const MOST_TOKENS: u64 = 100_000;

/// Most logins at once at one upstream; further ones wait for their turn. A backend on one core
/// does some 400 logins a second, so the last of this many waits less than a tenth of a second.
const MOST_AT_ONCE: usize = 32;

/// Longest time of a login, with the wait for its turn. A client is waiting.
const DEADLINE: Duration = Duration::from_secs(5);

/// A token without use is revoked and wiped after this time. A login costs a few milliseconds; a token
/// in memory is a secret to be stolen. With the sweep and the revocation it stays below a minute.
const IDLE: Duration = Duration::from_secs(45);

/// Between two looks for tokens whose time is over.
const SWEEP: Duration = Duration::from_secs(1);

/// The logins at one upstream. It outlives a configuration whose successor has the same login.
pub(crate) struct BackendLogin {
    /// The name in logs, and in the metrics of checks.
    name: String,
    settings: LoginSettings,
    tokens: Cache<AssertedMachine, KeptLogin>,
    turns: Semaphore,
    counts: LoginCounts,
    checks: CheckCounts,
    failures: FailureLog,
    doubts: Doubts,
    check_lines: CheckLines,
    revoker: Arc<Revoker>,
    sweeper: OnceLock<AbortOnDropHandle<()>>,
}

/// What a login needs besides its settings.
#[derive(Clone)]
pub(crate) struct LoginMeans {
    pub(crate) pool: Arc<Pool>,
    pub(crate) assertions: Arc<Assertions>,
    pub(crate) registry: Arc<RegistryStore>,
    pub(crate) clock: Clock,
}

impl BackendLogin {
    /// The logins at an upstream; `None` if it has none. Those of `before` are carried over if
    /// nothing about them has changed.
    pub(crate) fn of(
        upstream: &Upstream,
        issuer: &str,
        metrics: &Metrics,
        before: &[&Arc<BackendLogin>],
    ) -> Option<Arc<BackendLogin>> {
        let settings = LoginSettings::of(upstream, issuer)?;
        let same = before
            .iter()
            .copied()
            .find(|known| known.settings == settings);
        Some(match same {
            Some(same) => Arc::clone(same),
            None => Arc::new(BackendLogin::new(settings, metrics)),
        })
    }

    fn new(settings: LoginSettings, metrics: &Metrics) -> BackendLogin {
        let name = format!("login:{}", settings.upstream);
        let counts = metrics.login(&settings.upstream);
        let revoker = Revoker::new(&name, &settings.login, counts.revocations());
        BackendLogin {
            tokens: Cache::builder()
                .max_capacity(MOST_TOKENS)
                // Any other policy may turn away the token of a machine that asks seldom.
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(IDLE)
                .expire_after(ByKind)
                .support_invalidation_closures()
                .build(),
            turns: Semaphore::new(MOST_AT_ONCE),
            counts,
            checks: metrics.token_checks(&name),
            failures: FailureLog::default(),
            doubts: Doubts::new(),
            check_lines: CheckLines::default(),
            revoker: Arc::new(revoker),
            sweeper: OnceLock::new(),
            name,
            settings,
        }
    }

    /// Begins to wipe the tokens whose time is over, and to revoke them at these servers. The cache
    /// itself drops tokens only when it is used.
    pub(crate) fn start(self: &Arc<Self>, context: &PoolContext, pool: &Arc<Pool>) {
        self.revoker.start(context, pool);
        self.sweeper.get_or_init(|| {
            let this = Arc::downgrade(self);
            AbortOnDropHandle::new(context.runtime.spawn(async move {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    let Some(this) = this.upgrade() else {
                        return;
                    };
                    this.tokens.run_pending_tasks().await;
                }
            }))
        });
    }

    /// The name in logs, and in the metrics of checks: `login:` and the upstream.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The header that carries the tokens.
    pub(crate) fn header(&self) -> &HeaderName {
        &self.settings.login.header
    }

    /// Why machines cannot log in, if the last login failed at the backend, or why the check cannot
    /// judge their tokens.
    pub(crate) fn out_of_service(&self) -> Option<String> {
        match self.failures.failing() {
            Some(why) => Some(format!("{}: the last login failed: {why}", self.name)),
            None => Some(format!("{}: {}", self.name, self.check_in_doubt()?)),
        }
    }

    /// The path of the login request.
    pub(crate) fn path(&self) -> String {
        self.settings.login.path()
    }

    /// The name of the backend in assertions.
    pub(crate) fn audience(&self) -> &str {
        &self.settings.login.audience
    }

    /// The path of the auth method at the backend.
    pub(crate) fn mount(&self) -> &str {
        &self.settings.login.mount
    }

    /// The role that the machine asks for; `None` if it has none.
    pub(crate) fn role_of<'a>(&'a self, machine: &'a Machine) -> Option<&'a str> {
        match &self.settings.login.role {
            LoginRole::Fixed(role) => Some(role),
            LoginRole::Group => machine.groups.first().map(|group| &**group),
        }
    }

    pub(super) fn check_counts(&self) -> &CheckCounts {
        &self.checks
    }

    pub(super) fn check_lines(&self) -> &CheckLines {
        &self.check_lines
    }

    /// The token of the machine that signed, if it has one.
    pub(crate) async fn known_token(&self, signed: &Signed) -> Option<Arc<MachineToken>> {
        match self.tokens.get(&SignerOf(signed)).await {
            Some(KeptLogin::Token(token, _)) => Some(token),
            Some(KeptLogin::Failed(_)) | None => None,
        }
    }

    /// Logs the machine in, or waits for the login of another of its requests.
    ///
    /// # Errors
    ///
    /// [`LoginFailure`]; it is logged. The machine has no token, and it has not failed to log in a
    /// moment ago.
    pub(crate) async fn log_in(
        self: &Arc<Self>,
        signed: &Signed,
        means: LoginMeans,
    ) -> Result<Arc<MachineToken>, Arc<LoginFailure>> {
        let owner = AssertedMachine::of(signed);
        let LoginMeans {
            pool,
            assertions,
            registry,
            clock,
        } = means;
        let this = Arc::clone(self);
        // A task of its own: a client that goes away must not end the login for the others.
        let logging_in = tokio::spawn(async move {
            let attempt = async {
                let began = clock.now().mono;
                let asked = this.ask(&owner, &assertions, &pool, &clock).await;
                this.finish(&owner, asked, began, clock.now().mono)
            };
            let kept = this.tokens.get_with(owner.clone(), attempt).await;
            this.if_in_force(kept, &registry).await
        });
        match logging_in.await {
            Ok(KeptLogin::Token(token, _)) => Ok(token),
            Ok(KeptLogin::Failed(why)) => Err(why),
            Err(_) => Err(Arc::new(LoginFailure::Unreachable)),
        }
    }

    /// The end of a login, unless its machine was changed during the login. The token is dropped then.
    /// A change after this look finds the token in the cache ([`keep_only`](Self::keep_only)).
    async fn if_in_force(&self, kept: KeptLogin, registry: &RegistryStore) -> KeptLogin {
        if let KeptLogin::Token(token, _) = &kept {
            let machine = token.owner().machine();
            let known = registry.find(machine.id.as_str());
            if !known.is_some_and(|known| Arc::ptr_eq(&known, machine)) {
                self.drop_token(token).await;
                return KeptLogin::Failed(Arc::new(LoginFailure::MachineChanged));
            }
        }
        kept
    }

    /// One login, in its turn and within the deadline.
    async fn ask(
        &self,
        owner: &AssertedMachine,
        assertions: &Assertions,
        pool: &Pool,
        clock: &Clock,
    ) -> Result<(Box<str>, Grant), LoginFailure> {
        let login = &self.settings.login;
        let role = self.role_of(owner.machine()).ok_or(LoginFailure::NoGroup)?;
        let until = clock.now().mono + DEADLINE;
        let turn = tokio::time::timeout(DEADLINE, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| LoginFailure::Busy)?;
        let assertion = || {
            // Now, because it is valid for a minute from now.
            let now = clock.now().unix_seconds();
            let made = assertions.for_login(owner, &login.audience, now);
            made.map_err(|_| LoginFailure::NoAssertion)
        };
        let grant = request::log_in(login, role, assertion, pool, clock, until).await?;
        Ok((role.into(), grant))
    }

    /// Counts and logs a login.
    fn finish(
        &self,
        owner: &AssertedMachine,
        asked: Result<(Box<str>, Grant), LoginFailure>,
        began: Duration,
        now: Duration,
    ) -> KeptLogin {
        let took = now.saturating_sub(began);
        let asked = asked.and_then(|(role, grant)| match grant.has_limited_uses {
            true => {
                self.release(grant);
                Err(LoginFailure::LimitedUses)
            }
            false => Ok((role, grant)),
        });
        match asked {
            Ok((role, grant)) => {
                self.counts.login(LoginResult::Accepted, took);
                self.failures.worked(&self.name);
                // The lease began at the latest when the answer was sent.
                let keep = grant.keep.saturating_sub(took);
                let counted = self.counts.token();
                let revoker = &self.revoker;
                let token = MachineToken::new(owner.clone(), grant, &role, now, counted, revoker);
                KeptLogin::Token(Arc::new(token), keep)
            }
            Err(why) => {
                self.counts.login(why.result(), took);
                let machine = owner.machine().id.as_str();
                self.failures.failed(&self.name, machine, &why, now);
                KeptLogin::Failed(Arc::new(why))
            }
        }
    }
}

impl fmt::Debug for BackendLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackendLogin({})", self.settings.upstream)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
