//! The checks of a server: whether it can keep nonces, and from which timestamp on. They are pure:
//! the answers of the server are arguments.

use super::rules::Rules;

/// The reason why a server cannot be used. Its text goes to the operator's log, and never holds the
/// password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnusableStore {
    #[error("the connection failed: {0}")]
    Failed(String),
    #[error("the server did not answer in time")]
    Slow,
    #[error(
        "the server's role is `{0}`, and a replica may lack nonces of its primary. Write the \
         primary's address in replay.redis.url"
    )]
    NotPrimary(String),
    #[error(
        "the server runs in mode `{0}`, which moves keys or fails over. Use a standalone server \
         (docs/replay.md)"
    )]
    Distributed(String),
    #[error(
        "the server's maxmemory-policy is {0}, which evicts nonces when memory is short. Set \
         maxmemory-policy noeviction"
    )]
    Evicts(String),
    #[error(
        "the server refuses the command {command}: {error}. Allow replay.redis.username that \
         command (docs/replay.md)"
    )]
    Forbidden {
        command: &'static str,
        error: String,
    },
    #[error(
        "other gateways use the store with {theirs}, and this gateway has {ours}. Give all \
         gateways the same replay.window, future and clock_margin, stop all of them, and delete \
         the key {key}"
    )]
    OtherRules {
        theirs: String,
        ours: String,
        key: String,
    },
    #[error("the server lost its contents during the check")]
    Forgot,
}

/// One run of one server process in one role. Both names are random, and change with a restart or a
/// new role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerRun {
    run: String,
    replication: String,
    /// Whether acknowledged writes survived its crash, by its settings at the last check.
    durable: bool,
}

/// The state of a server, by its own answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoreServer {
    pub(super) life: ServerRun,
    /// Seconds since it started.
    uptime: u64,
    /// Whether acknowledged writes survive its crash.
    durable: bool,
    /// Whether it was a replica, and may lack the last writes of its primary.
    promoted: bool,
}

/// The relevant settings by `CONFIG GET`; `None` where a server does not know a setting.
#[derive(Clone, Debug, Default)]
pub(super) struct StoreSettings {
    pub(super) maxmemory_policy: Option<String>,
    pub(super) appendonly: Option<String>,
    pub(super) appendfsync: Option<String>,
    pub(super) no_appendfsync_on_rewrite: Option<String>,
}

impl StoreServer {
    /// Reads the answers to `INFO` and `CONFIG GET`. It fails closed: only a server that says that
    /// it is a primary and never evicts can be used.
    ///
    /// # Errors
    ///
    /// The reason why the server cannot be used.
    pub(super) fn read(info: &str, settings: &StoreSettings) -> Result<StoreServer, UnusableStore> {
        let field = |name: &str| {
            info.lines().find_map(|line| {
                let (key, value) = line.trim_end().split_once(':')?;
                (key == name).then_some(value)
            })
        };
        let text = |name| field(name).unwrap_or_default().to_owned();
        let role = text("role");
        if role != "master" {
            return Err(UnusableStore::NotPrimary(role));
        }
        // Redis says redis_mode, Valkey server_mode.
        for name in ["redis_mode", "server_mode"] {
            if let Some(mode) = field(name).filter(|mode| *mode != "standalone") {
                return Err(UnusableStore::Distributed(mode.to_owned()));
            }
        }
        let policy = settings.maxmemory_policy.as_deref().unwrap_or("not known");
        if policy != "noeviction" {
            return Err(UnusableStore::Evicts(policy.to_owned()));
        }
        let is = |setting: &Option<String>, value| setting.as_deref() == Some(value);
        let number = |name| field(name).and_then(|value| value.parse().ok());
        let durable = is(&settings.appendonly, "yes")
            && is(&settings.appendfsync, "always")
            && !is(&settings.no_appendfsync_on_rewrite, "yes");
        Ok(StoreServer {
            life: ServerRun {
                run: text("run_id"),
                replication: text("master_replid"),
                durable,
            },
            uptime: number("uptime_in_seconds").unwrap_or(0),
            durable,
            promoted: text("master_replid2").bytes().any(|byte| byte != b'0'),
        })
    }

    /// The floor: at and below it the server may have forgotten accepted nonces, although its epoch
    /// is still there. `known` is its run at this gateway's previous connection, `now` its clock.
    pub(super) fn floor(&self, known: Option<&ServerRun>, now: u64, rules: Rules) -> u64 {
        let same = known.is_some_and(|known| {
            (&known.run, &known.replication) == (&self.life.run, &self.life.replication)
        }) && !self.life.run.is_empty();
        match known {
            _ if same => 0,
            _ if self.promoted => rules.ceiling(now),
            // The server is durable now, but lost writes when it was not.
            Some(life) if !life.durable => rules.ceiling(now),
            _ if self.durable => 0,
            Some(_) => rules.ceiling(now),
            // It forgot nonces at its start only. The uptime gives that moment to a second.
            None => rules.ceiling(now.saturating_sub(self.uptime).saturating_add(1)),
        }
    }

    /// The cost of lost nonces for the operator, if the server can lose acknowledged writes.
    pub(super) fn remark(&self) -> Option<&'static str> {
        if self.promoted {
            Some(
                "the server was a replica: it may lack the last writes of its primary. Replays \
                 would pass at a gateway that still uses the old primary",
            )
        } else if !self.durable {
            Some(
                "the server may lose acknowledged nonces in a crash, so requests are refused for \
                 the length of replay.future after each of its restarts. To avoid that, set \
                 appendonly yes, appendfsync always and no-appendfsync-on-rewrite no",
            )
        } else {
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use countersign_core::replay::Window;

    const NOW: u64 = 1_700_000_000;
    const RULES: Rules = Rules {
        window: Window {
            past: 300,
            future: 60,
        },
        margin: 5,
    };

    fn info(run: &str, replid2: &str) -> String {
        format!(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:{run}\r\n\
             uptime_in_seconds:1000\r\n\r\n# Replication\r\nrole:master\r\n\
             master_replid:r{run}\r\nmaster_replid2:{replid2}\r\n"
        )
    }

    fn settings(appendfsync: &str) -> StoreSettings {
        StoreSettings {
            maxmemory_policy: Some("noeviction".into()),
            appendonly: Some("yes".into()),
            appendfsync: Some(appendfsync.into()),
            no_appendfsync_on_rewrite: Some("no".into()),
        }
    }

    fn server(run: &str, appendfsync: &str) -> StoreServer {
        StoreServer::read(&info(run, "0000"), &settings(appendfsync)).unwrap()
    }

    fn refused(change: impl Fn(&mut String, &mut StoreSettings)) -> UnusableStore {
        let (mut info, mut settings) = (info("a", "0000"), settings("always"));
        change(&mut info, &mut settings);
        StoreServer::read(&info, &settings).unwrap_err()
    }

    #[test]
    fn a_replica_is_refused() {
        let unusable = refused(|info, _| *info = info.replace("role:master", "role:slave"));
        assert_eq!(unusable, UnusableStore::NotPrimary("slave".into()));
    }

    #[test]
    fn a_server_that_does_not_tell_its_role_is_refused() {
        let unusable = refused(|info, _| info.clear());
        assert_eq!(unusable, UnusableStore::NotPrimary(String::new()));
    }

    #[test]
    fn a_cluster_and_a_sentinel_are_refused() {
        for mode in ["cluster", "sentinel"] {
            let unusable = refused(|info, _| *info = info.replace("standalone", mode));
            assert_eq!(unusable, UnusableStore::Distributed(mode.into()));
            let valkey = format!("redis_mode:standalone\r\nserver_mode:{mode}");
            let unusable =
                refused(|info, _| *info = info.replace("redis_mode:standalone", &valkey));
            assert_eq!(unusable, UnusableStore::Distributed(mode.into()));
        }
    }

    #[test]
    fn only_noeviction_is_taken_as_a_policy() {
        for policy in ["allkeys-lru", "volatile-ttl", "NOEVICTION", ""] {
            let unusable = refused(|_, settings| settings.maxmemory_policy = Some(policy.into()));
            assert_eq!(unusable, UnusableStore::Evicts(policy.into()));
        }
        refused(|_, settings| settings.maxmemory_policy = None);
    }

    #[test]
    fn a_durable_server_that_restarted_raises_no_floor() {
        let (before, after) = (server("a", "always"), server("b", "always"));
        assert_eq!(after.floor(Some(&before.life), NOW, RULES), 0);
        assert_eq!(after.remark(), None);
    }

    #[test]
    fn the_same_run_raises_no_floor_however_it_writes() {
        let server = server("a", "everysec");
        assert_eq!(server.floor(Some(&server.life), NOW, RULES), 0);
    }

    #[test]
    fn a_lax_server_that_restarted_raises_the_floor_to_the_end_of_the_window() {
        for appendfsync in ["everysec", "no", ""] {
            let (before, after) = (server("a", appendfsync), server("b", appendfsync));
            let floor = after.floor(Some(&before.life), NOW, RULES);
            assert_eq!(floor, NOW + 65, "{appendfsync}");
            assert!(after.remark().is_some());
        }
    }

    #[test]
    fn a_server_without_a_run_id_is_never_the_same_run() {
        let anonymous = server("", "everysec");
        assert_eq!(anonymous.floor(Some(&anonymous.life), NOW, RULES), NOW + 65);
    }

    #[test]
    fn appendfsync_alone_makes_nothing_durable() {
        let known = server("a", "always").life;
        let lax: [fn(&mut StoreSettings); 3] = [
            |settings| settings.appendonly = Some("no".into()),
            |settings| settings.appendonly = None,
            |settings| settings.no_appendfsync_on_rewrite = Some("yes".into()),
        ];
        for change in lax {
            let mut settings = settings("always");
            change(&mut settings);
            let server = StoreServer::read(&info("b", "0000"), &settings).unwrap();
            assert_eq!(server.floor(Some(&known), NOW, RULES), NOW + 65);
        }
    }

    #[test]
    fn a_server_that_is_durable_only_since_its_restart_raises_the_floor() {
        let before = server("a", "everysec").life;
        let floor = server("b", "always").floor(Some(&before), NOW, RULES);
        assert_eq!(floor, NOW + 65);
    }

    #[test]
    fn a_gateway_that_starts_counts_from_the_start_of_a_lax_server() {
        let floor = server("a", "everysec").floor(None, NOW, RULES);
        assert_eq!(floor, NOW - 1000 + 1 + 65);
    }

    #[test]
    fn a_promoted_replica_raises_the_floor_even_if_it_is_durable() {
        let promoted = StoreServer::read(&info("b", "00f0"), &settings("always")).unwrap();
        let known = server("a", "always").life;
        assert_eq!(promoted.floor(Some(&known), NOW, RULES), NOW + 65);
        assert_eq!(promoted.floor(None, NOW, RULES), NOW + 65);
        assert_eq!(promoted.floor(Some(&promoted.life), NOW, RULES), 0);
        assert!(promoted.remark().is_some());
    }
}
