use crate::gateway::upstream::assertion::tests::{machine, signed};

use std::path::Path;

use http::HeaderValue;

use super::kept::FAILED;
use super::*;
use crate::config::{self, ClientTls, Environment, Login, TlsMaterial};

fn login(role: LoginRole) -> Arc<BackendLogin> {
    Arc::new(BackendLogin::new(
        settings(role),
        &Metrics::new("", "").unwrap(),
    ))
}

fn settings(role: LoginRole) -> LoginSettings {
    LoginSettings {
        upstream: "secrets".into(),
        login: Login {
            mount: "jwt".into(),
            role,
            audience: "openbao".into(),
            header: HeaderName::from_static("x-vault-token"),
            namespace: None,
            revoke: true,
        },
        issuer: "https://gw.example".into(),
        servers: Vec::new(),
        tls: None,
    }
}

fn fixed() -> LoginRole {
    LoginRole::Fixed("machine".into())
}

fn grant(keep: Duration) -> (Box<str>, Grant) {
    let grant = Grant {
        token: "s.token".parse().unwrap(),
        accessor: None,
        keep,
        is_batch: false,
        has_limited_uses: false,
    };
    ("machine".into(), grant)
}

/// Keeps the end of a login of the machine that signed, as a login does.
async fn keep(
    login: &BackendLogin,
    signed: &Signed,
    asked: Result<(Box<str>, Grant), LoginFailure>,
) {
    let owner = AssertedMachine::of(signed);
    let kept = login.finish(&owner, asked, Duration::ZERO, Duration::ZERO);
    login.tokens.insert(owner, kept).await;
}

fn held(login: &BackendLogin) -> usize {
    login
        .tokens
        .iter()
        .filter(|(_, kept)| matches!(kept, KeptLogin::Token(..)))
        .count()
}

#[tokio::test]
async fn a_token_is_found_by_requests_of_its_machine_alone() {
    let login = login(fixed());
    let (one, other) = (machine("one", 1), machine("other", 2));
    let of_one = signed(&one, 1, "/a", b"");
    keep(&login, &of_one, Ok(grant(Duration::from_secs(60)))).await;
    assert!(login.known_token(&of_one).await.is_some());
    assert!(
        login
            .known_token(&signed(&one, 1, "/b", b""))
            .await
            .is_some()
    );
    assert!(
        login
            .known_token(&signed(&other, 2, "/a", b""))
            .await
            .is_none()
    );
}

#[tokio::test]
async fn a_machine_that_was_changed_never_finds_the_token_that_it_had() {
    let login = login(fixed());
    let before = signed(&machine("one", 1), 1, "/a", b"");
    keep(&login, &before, Ok(grant(Duration::from_secs(60)))).await;
    // The same entry, loaded anew because something in it has changed.
    let after = signed(&machine("one", 1), 1, "/a", b"");
    assert!(login.known_token(&after).await.is_none());
}

#[tokio::test]
async fn a_token_is_kept_for_its_time_and_not_longer() {
    let login = login(fixed());
    let signed = signed(&machine("one", 1), 1, "/a", b"");
    keep(&login, &signed, Ok(grant(Duration::from_millis(50)))).await;
    assert!(login.known_token(&signed).await.is_some());
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(login.known_token(&signed).await.is_none());
}

#[tokio::test]
async fn a_token_over_an_earlier_one_has_its_own_time() {
    let login = login(fixed());
    let signed = signed(&machine("one", 1), 1, "/a", b"");
    keep(&login, &signed, Ok(grant(Duration::from_millis(200)))).await;
    keep(&login, &signed, Ok(grant(Duration::from_secs(60)))).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(login.known_token(&signed).await.is_some());
    keep(&login, &signed, Ok(grant(Duration::from_millis(50)))).await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(login.known_token(&signed).await.is_none());
}

#[tokio::test]
async fn the_time_that_a_login_took_is_taken_off() {
    let login = login(fixed());
    let owner = AssertedMachine::of(&signed(&machine("one", 1), 1, "/a", b""));
    let asked = Ok(grant(Duration::from_secs(60)));
    let kept = login.finish(
        &owner,
        asked,
        Duration::from_secs(10),
        Duration::from_secs(14),
    );
    assert!(matches!(kept, KeptLogin::Token(_, keep) if keep == Duration::from_secs(56)));
}

#[tokio::test]
async fn a_failed_login_is_no_token_and_is_kept_for_a_moment() {
    let login = login(fixed());
    let signed = signed(&machine("one", 1), 1, "/a", b"");
    keep(&login, &signed, Err(LoginFailure::TimedOut)).await;
    assert!(login.known_token(&signed).await.is_none());
    let kept = login.tokens.get(&SignerOf(&signed)).await;
    assert_eq!(kept.as_ref().map(KeptLogin::lifetime), Some(FAILED));
    assert!(matches!(kept, Some(KeptLogin::Failed(why)) if *why == LoginFailure::TimedOut));
}

#[tokio::test]
async fn a_refused_token_is_dropped_unless_there_is_another_by_now() {
    let login = login(fixed());
    let signed = signed(&machine("one", 1), 1, "/a", b"");
    keep(&login, &signed, Ok(grant(Duration::from_secs(60)))).await;
    let first = login.known_token(&signed).await.unwrap();
    keep(&login, &signed, Ok(grant(Duration::from_secs(60)))).await;
    login.drop_token(&first).await;
    let second = login.known_token(&signed).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    login.drop_token(&second).await;
    assert!(login.known_token(&signed).await.is_none());
}

#[tokio::test]
async fn tokens_of_machines_that_have_changed_are_wiped() {
    let login = login(fixed());
    let (stays, goes) = (machine("stays", 1), machine("goes", 2));
    let (of_stays, of_goes) = (signed(&stays, 1, "/a", b""), signed(&goes, 2, "/a", b""));
    for signed in [&of_stays, &of_goes] {
        keep(&login, signed, Ok(grant(Duration::from_secs(60)))).await;
    }
    assert_eq!(held(&login), 2);
    login.keep_only(move |machine| Arc::ptr_eq(machine, &stays));
    login.tokens.run_pending_tasks().await;
    assert!(login.known_token(&of_stays).await.is_some());
    assert!(login.known_token(&of_goes).await.is_none());
    assert_eq!(held(&login), 1);
}

#[test]
fn the_role_is_the_fixed_one_or_the_first_group_of_the_machine() {
    let machine = machine("one", 1);
    assert_eq!(login(fixed()).role_of(&machine), Some("machine"));
    assert_eq!(login(LoginRole::Group).role_of(&machine), Some("fleet"));
    let alone = Machine {
        groups: Arc::default(),
        ..Machine::clone(&machine)
    };
    assert_eq!(login(LoginRole::Group).role_of(&alone), None);
}

/// An upstream with a login.
fn upstream() -> Upstream {
    let text = "listeners: [{ address: 127.0.0.1:0 }]\nregistry: { file: machines.yaml }\n\
                upstreams: { secrets: { servers: ['https://127.0.0.1:8200'] } }\n\
                routes: [{ path: /, upstream: secrets }]\n";
    let environment = Environment::of_process(1_800_000_000);
    let loaded = config::read(text, Path::new("countersign.yaml"), &environment).unwrap();
    let mut upstream = loaded.config.upstreams[0].clone();
    upstream.login = Some(settings(fixed()).login);
    upstream
}

#[test]
fn tokens_are_carried_over_to_the_same_backend_and_to_no_other() {
    let metrics = Metrics::new("", "").unwrap();
    let first = BackendLogin::of(&upstream(), "gw", &metrics, &[]).unwrap();
    let is_kept = |upstream: &Upstream, issuer| {
        let next = BackendLogin::of(upstream, issuer, &metrics, &[&first]).unwrap();
        Arc::ptr_eq(&next, &first)
    };
    assert!(is_kept(&upstream(), "gw"));
    assert!(!is_kept(&upstream(), "other"));
    let mut other = upstream();
    other.servers[0].authority = "127.0.0.1:8201".into();
    assert!(!is_kept(&other, "gw"));
    let mut other = upstream();
    other.servers[0].host = HeaderValue::from_static("other");
    assert!(!is_kept(&other, "gw"));
    let mut other = upstream();
    other.servers[0].certified_name = Some("other".into());
    assert!(!is_kept(&other, "gw"));
    let mut other = upstream();
    other.tls = Some(ClientTls {
        ca: None,
        identity: None,
        material: Arc::new(TlsMaterial {
            roots: vec![vec![1].into()],
            identity: None,
        }),
    });
    assert!(!is_kept(&other, "gw"));
}

#[test]
fn no_form_of_a_login_shows_a_token() {
    let login = login(fixed());
    let owner = AssertedMachine::of(&signed(&machine("one", 1), 1, "/a", b""));
    let kept = login.finish(&owner, Ok(grant(FAILED)), Duration::ZERO, Duration::ZERO);
    let KeptLogin::Token(token, _) = kept else {
        unreachable!("a token was granted");
    };
    assert_eq!(
        format!("{login:?} {token:?}"),
        "BackendLogin(secrets) MachineToken(one)"
    );
}

/// What a request whose machine holds a token costs beside one with a credential of the
/// configuration, which takes the value out of an `ArcSwap`. Of a release build:
/// `cargo test --release --lib login::tests::a_known_token -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout, reason = "a measurement prints its figure")]
async fn a_known_token_costs_less_than_a_microsecond() {
    let login = login(fixed());
    let machines: Vec<_> = (0..1000).map(|n| machine(&format!("m-{n}"), 1)).collect();
    let requests: Vec<_> = (machines.iter())
        .map(|machine| signed(machine, 1, "/a", b""))
        .collect();
    for request in &requests {
        keep(&login, request, Ok(grant(Duration::from_secs(3600)))).await;
    }
    let clock = Clock::system();
    let rounds = 1000;
    let began = clock.now().mono;
    for _ in 0..rounds {
        for request in &requests {
            let token = login.known_token(request).await;
            std::hint::black_box(token.unwrap());
        }
    }
    let took = clock.now().mono - began;
    let each = took / (rounds * u32::try_from(requests.len()).unwrap());
    println!("{each:?} a request");
    assert!(each < Duration::from_micros(1), "{each:?}");
}
