//! Whatever is sent, and however it is spelled: an identity and the gateway's credential reach the
//! backend with a good signature of a known machine, and with nothing else. Where a route lets a
//! request pass all the same, exactly the client's own reaches it.
//!
//! Generated requests, to a real gateway with a recording backend. What should become of each is
//! said here anew, from the documentation and not from the gateway's code.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::support::backend::{Backend, Seen};
use crate::support::client::{Response, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw, registry};
use crate::support::http2::Http2;
use crate::support::signer::{Machine, Signed};

const SECRET: &str = "the-gateways-own-credential";

/// Names under which only the gateway speaks, in every spelling that a backend may take for one.
const RESERVED: [&str; 18] = [
    "X-Caller",
    "x_caller",
    "x_vault_namespace",
    "X-Machine-Identity",
    "X-Machine-Name",
    "X-Machine-Vault",
    "X-Machine-Owner",
    "X-Machine-Key",
    "x-machine-identity",
    "X_Machine_Identity",
    "X-Machine_Identity",
    "x_machine_owner",
    "X-Request-Id",
    "Forwarded",
    "X-Forwarded-User",
    "x_forwarded_for",
    "X-Real-Ip",
    "X-Vault-Namespace",
];

/// The client's own, which cross where nothing has to be signed.
const OWN: [(&str, &str); 9] = [
    ("X-Vault-Request", "true"),
    ("X-App", "billing"),
    ("Cookie", "session=1"),
    ("Range", "bytes=0-9"),
    ("Content-Encoding", "identity"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Accept", "*/*"),
    ("User-Agent", "generated"),
    ("Content-Type", "application/json"),
];

const TOKENS: [(&str, &str); 5] = [
    ("X-Vault-Token", "s.one"),
    ("X-Vault-Token", "s.two"),
    ("Authorization", "Bearer s.one"),
    ("Authorization", "Basic dTpw"),
    ("X-Api-Key", "s.three"),
];

/// What the gateway adds to any request.
const ADDED: [&str; 6] = [
    "host",
    "content-length",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signing {
    None,
    Good,
    Replayed,
    Stale,
    OtherKey,
    OtherPath,
    OtherBody,
    Unknown,
    Disabled,
    /// All but one header, or one header alone.
    Without(usize),
    Alone(usize),
    /// The same, with `_` for `-`.
    AloneUnderscored(usize),
    Twice(usize),
    /// Good, but for the name of one header, which has `_` for `-`.
    Underscored(usize),
}

#[derive(Clone, Debug)]
struct Case {
    route: &'static str,
    method: &'static str,
    rest: &'static str,
    query: Option<&'static str>,
    body: &'static [u8],
    signing: Signing,
    headers: Vec<(&'static str, &'static str)>,
    http2: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Signed,
    AsItIs,
    Refused,
}

fn signing() -> impl Strategy<Value = Signing> {
    use Signing::*;
    prop_oneof![
        3 => Just(None),
        3 => Just(Good),
        3 => select(vec![Replayed, Stale, OtherKey, OtherPath, OtherBody, Unknown, Disabled]),
        3 => (0..4_usize, select(vec![Without as fn(usize) -> Signing, Alone, AloneUnderscored, Twice, Underscored]))
            .prop_map(|(which, kind)| kind(which)),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let hostile = subsequence(RESERVED.to_vec(), 0..=4);
    let values = select(vec!["root", "machine-1", SECRET]);
    let headers = (
        hostile,
        values,
        subsequence(OWN.to_vec(), 0..=OWN.len()),
        subsequence(TOKENS.to_vec(), 0..=2),
    )
        .prop_map(|(hostile, value, own, tokens)| {
            let hostile = hostile.into_iter().map(|name| (name, value));
            hostile.chain(own).chain(tokens).collect::<Vec<_>>()
        });
    (
        select(vec!["/observed", "/bearer", "/enforced"]),
        select(vec!["GET", "POST", "PUT", "LIST", "DELETE"]),
        select(vec!["", "/", "/v1/secret/a", "/a:b@c/%23"]),
        prop::option::of(select(vec!["", "version=2", "list=true&token=s.four"])),
        select(vec![&b""[..], b"body", b"{\"data\":{\"a\":1}}"]),
        signing(),
        headers,
        any::<bool>(),
    )
        .prop_map(
            |(route, method, rest, query, body, signing, headers, http2)| Case {
                route,
                method,
                rest,
                query,
                body,
                signing,
                headers,
                http2,
            },
        )
}

impl Case {
    fn path(&self) -> String {
        format!("{}{}", self.route, self.rest)
    }

    fn target(&self) -> String {
        let query = self.query.map(|query| format!("?{query}"));
        self.path() + &query.unwrap_or_default()
    }

    fn signing_headers(&self, now: u64) -> Vec<(String, String)> {
        let (path, body) = (self.path(), self.body);
        let by = |machine: Machine| machine.sign(self.method, &path, now, body);
        let signed: Signed = match self.signing {
            Signing::Stale => machine().sign(self.method, &path, now - 1000, body),
            Signing::OtherKey => by(Machine::new("machine-1", 9)),
            Signing::OtherPath => machine().sign(self.method, "/other", now, body),
            Signing::OtherBody => machine().sign(self.method, &path, now, b"other"),
            Signing::Unknown => by(Machine::new("nobody", 9)),
            Signing::Disabled => by(disabled()),
            _ => by(machine()),
        };
        let pairs = signed
            .pairs()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut pairs = pairs.to_vec();
        match self.signing {
            Signing::None => pairs.clear(),
            Signing::Without(which) => drop(pairs.remove(which)),
            Signing::Alone(which) => pairs = vec![pairs.swap_remove(which)],
            Signing::AloneUnderscored(which) => {
                let (name, value) = pairs.swap_remove(which);
                pairs = vec![(name.replace('-', "_"), value)];
            }
            Signing::Twice(which) => pairs.push(pairs[which].clone()),
            Signing::Underscored(which) => pairs[which].0 = pairs[which].0.replace('-', "_"),
            _ => {}
        }
        pairs
    }

    /// What the documentation says of it.
    fn fate(&self) -> Fate {
        let tokens: Vec<&str> = (self.headers.iter())
            .filter(|(name, value)| *name == "X-Vault-Token" || value.starts_with("Bearer "))
            .map(|(_, value)| value.trim_start_matches("Bearer "))
            .collect();
        let one_token = !tokens.is_empty() && tokens.iter().all(|token| *token == tokens[0]);
        match (self.route, self.signing) {
            (_, Signing::Good) if !self.would_lose_its_meaning() => Fate::Signed,
            ("/observed", _) => Fate::AsItIs,
            ("/bearer", Signing::None) if one_token => Fate::AsItIs,
            _ => Fate::Refused,
        }
    }

    /// Whether it has a header that no route here forwards, and that must not be lost.
    fn would_lose_its_meaning(&self) -> bool {
        let lost = |name: &str| {
            let names = [
                "content-encoding",
                "x-http-method-override",
                "x-vault-namespace",
            ];
            names.contains(&&*name.to_lowercase().replace('_', "-"))
        };
        self.headers.iter().any(|(name, _)| lost(name))
    }

    /// The client's own headers, by name; those of one name in their order.
    fn own(&self) -> BTreeMap<String, Vec<&str>> {
        let mut own: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, value) in self
            .headers
            .iter()
            .filter(|(name, _)| !RESERVED.contains(name))
        {
            own.entry(name.to_lowercase()).or_default().push(value);
        }
        own
    }
}

fn disabled() -> Machine {
    Machine::new("machine-off", 4)
}

fn is_identity(name: &str) -> bool {
    let name = name.to_lowercase().replace('_', "-");
    name.starts_with("x-machine-") || name == "x-caller" || name == "x-vault-namespace"
}

struct World {
    backend: Backend,
    gateway: Gateway,
    http2: RefCell<Http2>,
}

impl World {
    fn new() -> World {
        let backend = Backend::start();
        let until = "'2027-01-16T09:00:00Z'";
        let options = Options {
            routes: format!(
                "  - {{ path: /observed, upstream: secrets, mode: observe, observe_until: {until} }}\n  \
                 - {{ path: /bearer, upstream: secrets, bearer_until: {until} }}\n  \
                 - {{ path: /enforced, upstream: secrets }}\n"
            ),
            upstream: "    credential: { header: X-Vault-Token, file: token }\n    \
                       set_headers: { X-Vault-Namespace: team-a }\n"
                .into(),
            token: Some(SECRET.into()),
            machines: registry(&[&machine(), &disabled()])
                + "    enabled: false\n    name: off\n    owner: nobody\n",
            // A name of its own: none that is reserved anyway.
            more: "identity: { header: X-Caller }\nthrottle: { failures_per_minute: 0 }\n".into(),
            // A busy machine is no reason to refuse here.
            audit: "audit.jsonl, deadline: 60s".into(),
            tls: true,
            ..Options::default()
        };
        let gateway = Gateway::with(&backend, options);
        let http2 = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
        World {
            backend,
            gateway,
            http2: RefCell::new(http2),
        }
    }

    fn send(&self, case: &Case, signing: &[(String, String)]) -> Response {
        let signing = signing.iter().map(|(name, value)| (&**name, &**value));
        let headers: Vec<(&str, &str)> = case.headers.iter().copied().chain(signing).collect();
        let (method, target) = (case.method, case.target());
        if case.http2 {
            let mut http2 = self.http2.borrow_mut();
            return http2.send(method, &target, &headers, case.body);
        }
        let line = |(name, value): &(&str, &str)| format!("{name}: {value}\r\n");
        let lines: String = headers.iter().map(line).collect();
        exchange(
            self.gateway.address,
            raw(method, &target, &lines, case.body),
        )
    }

    fn check(&self, case: &Case) -> Result<(), TestCaseError> {
        let signing = case.signing_headers(self.gateway.now());
        if case.signing == Signing::Replayed {
            let passes = case.route == "/observed" || !case.would_lose_its_meaning();
            let expected = if passes { 200 } else { 400 };
            prop_assert_eq!(self.send(case, &signing).status, expected);
        }
        let before = self.backend.seen().len();
        let answer = self.send(case, &signing);
        let status = answer.status;
        let seen = self.backend.seen().split_off(before);
        prop_assert!(seen.len() <= 1);

        // The one thing that must never fail, whatever the rest of this test believes.
        let signed_well = case.signing == Signing::Good;
        for (name, value) in seen.iter().flat_map(|seen| &seen.headers) {
            prop_assert!(signed_well || !is_identity(name), "{}: {}", name, value);
            prop_assert!(
                signed_well || !value.contains(SECRET),
                "{}: {}",
                name,
                value
            );
        }
        match case.fate() {
            Fate::Refused => {
                prop_assert!(
                    seen.is_empty() && (400..500).contains(&status),
                    "{}",
                    status
                );
            }
            Fate::Signed => check_signed(case, &answer, &seen)?,
            Fate::AsItIs => check_as_it_is(case, &answer, &seen)?,
        }
        Ok(())
    }
}

fn check_signed(case: &Case, answer: &Response, seen: &[Seen]) -> Result<(), TestCaseError> {
    let [seen] = seen else {
        return Err(TestCaseError::fail(format!(
            "it did not arrive: {answer:?}"
        )));
    };
    prop_assert_eq!(seen.all("X-Caller"), ["machine-1"]);
    prop_assert!(seen.all("X-Machine-Identity").is_empty());
    prop_assert_eq!(seen.all("X-Vault-Token"), [SECRET]);
    prop_assert_eq!(seen.all("X-Vault-Namespace"), ["team-a"]);
    prop_assert_eq!(&seen.target, &case.path());
    prop_assert_eq!(&seen.body, case.body);
    for name in [
        "Authorization",
        "X-Api-Key",
        "Cookie",
        "X-App",
        "X-Machine-Name",
        "X-Signature",
    ] {
        prop_assert!(seen.all(name).is_empty(), "{}", name);
    }
    Ok(())
}

fn check_as_it_is(case: &Case, answer: &Response, seen: &[Seen]) -> Result<(), TestCaseError> {
    let [seen] = seen else {
        return Err(TestCaseError::fail(format!(
            "it did not arrive: {answer:?}"
        )));
    };
    prop_assert_eq!(&seen.method, case.method);
    prop_assert_eq!(&seen.target, &case.target());
    prop_assert_eq!(&seen.body, case.body);
    let mut crossed: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in &seen.headers {
        let name = name.to_lowercase();
        if !ADDED.contains(&&*name) {
            crossed.entry(name).or_default().push(value);
        }
    }
    prop_assert_eq!(crossed, case.own());
    Ok(())
}

#[test]
fn an_identity_and_an_injected_credential_take_a_good_signature() {
    let world = World::new();
    let config = Config {
        cases: 1500,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&case(), |case| world.check(&case));
    outcome.unwrap_or_else(|error| panic!("{error}"));

    for file in ["audit.jsonl", "audit.refused.jsonl"] {
        let audit = std::fs::read_to_string(world.gateway.folder.path().join(file)).unwrap();
        for secret in ["s.one", "s.two", "s.three", "s.four", SECRET] {
            assert!(!audit.contains(secret), "{secret} in {file}");
        }
    }
}

/// Enough of each kind is generated for the property to mean something.
#[test]
fn the_generated_requests_are_of_every_kind() {
    let mut runner = TestRunner::deterministic();
    let mut counts = BTreeMap::<String, usize>::new();
    for _ in 0..1500 {
        let case = case().new_tree(&mut runner).unwrap().current();
        *counts
            .entry(format!("{} {:?}", case.route, case.fate()))
            .or_default() += 1;
    }
    let all = [
        "/bearer AsItIs",
        "/bearer Refused",
        "/bearer Signed",
        "/enforced Refused",
        "/enforced Signed",
        "/observed AsItIs",
        "/observed Signed",
    ];
    assert_eq!(counts.keys().collect::<Vec<_>>(), all);
    assert!(counts.values().all(|&count| count >= 25), "{counts:?}");
}
