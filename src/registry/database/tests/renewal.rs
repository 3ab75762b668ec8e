//! Renewals, judged by the row as it is in their transaction.

use super::*;
use crate::config::instant;
use countersign_core::identity::PublicKey;
use countersign_core::refusal::Refusal;

const NOW: u64 = 1_800_000_000;

const DAY: u64 = 86_400;

fn public(number: u64) -> PublicKey {
    PublicKey::from_bytes(&bytes(number)).unwrap()
}

/// A machine that may renew itself with key 1, and ends in an hour.
async fn renewable() -> Fixture {
    let it = fixture().await;
    let machine = json!({"id": "a", "public_keys": [key(1)], "may_renew": true,
        "expires_in": "1d", "expires": instant::to_text(NOW + 3600)});
    let added = it.database.add(&[parsed(machine)], &author(NOW - 9)).await;
    added.unwrap();
    it
}

/// Renews with key 2, which key 1 signs for, after an operator's patch.
async fn renewed_after(it: &Fixture, patch: &Value) -> Result<(Revision, u64), WriteError> {
    let database = &it.database;
    let (machine, operator) = (id("a"), author(NOW - 1));
    let patched = database.patch(&machine, patch.as_object().unwrap(), &operator);
    patched.await.unwrap();
    let before = database.entry(&id("a")).await.unwrap();
    let renewed = database
        .renew(&id("a"), bytes(2), &public(1), &author(NOW))
        .await;
    if renewed.is_err() {
        let after = database.entry(&id("a")).await.unwrap();
        assert_eq!(after, before, "a refused renewal changes nothing");
    }
    renewed
}

async fn refused_after(patch: Value) -> Option<Refusal> {
    let it = renewable().await;
    match renewed_after(&it, &patch).await {
        Err(WriteError::Refused(refusal)) => Some(refusal),
        other => panic!("{patch}: {other:?}"),
    }
}

#[tokio::test]
async fn a_renewal_adds_the_key_ends_the_old_one_and_moves_the_end() {
    let it = renewable().await;
    let renewed = renewed_after(&it, &json!({})).await;
    assert_eq!(renewed, Ok((Revision(2), NOW + DAY)));
    let entry = it.database.entry(&id("a")).await.unwrap().unwrap();
    assert_eq!(entry.keys(), [bytes(1), bytes(2)]);
    let fields = entry.fields();
    assert_eq!(fields["expires"], json!(instant::to_text(NOW + DAY)));
    let end = &fields["public_keys"][0]["not_after"];
    assert_eq!(*end, json!(instant::to_text(NOW + 3600)));
}

#[tokio::test]
async fn a_key_that_was_replaced_does_not_renew() {
    let replaced = json!({"public_keys": [key(3)]});
    assert_eq!(refused_after(replaced).await, Some(Refusal::BadSignature));
}

#[tokio::test]
async fn a_key_that_is_outside_its_dates_does_not_renew() {
    for dates in [
        json!({"key": key(1), "not_after": instant::to_text(NOW - 1)}),
        json!({"key": key(1), "not_before": instant::to_text(NOW + 1)}),
    ] {
        let dated = json!({"public_keys": [dates, key(3)]});
        assert_eq!(refused_after(dated).await, Some(Refusal::MachineExpired));
    }
}

#[tokio::test]
async fn a_disabled_machine_does_not_renew() {
    let off = json!({"enabled": false});
    assert_eq!(refused_after(off).await, Some(Refusal::MachineDisabled));
}

#[tokio::test]
async fn a_machine_outside_its_dates_does_not_renew() {
    for dates in [
        json!({"expires": instant::to_text(NOW)}),
        json!({"not_before": instant::to_text(NOW + 1)}),
    ] {
        assert_eq!(refused_after(dates).await, Some(Refusal::MachineExpired));
    }
}

#[tokio::test]
async fn a_machine_that_is_gone_does_not_renew() {
    let it = renewable().await;
    let removed = it.database.remove(&id("a"), &author(NOW - 1)).await;
    removed.unwrap();
    let renewed = it
        .database
        .renew(&id("a"), bytes(2), &public(1), &author(NOW))
        .await;
    assert_eq!(renewed, Err(WriteError::Refused(Refusal::BadSignature)));
}

#[tokio::test]
async fn an_end_that_was_moved_nearer_moves_on_only_while_the_machine_may_renew() {
    let nearer = instant::to_text(NOW + 60);
    let it = renewable().await;
    let renewed = renewed_after(&it, &json!({"expires": nearer})).await;
    assert_eq!(renewed, Ok((Revision(3), NOW + DAY)));
    for may_renew in [json!(null), json!(false)] {
        let it = renewable().await;
        let last = json!({"expires": nearer, "may_renew": may_renew});
        match renewed_after(&it, &last).await {
            Err(WriteError::Invalid(told)) => assert!(told[0].contains("may_renew"), "{told:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_life_that_was_changed_counts_at_once() {
    let it = renewable().await;
    let renewed = renewed_after(&it, &json!({"expires_in": "2h"})).await;
    assert_eq!(renewed, Ok((Revision(3), NOW + 7200)));
}

#[tokio::test]
async fn a_renewal_with_the_key_of_another_machine_does_not_learn_whose_it_is() {
    let it = renewable().await;
    let other = it.database.add(&[entry("b", 2)], &author(NOW - 5)).await;
    other.unwrap();
    let renewed = renewed_after(&it, &json!({})).await;
    assert_eq!(renewed, Err(WriteError::Invalid(vec![TAKEN_KEY.into()])));
}
