//! The settings of a new configuration that a running gateway can take over.

use super::{Config, Limits};

impl Config {
    /// The part of this configuration that a gateway with `running` can put in force, and the keys
    /// that need a restart. Those keys keep their running values.
    ///
    /// The rules for requests can change. Open resources cannot: sockets, files, threads, budgets,
    /// and the nonce store with its guarantees.
    pub fn taken_over(self, running: &Config) -> (Config, Vec<&'static str>) {
        let mut waiting = Vec::new();
        let mut kept = |key: &'static str, differs: bool| {
            if differs {
                waiting.push(key);
            }
        };
        kept("listeners", self.listeners != running.listeners);
        // Listeners with PROXY lines keep the trusted proxies too.
        kept(
            "trusted_proxies",
            self.trusted_proxies != running.trusted_proxies,
        );
        kept(
            "admin",
            (self.admin, &self.admin_hosts, &self.admin_tls)
                != (running.admin, &running.admin_hosts, &running.admin_tls),
        );
        kept("registry", self.registry != running.registry);
        kept("replay", self.replay != running.replay);
        let (new, old) = (&self.limits, &running.limits);
        kept(
            "limits.header_timeout",
            new.header_timeout != old.header_timeout,
        );
        kept("limits.keepalive", new.keepalive != old.keepalive);
        kept("limits.body_budget", new.body_budget != old.body_budget);
        kept("limits.connections", new.connections != old.connections);
        kept(
            "limits.connections_per_source",
            new.connections_per_source != old.connections_per_source,
        );
        kept("audit", self.audit != running.audit);
        kept("log", self.log != running.log);
        kept("shutdown", self.shutdown != running.shutdown);
        kept("threads", self.threads != running.threads);
        let config = Config {
            limits: Limits {
                header_timeout: old.header_timeout,
                keepalive: old.keepalive,
                body_budget: old.body_budget,
                connections: old.connections,
                connections_per_source: old.connections_per_source,
                ..self.limits
            },
            listeners: running.listeners.clone(),
            trusted_proxies: running.trusted_proxies.clone(),
            admin: running.admin,
            admin_hosts: running.admin_hosts.clone(),
            admin_tls: running.admin_tls.clone(),
            registry: running.registry.clone(),
            replay: running.replay.clone(),
            audit: running.audit.clone(),
            log: running.log.clone(),
            shutdown: running.shutdown.clone(),
            threads: running.threads,
            ..self
        };
        (config, waiting)
    }
}
