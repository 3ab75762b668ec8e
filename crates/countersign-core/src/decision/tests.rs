#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

use super::*;
use crate::header_name::SigningHeader;
use crate::headers::Occurrence;
use crate::identity::MachineId;
use crate::replay::{ClaimError, NonceKey};
use crate::target::{QueryPolicy, Target};
use crate::validity::Validity;

const NOW: u64 = 1_700_000_000;
const WINDOW: Window = Window {
    past: 300,
    future: 300,
};

/// A request as a client would send it, with every part open to tampering.
#[derive(Clone)]
struct Request {
    method: &'static str,
    target: String,
    headers: [Vec<u8>; 4],
    body: Vec<u8>,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn signed_by(seed: u8) -> Request {
    let (method, target, nonce) = ("POST", "/v1/secret/a", "AAAAAAAAAAAAAAAAAAAAAA==");
    let body = b"hello".to_vec();
    let hash: String = BodyHash::of(&body)
        .as_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let message = format!("{method}:{target}:{NOW}:{nonce}:{hash}");
    let signature = STANDARD.encode(key(seed).sign(message.as_bytes()).to_bytes());
    Request {
        method,
        target: target.to_owned(),
        headers: [
            b"machine-1".to_vec(),
            NOW.to_string().into_bytes(),
            nonce.as_bytes().to_vec(),
            signature.into_bytes(),
        ],
        body,
    }
}

fn machine(seeds: &[u8]) -> Machine {
    Machine {
        id: MachineId::parse("machine-1").unwrap(),
        name: None,
        vault: None,
        owner: None,
        credential: None,
        keys: seeds
            .iter()
            .map(|&seed| PublicKey::from_bytes(key(seed).verifying_key().as_bytes()).unwrap())
            .map(Into::into)
            .collect(),
        enabled: true,
        not_before: None,
        expires: None,
        policy: None,
        groups: Arc::default(),
    }
}

fn verify(request: &Request, machine: Option<Machine>) -> Result<Signed, Refusal> {
    let attributed = attributed(request, machine)?;
    let verified = attributed.verify(BodyHash::of(&request.body));
    verified.map_err(Refusal::from)
}

fn attributed(request: &Request, machine: Option<Machine>) -> Result<Attributed, Refusal> {
    let headers = SigningHeaders::parse(|header| {
        let index = SigningHeader::ALL
            .iter()
            .position(|h| *h == header)
            .unwrap();
        Occurrence::Once(&request.headers[index])
    })?;
    let method = Method::accept(request.method, &[]).ok_or(Refusal::Internal)?;
    let target = Target::parse(request.target.as_bytes())
        .map_err(Refusal::BadTarget)?
        .under(QueryPolicy::Strip)?;
    Ok(Attempt::new(method, target, headers)
        .check_time(NOW, &WINDOW)?
        .look_up(|_| machine.map(Arc::new)))
}

#[test]
fn a_wrong_signature_tells_the_record_alone_whether_the_machine_is_known() {
    for known in [true, false] {
        let machine = known.then(|| machine(&[1]));
        let attributed = attributed(&signed_by(2), machine).unwrap();
        let unproved = attributed.verify(BodyHash::of(b"hello")).unwrap_err();
        let expected = Unproved {
            machine_known: known,
            body: BodyHash::of(b"hello"),
        };
        assert_eq!(unproved, expected);
        assert_eq!(Refusal::from(unproved), Refusal::BadSignature);
    }
}

/// Passes each key once, as a store must, and counts how often it was asked.
#[derive(Default)]
struct CountingStore {
    spent: Mutex<Vec<NonceKey>>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl NonceStore for CountingStore {
    async fn claim(&self, claim: Claim) -> Result<(), ClaimError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut spent = self.spent.lock().unwrap();
        if spent.contains(&claim.nonce) {
            return Err(ClaimError::Replayed);
        }
        spent.push(claim.nonce);
        Ok(())
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn a_good_request_of_a_known_machine_is_signed() {
    let signed = verify(&signed_by(1), Some(machine(&[1]))).unwrap();
    assert_eq!(signed.machine().id.as_str(), "machine-1");
    assert_eq!(signed.message().target(), "/v1/secret/a");
}

#[test]
fn any_of_a_machines_keys_may_sign_and_it_is_known_which_did() {
    let signed = verify(&signed_by(2), Some(machine(&[1, 2]))).unwrap();
    assert_eq!(signed.key().as_bytes(), key(2).verifying_key().as_bytes());
}

#[test]
fn another_machines_key_is_a_bad_signature() {
    let verdict = verify(&signed_by(2), Some(machine(&[1])));
    assert_eq!(verdict.unwrap_err(), Refusal::BadSignature);
}

#[test]
fn an_unknown_machine_and_a_wrong_signature_are_refused_alike() {
    let unknown = verify(&signed_by(1), None).unwrap_err();
    let wrong = verify(&signed_by(2), Some(machine(&[1]))).unwrap_err();
    assert_eq!(unknown, wrong);
}

#[test]
fn a_registry_that_answers_with_another_machine_gives_no_identity() {
    let mut other = machine(&[1]);
    other.id = MachineId::parse("machine-2").unwrap();
    let verdict = verify(&signed_by(1), Some(other));
    assert_eq!(verdict.unwrap_err(), Refusal::BadSignature);
}

#[test]
fn an_unknown_machine_is_refused_even_if_the_stand_in_key_were_to_verify() {
    // Nobody can sign for the stand-in key, so show it by the code path: no machine, no `Signed`.
    for seed in 0..8 {
        assert!(verify(&signed_by(seed), None).is_err());
    }
}

#[test]
fn a_disabled_machine_is_told_so_only_for_a_good_signature() {
    let mut disabled = machine(&[1]);
    disabled.enabled = false;
    let wrong = verify(&signed_by(2), Some(disabled.clone()));
    assert_eq!(wrong.unwrap_err(), Refusal::BadSignature);
    let good = verify(&signed_by(1), Some(disabled)).unwrap();
    assert_eq!(
        good.check_state(NOW).unwrap_err().refusal,
        Refusal::MachineDisabled
    );
}

#[test]
fn validity_starts_with_its_first_second_and_ends_before_its_last_bound() {
    let state = |not_before, expires| {
        let mut machine = machine(&[1]);
        (machine.not_before, machine.expires) = (not_before, expires);
        let signed = verify(&signed_by(1), Some(machine)).unwrap();
        signed.check_state(NOW).map(drop).map_err(|d| d.refusal)
    };
    assert_eq!(state(Some(NOW), None), Ok(()));
    assert_eq!(state(Some(NOW + 1), None), Err(Refusal::MachineExpired));
    assert_eq!(state(None, Some(NOW + 1)), Ok(()));
    assert_eq!(state(None, Some(NOW)), Err(Refusal::MachineExpired));
}

/// The verdict on a request signed with key 2, of a machine with keys 1 and 2, of which 2 is good
/// then.
fn with_second_key_good(not_before: Option<u64>, not_after: Option<u64>) -> Result<(), Refusal> {
    let mut machine = machine(&[1, 2]);
    machine.keys[1].validity = Validity::new(not_before, not_after).unwrap();
    let signed = verify(&signed_by(2), Some(machine))?;
    signed.check_state(NOW).map(drop).map_err(|d| d.refusal)
}

#[test]
fn a_key_is_good_from_its_first_second_to_its_last() {
    assert_eq!(with_second_key_good(Some(NOW), Some(NOW)), Ok(()));
    for (not_before, not_after) in [(Some(NOW + 1), None), (None, Some(NOW - 1))] {
        let verdict = with_second_key_good(not_before, not_after);
        assert_eq!(verdict, Err(Refusal::MachineExpired));
    }
}

#[test]
fn who_signs_with_a_key_that_has_ended_goes_on_record_with_it() {
    let mut machine = machine(&[1, 2]);
    machine.keys[1].validity = Validity::new(None, Some(NOW - 1)).unwrap();
    let denied = verify(&signed_by(2), Some(machine))
        .unwrap()
        .check_state(NOW)
        .unwrap_err();
    assert_eq!(
        denied.signed.key().as_bytes(),
        key(2).verifying_key().as_bytes()
    );
}

#[test]
fn the_end_of_one_key_is_not_that_of_another() {
    let mut machine = machine(&[1, 2]);
    machine.keys[1].validity = Validity::new(None, Some(NOW - 1)).unwrap();
    let signed = verify(&signed_by(1), Some(machine)).unwrap();
    assert!(signed.check_state(NOW).is_ok());
}

#[test]
fn a_wrong_signature_is_one_whatever_the_dates_of_the_keys() {
    let mut machine = machine(&[1, 2]);
    machine.keys[1].validity = Validity::new(None, Some(NOW - 1)).unwrap();
    let verdict = verify(&signed_by(3), Some(machine));
    assert_eq!(verdict.unwrap_err(), Refusal::BadSignature);
}

#[test]
fn a_nonce_is_admitted_once() {
    let store = CountingStore::default();
    let claim = || {
        let signed = verify(&signed_by(1), Some(machine(&[1]))).unwrap();
        block_on(signed.check_state(NOW).unwrap().claim(&store))
    };
    assert!(claim().is_ok());
    assert_eq!(claim().unwrap_err().refusal, Refusal::Replayed);
}

#[test]
fn a_store_that_cannot_know_admits_nothing() {
    struct Down;
    #[async_trait::async_trait]
    impl NonceStore for Down {
        async fn claim(&self, _: Claim) -> Result<(), ClaimError> {
            Err(ClaimError::Unavailable { retry_after: 3 })
        }
    }
    let signed = verify(&signed_by(1), Some(machine(&[1]))).unwrap();
    let denied = block_on(signed.check_state(NOW).unwrap().claim(&Down)).unwrap_err();
    assert_eq!(
        denied.refusal,
        Refusal::ReplayUnavailable { retry_after: 3 }
    );
}

#[test]
fn a_forged_request_does_not_spend_the_nonce_it_names() {
    // The type of `claim` already demands a verified request; this shows the whole path.
    let store = CountingStore::default();
    assert!(verify(&signed_by(2), Some(machine(&[1]))).is_err());
    assert_eq!(store.asked.load(Ordering::Relaxed), 0);
    let honest = verify(&signed_by(1), Some(machine(&[1]))).unwrap();
    assert!(block_on(honest.check_state(NOW).unwrap().claim(&store)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Headers, target and body: whichever bit is flipped, the request is refused. (The method
    /// is a closed list and has its own test.)
    #[test]
    fn any_flipped_bit_refuses(part in 0usize..6, position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut request = signed_by(1);
        let mut target = request.target.clone().into_bytes();
        let bytes = match part {
            0..=3 => &mut request.headers[part],
            4 => &mut request.body,
            _ => &mut target,
        };
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        let verdict = match String::from_utf8(target) {
            Ok(target) => {
                request.target = target;
                verify(&request, Some(machine(&[1])))
            }
            Err(_) => return Ok(()), // not a target at all
        };
        prop_assert!(verdict.is_err());
    }

    #[test]
    fn another_method_refuses(index in 0usize..8) {
        let mut request = signed_by(1);
        request.method = crate::method::METHODS[index];
        let verdict = verify(&request, Some(machine(&[1])));
        prop_assert_eq!(verdict.is_ok(), request.method == "POST");
    }

    #[test]
    fn the_timestamp_is_judged_at_its_second(offset in -400i64..400) {
        let request = signed_by(1);
        let now = NOW.saturating_add_signed(offset);
        let headers = SigningHeaders::parse(|header| {
            let index = SigningHeader::ALL.iter().position(|h| *h == header).unwrap();
            Occurrence::Once(&request.headers[index])
        })
        .unwrap();
        let target = Target::parse(b"/").unwrap().under(QueryPolicy::Strip).unwrap();
        let attempt = Attempt::new(Method::accept("GET", &[]).unwrap(), target, headers);
        let inside = (-300..=300).contains(&offset);
        match attempt.check_time(now, &WINDOW) {
            Ok(_) => prop_assert!(inside),
            Err(refusal) => {
                prop_assert!(!inside);
                prop_assert_eq!(refusal, Refusal::ClockSkew { server_time: now });
            }
        }
    }
}
