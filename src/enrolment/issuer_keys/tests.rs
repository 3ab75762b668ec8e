//! Keys that are read from an address.

use std::sync::atomic::AtomicUsize;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::machine_terms::MachineTerms;
use crate::jwt::testing::{ed25519, p256};
use countersign_client::clock::Hands;

/// An issuer that serves one key under a key id that the test changes.
struct Issuer {
    reads: AtomicUsize,
    key_id: std::sync::Mutex<String>,
    /// Its status, and how long it waits.
    status: std::sync::Mutex<(u16, Duration)>,
}

async fn issuer() -> (Arc<Issuer>, GatewayUrl) {
    let issuer = Arc::new(Issuer {
        reads: AtomicUsize::new(0),
        key_id: std::sync::Mutex::new("one".into()),
        status: std::sync::Mutex::new((200, Duration::ZERO)),
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let serving = Arc::clone(&issuer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let issuer = Arc::clone(&serving);
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                issuer.reads.fetch_add(1, Ordering::SeqCst);
                let (status, pause) = *issuer.status.lock().unwrap();
                tokio::time::sleep(pause).await;
                let id = issuer.key_id.lock().unwrap().clone();
                let body = json!({ "keys": [ed25519().jwk(&id)] }).to_string();
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (issuer, GatewayUrl::parse(&url).unwrap())
}

fn joiner(url: GatewayUrl) -> (Arc<ActiveJoiner>, Hands) {
    let joiner = Joiner {
        name: "ci".into(),
        issuer: "https://i".into(),
        keys: KeySource::Url { url, ca: None },
        audience: "countersign".into(),
        claims: Vec::new(),
        vault: "v".into(),
        machine: MachineTerms::default(),
        machine_name: None,
    };
    let (clock, hands) = Clock::manual(1_800_000_000_000);
    (Arc::new(ActiveJoiner::new(joiner, clock)), hands)
}

fn token(id: &str) -> String {
    ed25519().token(id, &json!({ "iss": "https://i" }))
}

async fn verify(joiner: &ActiveJoiner, token: &str) -> Result<(), Unverified> {
    joiner.verify(&Jwt::parse(token).unwrap()).await.map(|_| ())
}

const UNKNOWN: Result<(), Unverified> = Err(Unverified::Token(JwtFault::UnknownKey));

#[tokio::test]
async fn an_unknown_key_id_reads_the_keys_and_a_known_one_does_not() {
    let (issuer, url) = issuer().await;
    let (joiner, _) = joiner(url);
    for _ in 0..3 {
        assert_eq!(verify(&joiner, &token("one")).await, Ok(()));
    }
    assert_eq!(issuer.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_found_and_unknown_ones_do_not_ask_it_each_time() {
    let (issuer, url) = issuer().await;
    let (joiner, hands) = joiner(url);
    assert_eq!(verify(&joiner, &token("one")).await, Ok(()));
    *issuer.key_id.lock().unwrap() = "two".into();
    // Within the pause nobody asks the issuer.
    for _ in 0..20 {
        assert_eq!(verify(&joiner, &token("two")).await, UNKNOWN);
    }
    assert_eq!(issuer.reads.load(Ordering::SeqCst), 1);
    hands.advance(PAUSE);
    assert_eq!(verify(&joiner, &token("two")).await, Ok(()));
    assert_eq!(issuer.reads.load(Ordering::SeqCst), 2);
    // The key that was withdrawn is good no more.
    assert_eq!(verify(&joiner, &token("one")).await, UNKNOWN);
}

#[tokio::test]
async fn a_wrong_signature_does_not_ask_the_issuer() {
    let (issuer, url) = issuer().await;
    let (joiner, hands) = joiner(url);
    assert_eq!(verify(&joiner, &token("one")).await, Ok(()));
    hands.advance(PAUSE);
    let wrong = p256().token("one", &Value::Object(serde_json::Map::new()));
    let fault = Err(Unverified::Token(JwtFault::Signature));
    assert_eq!(verify(&joiner, &wrong).await, fault);
    assert_eq!(issuer.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_issuer_that_fails_leaves_the_keys_that_were_read_for_a_day() {
    let (issuer, url) = issuer().await;
    let (joiner, hands) = joiner(url);
    assert_eq!(verify(&joiner, &token("one")).await, Ok(()));
    *issuer.status.lock().unwrap() = (500, Duration::ZERO);
    hands.advance(BELIEVED);
    assert_eq!(verify(&joiner, &token("one")).await, Ok(()));
    assert_eq!(
        verify(&joiner, &token("two")).await,
        Err(Unverified::NoKeys)
    );
    hands.advance(Duration::from_secs(1));
    assert_eq!(
        verify(&joiner, &token("one")).await,
        Err(Unverified::NoKeys)
    );
}

#[tokio::test]
async fn one_request_waits_for_a_slow_issuer_and_the_others_do_not() {
    let (issuer, url) = issuer().await;
    let (joiner, hands) = joiner(url);
    assert_eq!(verify(&joiner, &token("one")).await, Ok(()));
    hands.advance(PAUSE);
    *issuer.key_id.lock().unwrap() = "two".into();
    *issuer.status.lock().unwrap() = (200, Duration::from_millis(500));
    let waiting = tokio::spawn({
        let joiner = Arc::clone(&joiner);
        async move { verify(&joiner, &token("two")).await }
    });
    while issuer.reads.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Meanwhile the keys in force decide, and what they cannot decide is not refused for good.
    assert_eq!(verify(&joiner, &token("one")).await, Ok(()));
    assert_eq!(
        verify(&joiner, &token("two")).await,
        Err(Unverified::NoKeys)
    );
    assert!(!waiting.is_finished());
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn keys_of_an_address_are_read_at_the_start_and_nobody_reads_after_the_joiner_is_gone() {
    let (issuer, url) = issuer().await;
    let (joiner, _) = joiner(url);
    joiner.start(&Handle::current());
    joiner.start(&Handle::current());
    while joiner.current.load().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(verify(&joiner, &token("one")).await, Ok(()));
    assert_eq!(issuer.reads.load(Ordering::SeqCst), 1);
}
