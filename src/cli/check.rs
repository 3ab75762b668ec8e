//! `countersign check`: reports every mistake of the configuration, the registry and all other
//! files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use super::configuration::ConfigArgs;
use super::registry_summary::{RegistrySummary, check_database};
use crate::config::{self, Config, Environment, Loaded, LoginRole, Mistakes};
use crate::registry::IdCase;
use crate::server::{Findings, examine};
use countersign_client::clock::{Clock, check_after_release};

const EXAMPLE: &str = "\
Example:
  countersign check --config conf/countersign.yaml

Run it as the user that runs serve: it judges file permissions for the current user.
Exit codes: 0 if serve would start with these files, 78 if not.";

/// Check the configuration, the registry and all files they name; report every mistake at once
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Reads all files and writes a summary to `out`. `registry_check` reads a registry file and gives
/// its machines, or one line for each mistake. `examine` checks everything else that a start reads.
///
/// # Errors
///
/// [`CommandError::Configuration`] with one line for each mistake of all files; the registry is
/// checked as long as the configuration names it. [`CommandError::Operation`] if `out` fails.
pub(super) fn run(
    args: &CheckArgs,
    environment: &Environment,
    registry_check: impl Fn(&Path, IdCase) -> Result<RegistrySummary, Vec<String>>,
    examine: impl Fn(&Config) -> Findings,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let file = args.config.find(environment)?;
    let loaded = config::load(&file, environment);
    let found = (loaded.as_ref()).map_or_else(|_| Findings::default(), |it| examine(&it.config));
    let database = (loaded.as_ref().ok())
        .and_then(|it| Some((it.config.registry.database()?, IdCase::of(&it.config))));
    let machines = match database {
        Some((database, case)) => Some(check_database(database, case)),
        None => registry_of(&loaded).map(|(file, case)| registry_check(&file, case)),
    };
    match (loaded, machines) {
        (Ok(loaded), Some(Ok(machines))) if found.is_good() => {
            summary(&loaded, &found, &machines, out).map_err(|error| {
                CommandError::Operation(format!("cannot write the summary: {error}"))
            })
        }
        (loaded, machines) => {
            let registry = machines.and_then(Result::err).unwrap_or_default();
            let lines = every_mistake(loaded.err().as_ref(), &found, registry);
            Err(CommandError::Configuration(lines.join("\n")))
        }
    }
}

/// Finds other reasons that would keep `serve` from starting: in the other files, and in the clock.
pub(super) fn examine_start(config: &Config) -> Findings {
    let now = Clock::system().now();
    let mut found = examine(config, now.unix_seconds());
    let clock = check_after_release(now).err();
    found.refused.extend(clock.map(|error| error.to_string()));
    found
}

/// The error with which `serve` does not start: every mistake that `check` names.
pub(super) fn failure(
    loaded: &Result<Loaded, Mistakes>,
    found: &Findings,
    registry_check: impl Fn(&Path, IdCase) -> Result<RegistrySummary, Vec<String>>,
) -> CommandError {
    let machines = registry_of(loaded).map(|(file, case)| registry_check(&file, case));
    let registry = machines.and_then(Result::err).unwrap_or_default();
    let is_refused = loaded.is_ok() && found.mistakes.is_empty() && registry.is_empty();
    let lines = every_mistake(loaded.as_ref().err(), found, registry).join("\n");
    match is_refused {
        // A directory that is not mounted yet may be mounted when the supervisor tries again.
        true => CommandError::Operation(lines),
        false => CommandError::Configuration(lines),
    }
}

fn registry_of(loaded: &Result<Loaded, Mistakes>) -> Option<(PathBuf, IdCase)> {
    match loaded {
        Ok(loaded) => {
            let path = loaded.config.registry.path()?.to_owned();
            Some((path, IdCase::of(&loaded.config)))
        }
        Err(mistakes) => Some((config::registry_file(mistakes.file())?, IdCase::Exact)),
    }
}

fn every_mistake(
    configuration: Option<&Mistakes>,
    found: &Findings,
    registry: Vec<String>,
) -> Vec<String> {
    (configuration.map(Mistakes::to_string).into_iter())
        .chain(registry)
        .chain(found.mistakes.iter().cloned())
        .chain(found.refused.iter().cloned())
        .collect()
}

fn summary(
    loaded: &Loaded,
    found: &Findings,
    machines: &RegistrySummary,
    out: &mut dyn Write,
) -> io::Result<()> {
    let config = &loaded.config;
    writeln!(out, "{}: no mistakes", config.file.display())?;
    for listener in &config.listeners {
        writeln!(out, "  listener  {}", listener.address)?;
    }
    writeln!(out, "  admin     {}", config.admin)?;
    for route in config.routes.iter() {
        let Some(upstream) = route.upstream().map(|index| &config.upstreams[index]) else {
            writeln!(out, "  route     {} manages the registry", route.path)?;
            continue;
        };
        let servers: Vec<&str> = (upstream.servers.iter())
            .map(|server| server.authority.as_str())
            .collect();
        let (path, name, servers) = (&route.path, &upstream.name, servers.join(", "));
        let adapter = route.adapter.as_ref().map(|adapter| {
            let (kind, kv) = (adapter.kind.as_str(), &adapter.kv);
            format!(", answers the clients of {kind} from the KV mount {kv}")
        });
        let adapter = adapter.unwrap_or_default();
        writeln!(out, "  route     {path} -> {name} ({servers}){adapter}")?;
    }
    logins(config, out)?;
    writeln!(
        out,
        "  registry  {} ({} machines)",
        config.registry.source, machines.count
    )?;
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for warning in &found.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let configured = |name: &&String| config.credentials.iter().any(|it| it.name == **name);
    for name in machines.credentials.iter().filter(|it| !configured(it)) {
        writeln!(
            out,
            "warning: {}: machines name the credential {name}, which is not among `credentials`: \
             their requests get 503 upstream_credential",
            config.registry.source
        )?;
    }
    for id in machines.ended.iter().take(MOST_ENDED) {
        writeln!(
            out,
            "warning: {}: {id}: not_after of all its keys is past, so its requests get 403 \
             machine_expired; give it a key with `countersign machine rotate`",
            config.registry.source
        )?;
    }
    if let Some(more @ 1..) = machines.ended.len().checked_sub(MOST_ENDED) {
        writeln!(out, "warning: and {more} more such machines")?;
    }
    Ok(())
}

/// The assertions, and what a backend needs for each login.
fn logins(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let Some(assertion) = &config.assertion else {
        return Ok(());
    };
    let (issuer, keys) = (&assertion.issuer, assertion.keys.len());
    writeln!(
        out,
        "  assertion {issuer} ({keys} {}; the first signs)",
        if keys == 1 { "key" } else { "keys" }
    )?;
    let logins = config.upstreams.iter();
    for (upstream, login) in logins.filter_map(|it| Some((&it.name, it.login.as_ref()?))) {
        let role = match &login.role {
            LoginRole::Fixed(role) => format!("the role {role}"),
            LoginRole::Group => "a role for each group of machines".to_owned(),
        };
        writeln!(out, "  login     {upstream}: POST {}", login.path())?;
        writeln!(
            out,
            "            the backend needs: bound_issuer {issuer}; the public keys, from \
             http://{}/.well-known/jwks.json or `openssl pkey -pubout`; {role} with role_type jwt, \
             user_claim sub, bound_audiences {}",
            config.admin, login.audience
        )?;
    }
    Ok(())
}

/// Most machines without a good key that a summary names.
const MOST_ENDED: usize = 10;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::fs;

    const GOOD: &str = "
listeners: [{ address: 127.0.0.1:8080 }]
admin: { address: 0.0.0.0:9790 }
registry: { file: machines.yaml }
upstreams: { secrets: { servers: ['http://127.0.0.1:8200'] } }
routes: [{ path: /v1, upstream: secrets }]
";

    fn machines(count: usize) -> RegistrySummary {
        RegistrySummary {
            count,
            credentials: vec!["team-a".into()],
            ended: (0..count).map(|n| format!("old-{n}")).collect(),
        }
    }

    /// A configuration file that is gone when the test is over.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str, text: &str) -> Temporary {
            let name = format!("countersign-check-{}-{name}.yaml", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, text).unwrap();
            Temporary(path)
        }

        fn check(
            &self,
            registry: impl Fn(&Path, IdCase) -> Result<RegistrySummary, Vec<String>>,
        ) -> Result<String, CommandError> {
            let args = CheckArgs {
                config: ConfigArgs {
                    config: Some(self.0.clone()),
                },
            };
            let mut out = Vec::new();
            run(
                &args,
                &Environment::of_process(1_800_000_000),
                registry,
                |_| Findings::default(),
                &mut out,
            )?;
            Ok(String::from_utf8(out).unwrap())
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn two_good_files_give_a_summary_and_the_warnings() {
        let summary = Temporary::new("good", GOOD)
            .check(|_, _| Ok(machines(3)))
            .unwrap();
        for part in [
            "no mistakes",
            "127.0.0.1:8080",
            "/v1 -> secrets (127.0.0.1:8200)",
            "3 machines",
            "warning: ",
        ] {
            assert!(summary.contains(part), "{part} in {summary}");
        }
    }

    #[test]
    fn what_a_backend_needs_for_a_login_is_told() {
        let key = Temporary::new(
            "key",
            "-----BEGIN PRIVATE KEY-----\n\
             MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
             -----END PRIVATE KEY-----\n",
        );
        let login =
            "8200'], login: { method: jwt, mount: jwt, role: machine, audience: bao, header: X-T }";
        let assertion = format!(
            "assertion: {{ issuer: gw, keys: ['{}'] }}\n",
            key.0.display()
        );
        let text = GOOD.replace("8200']", login) + &assertion;
        let file = Temporary::new("login", &text);
        let check = |_: &Path, case| {
            assert_eq!(case, IdCase::Folded);
            Ok(machines(0))
        };
        let summary = file.check(check).unwrap();
        for part in [
            "assertion gw (1 key;",
            "secrets: POST /v1/auth/jwt/login",
            "bound_issuer gw",
            "bound_audiences bao",
            "the role machine",
        ] {
            assert!(summary.contains(part), "{part} in {summary}");
        }
    }

    #[test]
    fn machines_without_a_good_key_are_named_as_far_as_anyone_reads() {
        let file = Temporary::new("ended", GOOD);
        let summary = file.check(|_, _| Ok(machines(2))).unwrap();
        assert!(
            summary.contains("old-1: not_after of all its keys is past"),
            "{summary}"
        );
        let summary = file.check(|_, _| Ok(machines(12))).unwrap();
        assert!(summary.contains("and 2 more such machines"), "{summary}");
    }

    #[test]
    fn the_registry_is_looked_for_beside_the_configuration() {
        let file = Temporary::new("beside", GOOD);
        let expected = file.0.with_file_name("machines.yaml");
        let check = |path: &Path, _| {
            assert_eq!(path, expected);
            Ok(machines(0))
        };
        assert!(file.check(check).is_ok());
    }

    #[test]
    fn mistakes_of_both_files_are_reported_together_with_exit_code_78() {
        let text = format!("{GOOD}threads: many\nlimit: {{}}\n");
        let registry = |_: &Path, _| Err(vec!["machines.yaml: machines[0].id: is odd".to_owned()]);
        let failure = Temporary::new("both", &text).check(registry).unwrap_err();
        assert_eq!(failure.exit_code(), 78);
        let lines = failure.to_string();
        assert_eq!(lines.lines().count(), 3, "{lines}");
        for key in ["threads:", "limit:", "machines[0].id:"] {
            assert!(lines.contains(key), "{key} in {lines}");
        }
    }

    #[test]
    fn a_mistake_in_the_registry_alone_fails() {
        let registry = |_: &Path, _| Err(vec!["machines.yaml: is empty".to_owned()]);
        let failure = Temporary::new("registry", GOOD)
            .check(registry)
            .unwrap_err();
        assert_eq!(
            failure,
            CommandError::Configuration("machines.yaml: is empty".into())
        );
    }

    #[test]
    fn a_missing_configuration_fails_without_looking_for_a_registry() {
        let args = CheckArgs {
            config: ConfigArgs {
                config: Some("no/such/file.yaml".into()),
            },
        };
        let registry = |_: &Path, _| panic!("there is no registry to check");
        let environment = Environment::of_process(1_800_000_000);
        let failure = run(
            &args,
            &environment,
            registry,
            |_| Findings::default(),
            &mut Vec::new(),
        )
        .unwrap_err();
        assert_eq!(failure.exit_code(), 78);
        assert!(
            failure
                .to_string()
                .contains("no/such/file.yaml: cannot be read")
        );
    }
}
