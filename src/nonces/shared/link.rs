//! One connection to the store, usable only after a check of the server. Claims share it: each is
//! one transaction, and they are pipelined.

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates, Value, cmd, pipe,
};

use super::rules::{ClaimOutcome, Epoch, Rules, StoreReply, weigh};
use super::store_server::{ServerRun, StoreServer, StoreSettings, UnusableStore};
use crate::config::Redis;
use countersign_client::file;
use countersign_core::message::Timestamp;
use countersign_core::replay::NonceKey;

/// The server to connect to, and the rules of its claims.
pub(super) struct StoreTarget {
    client: Client,
    prefix: String,
    rules: Rules,
}

/// A usable connection.
pub(super) struct Link {
    connection: MultiplexedConnection,
    epoch: Epoch,
    prefix: String,
    rules: Rules,
    pub(super) life: ServerRun,
    /// A timestamp at or below it may have been accepted without a nonce in the store.
    pub(super) floor: u64,
    /// A risk of the server that the operator should know.
    pub(super) remark: Option<&'static str>,
    /// The store's clock at the check, in Unix seconds.
    pub(super) time: u64,
}

/// The reason why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum Doubt {
    #[error("{0}")]
    Failed(#[from] RedisError),
    #[error("its answer to SET, GET and TIME is malformed")]
    Odd,
}

/// Writes a new epoch unless there is one, and returns the current epoch. The script is atomic, so
/// the floor of a new epoch covers every timestamp that can have been accepted before.
const EPOCH: &str = "\
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  local now = redis.call('TIME')
  epoch = string.format('%d', now[1] + ARGV[1]) .. ARGV[2]
  redis.call('SET', KEYS[1], epoch)
end
return epoch";

impl StoreTarget {
    /// # Errors
    ///
    /// The mistake in the file of certificates.
    pub(super) fn new(redis: &Redis, rules: Rules) -> Result<StoreTarget, String> {
        let server = &redis.server;
        let address = match server.tls {
            false => ConnectionAddr::Tcp(server.host.clone(), server.port),
            true => ConnectionAddr::TcpTls {
                host: server.host.clone(),
                port: server.port,
                insecure: false,
                tls_params: None,
            },
        };
        let mut login = RedisConnectionInfo::default()
            .set_db(server.database)
            .set_skip_set_lib_name();
        if let Some(username) = &redis.username {
            login = login.set_username(username);
        }
        if let Some(password) = &redis.password {
            login = login.set_password(password.reveal());
        }
        // Without TCP_NODELAY a claim could wait for the acknowledgement of the previous one.
        let info = address
            .into_connection_info()
            .map_err(|error| error.to_string())?
            .set_tcp_settings(TcpSettings::default().set_nodelay(true))
            .set_redis_settings(login);
        let client = match &redis.ca {
            None => Client::open(info).map_err(|error| error.to_string())?,
            Some(file) => {
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(certificates(file)?),
                };
                Client::build_with_tls(info, certificates)
                    .map_err(|error| format!("{}: {error}", file.display()))?
            }
        };
        Ok(StoreTarget {
            client,
            prefix: redis.prefix.clone(),
            rules,
        })
    }

    /// Connects and checks the server, within `deadline`. `known` is the run of the server at the
    /// previous connection.
    ///
    /// # Errors
    ///
    /// The reason why the server cannot be used now.
    pub(super) async fn connect(
        &self,
        known: Option<&ServerRun>,
        deadline: Duration,
    ) -> Result<Link, UnusableStore> {
        tokio::time::timeout(deadline, self.open(known))
            .await
            .unwrap_or(Err(UnusableStore::Slow))
    }

    async fn open(&self, known: Option<&ServerRun>) -> Result<Link, UnusableStore> {
        // The callers set deadlines, around all that they wait for.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let mut connection = (self
            .client
            .get_multiplexed_async_connection_with_config(&config))
        .await
        .map_err(|error| UnusableStore::Failed(login_failed(&error)))?;
        let info: String = ask(&mut connection, "INFO", &cmd("INFO")).await?;
        let settings = StoreSettings {
            maxmemory_policy: setting(&mut connection, "maxmemory-policy").await?,
            appendonly: setting(&mut connection, "appendonly").await?,
            appendfsync: setting(&mut connection, "appendfsync").await?,
            no_appendfsync_on_rewrite: setting(&mut connection, "no-appendfsync-on-rewrite")
                .await?,
        };
        let server = StoreServer::read(&info, &settings)?;
        let epoch = self.epoch(&mut connection).await?;
        let mut link = Link {
            connection,
            prefix: self.prefix.clone(),
            rules: self.rules,
            life: server.life.clone(),
            floor: 0,
            remark: server.remark(),
            time: 0,
            epoch,
        };
        link.time = match link.pulse().await {
            Ok(Some(time)) => time,
            Ok(None) => return Err(UnusableStore::Forgot),
            Err(doubt) => return Err(UnusableStore::Failed(doubt.to_string())),
        };
        let lost = server.floor(known, link.time, self.rules);
        link.floor = link.epoch.floor.max(lost);
        Ok(link)
    }

    async fn epoch(&self, connection: &mut MultiplexedConnection) -> Result<Epoch, UnusableStore> {
        let key = epoch_key(&self.prefix);
        let mut random = [0u8; 16];
        getrandom::fill(&mut random).map_err(|error| UnusableStore::Failed(error.to_string()))?;
        let words = format!(
            " {} {:032x}",
            self.rules.words(),
            u128::from_be_bytes(random)
        );
        let mut script = cmd("EVAL");
        (script.arg(EPOCH).arg(1).arg(&key))
            .arg(self.rules.ceiling(0))
            .arg(words);
        let text: String = ask(connection, "EVAL", &script).await?;
        Epoch::parse(text, self.rules).map_err(|theirs| UnusableStore::OtherRules {
            theirs,
            ours: self.rules.words(),
            key,
        })
    }
}

impl Link {
    /// Spends a nonce, without a deadline.
    ///
    /// # Errors
    ///
    /// Any doubt. The nonce may be spent or not, so the caller must refuse.
    pub(super) async fn claim(
        &self,
        nonce: NonceKey,
        timestamp: Timestamp,
    ) -> Result<ClaimOutcome, Doubt> {
        let mut key = self.prefix.clone().into_bytes();
        key.extend_from_slice(nonce.as_bytes());
        let mut set = cmd("SET");
        (set.arg(key).arg(1).arg("NX").arg("PX")).arg(self.rules.keep_ms());
        let evidence = self.transact(set).await?;
        Ok(weigh(&evidence, timestamp, &self.epoch, self.rules))
    }

    /// Checks without a deadline that the store takes writes. Returns its clock in Unix seconds;
    /// `None` if it has lost its contents.
    ///
    /// # Errors
    ///
    /// As [`Link::claim`].
    pub(super) async fn pulse(&self) -> Result<Option<u64>, Doubt> {
        let mut set = cmd("SET");
        (set.arg(format!("{}pulse", self.prefix)).arg(1))
            .arg("PX")
            .arg(1000);
        let evidence = self.transact(set).await?;
        Ok((evidence.epoch.as_ref() == Some(&self.epoch.text)).then_some(evidence.now))
    }

    async fn transact(&self, set: Cmd) -> Result<StoreReply, Doubt> {
        let answer: (Value, Option<String>, (u64, u64)) = pipe()
            .atomic()
            .add_command(set)
            .cmd("GET")
            .arg(epoch_key(&self.prefix))
            .cmd("TIME")
            .query_async(&mut self.connection.clone())
            .await?;
        let (set, epoch, (now, _)) = answer;
        let fresh = match set {
            Value::Okay => true,
            Value::Nil => false,
            _ => return Err(Doubt::Odd),
        };
        Ok(StoreReply { fresh, epoch, now })
    }
}

/// The suffix has more bytes than the 16 of a nonce, so the epoch key is never the key of a nonce.
fn epoch_key(prefix: &str) -> String {
    format!("{prefix}epoch-of-the-nonces-1")
}

/// The text of a failed login, without the server's message: Redis repeats the arguments of an
/// unknown command, and here they hold the password.
fn login_failed(error: &RedisError) -> String {
    match error.code() {
        _ if error.is_io_error() => error.to_string(),
        Some(code) => format!("the server refuses the login ({code})"),
        None => format!("the server refuses the login ({})", error.category()),
    }
}

async fn ask<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &'static str,
    ask: &Cmd,
) -> Result<T, UnusableStore> {
    ask.query_async(connection).await.map_err(|error| {
        let text = error.to_string();
        match error.code() {
            // ERR unknown command: a managed service that has disabled it.
            Some("NOPERM") => UnusableStore::Forbidden {
                command,
                error: text,
            },
            _ if text.contains("unknown command") => UnusableStore::Forbidden {
                command,
                error: text,
            },
            _ => UnusableStore::Failed(format!("{command}: {text}")),
        }
    })
}

async fn setting(
    connection: &mut MultiplexedConnection,
    name: &str,
) -> Result<Option<String>, UnusableStore> {
    let answer: Vec<String> =
        ask(connection, "CONFIG GET", cmd("CONFIG").arg("GET").arg(name)).await?;
    Ok(answer.into_iter().nth(1))
}

/// Largest file of certificates, in bytes: a system's bundle of all authorities has about 200 KiB.
const MAX_CERTIFICATES: usize = 1024 * 1024;

fn certificates(file: &Path) -> Result<Vec<u8>, String> {
    Ok(file::read(file, MAX_CERTIFICATES).map_err(|fault| fault.of(file))?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::config::{Environment, read};
    use countersign_core::replay::Window;

    const SECRET: &str = "s3cret-of-the-store";

    fn target(url: &str) -> StoreTarget {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:1 }}]\nregistry: {{ file: m.yaml }}\n\
             upstreams: {{ a: {{ servers: ['http://127.0.0.1:2'] }} }}\n\
             routes: [{{ path: /, upstream: a }}]\n\
             replay: {{ store: redis, redis: {{ url: '{url}', password_env: P }} }}\n"
        );
        let environment = Environment {
            variable: |_| Ok(SECRET.to_owned()),
            resolve: |authority| Ok(vec![authority.parse().unwrap()]),
            now: 1_800_000_000,
        };
        let config = read(&text, Path::new("c.yaml"), &environment)
            .unwrap()
            .config;
        let window = Window {
            past: 300,
            future: 300,
        };
        let rules = Rules { window, margin: 5 };
        StoreTarget::new(&config.replay.redis.unwrap(), rules).unwrap()
    }

    fn connect(target: &StoreTarget) -> UnusableStore {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let connected = runtime.block_on(target.connect(None, Duration::from_millis(500)));
        connected.err().unwrap()
    }

    /// The failure to connect to a server that gives this answer to every command.
    fn connect_to(answer: String) -> UnusableStore {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let target = target(&format!("redis://{}", listener.local_addr().unwrap()));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.read(&mut request);
        });
        let unusable = connect(&target);
        server.join().unwrap();
        unusable
    }

    #[test]
    fn a_server_that_repeats_the_password_does_not_get_it_into_the_log() {
        let unusable = connect_to(format!(
            "-ERR unknown command 'AUTH', with args beginning with: '{SECRET}'\r\n"
        ));
        let text = unusable.to_string();
        assert!(text.contains("refuses the login"), "{text}");
        assert!(!format!("{text}{unusable:?}").contains(SECRET), "{text}");
    }

    #[test]
    fn a_wrong_password_is_called_so_without_being_told() {
        let text = connect_to("-WRONGPASS invalid username-password pair\r\n".into()).to_string();
        assert!(text.contains("refuses the login"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
    }

    #[test]
    fn a_server_that_says_nothing_is_slow() {
        assert_eq!(connect_to(String::new()), UnusableStore::Slow);
    }

    #[test]
    fn a_server_that_is_not_there_is_told_as_the_system_tells_it() {
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let target = target(&format!("redis://{}", free.local_addr().unwrap()));
        drop(free);
        let text = connect(&target).to_string();
        assert!(text.contains("refused"), "{text}");
    }

    #[test]
    fn the_key_of_the_epoch_is_never_that_of_a_nonce() {
        assert_ne!(epoch_key("").len(), 16);
    }
}
