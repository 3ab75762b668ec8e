//! The plan in force, which a reload replaces.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::audit::TokenNames;
use crate::config::Config;
use crate::gateway::plan::Plan;
use crate::gateway::upstream::pool::context::PoolContext;

/// The plan that requests are judged by from now on.
pub(crate) struct PlanInForce {
    plan: ArcSwap<Plan>,
    context: PoolContext,
    token_names: Arc<TokenNames>,
}

impl PlanInForce {
    /// Puts the first configuration in force. Where upstreams have health checks, those begin.
    pub(crate) fn new(
        config: Config,
        context: PoolContext,
        token_names: Arc<TokenNames>,
    ) -> PlanInForce {
        let this = PlanInForce {
            plan: ArcSwap::from_pointee(Plan::new(config, &context, None)),
            context,
            token_names,
        };
        this.show_migration_routes(&this.current());
        this
    }

    /// The plan for a request that begins now. The caller keeps what it got: two calls may return
    /// two plans.
    pub(crate) fn current(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// Puts another configuration in force, for requests that begin from now on. Tokens of logins that it
    /// does not have are revoked.
    pub(crate) fn replace(&self, config: Config) {
        let plan = Arc::new(Plan::new(config, &self.context, Some(&self.current())));
        self.show_migration_routes(&plan);
        let before = self.plan.swap(Arc::clone(&plan));
        for login in before.logins() {
            if !plan.logins().any(|kept| Arc::ptr_eq(kept, login)) {
                login.keep_only(|_| false);
            }
        }
    }

    /// Has all tokens of machines revoked, and waits for that, at most for `limit`: the gateway shuts
    /// down. Returns the number of tokens that are not revoked by then.
    pub(crate) async fn revoke_tokens(&self, limit: Duration) -> usize {
        let revocations = &self.context.revocations;
        for login in self.current().logins() {
            login.revoke_all();
        }
        revocations.close();
        match tokio::time::timeout(limit, revocations.wait()).await {
            Ok(()) => 0,
            Err(_) => revocations.len(),
        }
    }

    /// Shows in the metrics which routes let unsigned requests pass, and prepares the key that
    /// names their tokens.
    fn show_migration_routes(&self, plan: &Plan) {
        let routes = || {
            plan.unsigned_until()
                .map(|(route, mode, until)| (&*route.path, mode, until))
        };
        self.context.metrics.open_until(routes());
        if routes().next().is_some() {
            self.token_names.prepare();
        }
    }
}
