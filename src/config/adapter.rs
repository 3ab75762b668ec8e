//! The adapter of a route: it answers the calls of another kind of client by reads of a key/value
//! store, instead of forwarding them.

use super::credential::Credential;
use super::mode::Mode;
use super::upstreams::Upstream;
use crate::yaml::{Field, Table, did_you_mean, quoted};
use countersign_core::target::{Target, behind};

/// An adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// The clients whose calls it answers.
    pub kind: AdapterKind,
    /// The mount of a KV engine, version 2, without a slash at either end.
    pub kv: String,
}

/// The clients whose calls an adapter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// SikkerKey's SDKs and command line.
    Sikkerkey,
}

impl AdapterKind {
    /// Every kind.
    pub const ALL: [AdapterKind; 1] = [AdapterKind::Sikkerkey];

    /// The kind's name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            AdapterKind::Sikkerkey => "sikkerkey",
        }
    }

    /// The paths below which its clients' calls lie.
    const fn call_paths(self) -> [&'static str; 3] {
        match self {
            AdapterKind::Sikkerkey => ["/v1/secret", "/v1/secrets", "/v1/cli"],
        }
    }
}

/// Longest path of a mount, in bytes.
const MAX_MOUNT: usize = 256;

/// Mounts of Vault-like servers that hold no key/value engine. The first two issue, show and revoke
/// tokens.
const OTHER_MOUNTS: [&str; 4] = ["sys", "auth", "identity", "cubbyhole"];

/// The adapter of a route that is being read, with the field for mistakes about its other options.
pub(super) struct AdapterOption<'a> {
    field: Field<'a>,
    adapter: Option<Adapter>,
}

impl<'a> AdapterOption<'a> {
    /// Reads `adapter` of a route, before any other option. Options that an adapter excludes are
    /// mistakes:
    ///
    /// - `query`: no call of these clients has a query. Under `strip` a `?version=1` would be
    ///   dropped, and the client would get another version than it asked for.
    /// - `methods`, `forward_headers`: the requests to the backend are the gateway's own, so neither
    ///   a method nor a header of the client crosses.
    pub(super) fn read(table: &mut Table<'a>) -> Option<AdapterOption<'a>> {
        let excluded = [
            ("query", "an adapter takes no query and refuses one"),
            ("methods", "an adapter takes the methods of its calls alone"),
            (
                "forward_headers",
                "an adapter forwards no client header: its requests are the gateway's own",
            ),
        ];
        let excluded = excluded.map(|(key, why)| (table.has_any(&[key]), key, why));
        let field = table.field("adapter")?;
        for (is_there, key, why) in excluded {
            if is_there {
                table.mistake(
                    key,
                    format!("cannot stand beside `adapter`: {why}; remove it"),
                );
            }
        }
        let mut inner = field.table();
        let kind = (inner.required("kind")).and_then(|field| field.parse(kind));
        let kv = (inner.required("kv")).and_then(|field| field.parse(mount));
        let adapter = kind.zip(kv).map(|(kind, kv)| Adapter { kind, kv });
        drop(inner);
        Some(AdapterOption { field, adapter })
    }

    /// Checks what else the route says, and gives the adapter. `inner_path` is the route's path as
    /// clients sign it.
    pub(super) fn check(
        self,
        mode: Mode,
        inner_path: &str,
        upstream: Option<&Upstream>,
        credentials: &[Credential],
    ) -> Option<Adapter> {
        let AdapterOption { field, adapter } = self;
        if mode != Mode::ENFORCE {
            field.mistake(
                "needs `mode: enforce` without bearer_until: a request that is not signed would be \
                 forwarded as it is, and the backend does not know these calls",
            );
        }
        let kind = adapter.as_ref().map(|adapter| adapter.kind);
        if let Some(kind) = kind
            && !reaches(kind, inner_path)
        {
            field.mistake(format!(
                "would never be asked: no call of the clients of {} lies at or below {}; give the \
                 route the path /v1",
                kind.as_str(),
                inner_path
            ));
        }
        if let Some(upstream) = upstream {
            let name = &upstream.name;
            let is_for = |it: &Credential| it.upstreams.is_empty() || it.upstreams.contains(name);
            let has_own = upstream.credential.is_some() || upstream.login.is_some();
            if !has_own && !credentials.iter().any(is_for) {
                field.mistake(format!(
                    "reads a key/value store, and no request to the upstream {name} carries a \
                     credential; give the upstream a login or a \
                     credential"
                ));
            } else if upstream.check.is_none() {
                field.mistake(format!(
                    "needs `check` at the upstream {name}: without it a refused credential looks \
                     like a denied folder, and a list would leave secrets out; write check: GET \
                     /v1/auth/token/lookup-self"
                ));
            }
        }
        adapter
    }
}

/// Whether a call can come to a route with this path.
fn reaches(kind: AdapterKind, route: &str) -> bool {
    let route = route.trim_end_matches('/');
    let calls = kind.call_paths();
    calls
        .iter()
        .any(|call| behind(call, route).is_some() || behind(route, call).is_some())
}

fn kind(text: &str) -> Result<AdapterKind, String> {
    let names = || AdapterKind::ALL.iter().map(|kind| kind.as_str());
    let mut all = AdapterKind::ALL.iter();
    all.find(|kind| kind.as_str() == text)
        .copied()
        .ok_or_else(|| {
            let known: Vec<&str> = names().collect();
            format!(
                "{} is not one of: {}{}",
                quoted(text),
                known.join(", "),
                did_you_mean(text, names())
            )
        })
}

/// Parses the path of a mount.
fn mount(text: &str) -> Result<String, String> {
    let shown = || quoted(text);
    if text.is_empty() || text.len() > MAX_MOUNT {
        return Err(format!(
            "must be the path of a KV mount, at most {MAX_MOUNT} bytes: secret"
        ));
    }
    if text.starts_with('/') || text.ends_with('/') || text.contains('%') {
        return Err(format!(
            "{} must be the path of the mount alone, without a slash at its ends, without v1 and \
             data, and without percent-encoding: secret",
            shown()
        ));
    }
    let path = format!("/{text}");
    match Target::parse(path.as_bytes()) {
        Err(why) => return Err(format!("{} is no path of a mount: {why}", shown())),
        Ok(target) if target.query().is_some() => {
            return Err(format!(
                "{} holds a query; a mount is a path alone",
                shown()
            ));
        }
        Ok(_) => {}
    }
    let first = text.split('/').next().unwrap_or_default();
    if OTHER_MOUNTS
        .iter()
        .any(|other| first.eq_ignore_ascii_case(other))
    {
        return Err(format!(
            "{} is no mount of a key/value engine; name the mount that holds the secrets: secret",
            shown()
        ));
    }
    Ok(text.to_owned())
}
