//! The answers of the calls, as JSON. Times are RFC 3339, in UTC.

use serde::Serialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::config::instant;
use crate::registry::database::{EntryPage, LoggedChange, Revision, StoredToken};
use crate::registry::{CheckedEntry, CheckedGroup};
use countersign_core::identity::MachineId;

/// The body of an answer, wiped when it is dropped: one holds a token.
pub type CallAnswer = Zeroizing<Vec<u8>>;

/// A page of machines, and the groups that they are in.
pub fn machines(page: &EntryPage, groups: &[CheckedGroup]) -> CallAnswer {
    #[derive(Serialize)]
    struct MachinesAnswer<'a> {
        machines: Vec<&'a Map<String, Value>>,
        groups: Vec<&'a Map<String, Value>>,
        next: Option<&'a str>,
        revision: u64,
    }
    let is_used = |group: &&CheckedGroup| {
        let mut used = page.entries.iter().flat_map(CheckedEntry::groups);
        used.any(|name| name == group.name())
    };
    encode(&MachinesAnswer {
        machines: page.entries.iter().map(CheckedEntry::fields).collect(),
        groups: (groups.iter().filter(is_used))
            .map(CheckedGroup::fields)
            .collect(),
        next: page.next.as_ref().map(MachineId::as_str),
        revision: page.revision.0,
    })
}

/// One machine, and when this gateway last accepted a request of it.
pub fn machine(entry: &CheckedEntry, last_used: Option<u64>) -> CallAnswer {
    #[derive(Serialize)]
    struct MachineAnswer<'a> {
        #[serde(flatten)]
        fields: &'a Map<String, Value>,
        last_used: Option<String>,
    }
    encode(&MachineAnswer {
        fields: entry.fields(),
        last_used: last_used.map(instant::to_text),
    })
}

/// Machines were added.
pub fn added(count: usize, revision: Revision) -> CallAnswer {
    #[derive(Serialize)]
    struct AddedAnswer {
        added: usize,
        revision: u64,
    }
    encode(&AddedAnswer {
        added: count,
        revision: revision.0,
    })
}

/// A change was made.
pub fn changed(revision: Revision) -> CallAnswer {
    #[derive(Serialize)]
    struct ChangedAnswer {
        revision: u64,
    }
    encode(&ChangedAnswer {
        revision: revision.0,
    })
}

/// A machine got a new key and a new end, in Unix seconds.
pub fn renewed(revision: Revision, expires: u64) -> CallAnswer {
    #[derive(Serialize)]
    struct RenewedKeyAnswer {
        revision: u64,
        expires: String,
    }
    encode(&RenewedKeyAnswer {
        revision: revision.0,
        expires: instant::to_text(expires),
    })
}

/// A token was created. This answer alone has it.
pub fn token(id: &str, token: &str) -> CallAnswer {
    #[derive(Serialize)]
    struct NewTokenAnswer<'a> {
        id: &'a str,
        token: &'a str,
    }
    // Room for all of it: a buffer that grew would leave the token in the memory of the old one.
    let mut body = Zeroizing::new(Vec::with_capacity(64 + id.len() + token.len()));
    let _ = serde_json::to_writer(&mut *body, &NewTokenAnswer { id, token });
    body
}

/// All tokens, without their secret.
pub fn tokens(tokens: &[StoredToken]) -> CallAnswer {
    #[derive(Serialize)]
    struct TokensAnswer<'a> {
        tokens: Vec<StoredTokenFields<'a>>,
    }
    encode(&TokensAnswer {
        tokens: tokens.iter().map(StoredTokenFields::of).collect(),
    })
}

/// A token was revoked.
pub fn revoked(id: &str) -> CallAnswer {
    #[derive(Serialize)]
    struct RevokedAnswer<'a> {
        revoked: &'a str,
    }
    encode(&RevokedAnswer { revoked: id })
}

/// Changes, and the revision in force.
pub fn changes(changes: &[LoggedChange], revision: Revision) -> CallAnswer {
    #[derive(Serialize)]
    struct ChangesAnswer<'a> {
        changes: Vec<ChangeFields<'a>>,
        revision: u64,
    }
    encode(&ChangesAnswer {
        changes: changes.iter().map(ChangeFields::of).collect(),
        revision: revision.0,
    })
}

#[derive(Serialize)]
struct StoredTokenFields<'a> {
    id: &'a str,
    max_uses: u32,
    uses: u32,
    expires: String,
    by: &'a str,
    created: String,
    revoked: Option<String>,
    terms: &'a Value,
}

impl<'a> StoredTokenFields<'a> {
    fn of(token: &'a StoredToken) -> StoredTokenFields<'a> {
        StoredTokenFields {
            id: &token.id,
            max_uses: token.max_uses,
            uses: token.uses,
            expires: instant::to_text(token.expires),
            by: &token.by,
            created: instant::to_text(token.created),
            revoked: token.revoked.map(instant::to_text),
            terms: &token.terms,
        }
    }
}

#[derive(Serialize)]
struct ChangeFields<'a> {
    revision: u64,
    ts: String,
    by: &'a str,
    request_id: &'a str,
    added: Vec<&'a str>,
    removed: Vec<&'a str>,
    changed: Vec<&'a str>,
    /// The whole registry was replaced; then the lists are empty.
    replaced: bool,
}

impl<'a> ChangeFields<'a> {
    fn of(change: &'a LoggedChange) -> ChangeFields<'a> {
        let ids = |ids: &'a [MachineId]| ids.iter().map(MachineId::as_str).collect();
        ChangeFields {
            revision: change.revision.0,
            ts: instant::to_text(change.at),
            by: &change.by,
            request_id: &change.request_id,
            added: ids(&change.added),
            removed: ids(&change.removed),
            changed: ids(&change.changed),
            replaced: change.is_replacement,
        }
    }
}

/// No answer holds what JSON cannot say.
fn encode(answer: &impl Serialize) -> CallAnswer {
    Zeroizing::new(serde_json::to_vec(answer).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &CallAnswer) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    fn entry(value: Value) -> CheckedEntry {
        let mut value = value;
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key();
        value["public_keys"] = json!([crate::registry::key_format::to_base64(key.as_bytes())]);
        CheckedEntry::parse(&value).unwrap()
    }

    fn group(name: &str) -> CheckedGroup {
        CheckedGroup::parse(&json!({"name": name, "allow": ["GET /a"]})).unwrap()
    }

    #[test]
    fn a_page_names_its_machines_the_next_page_and_the_groups_that_it_uses() {
        let page = EntryPage {
            entries: vec![entry(json!({"id": "a", "groups": ["web"]}))],
            next: MachineId::parse("a"),
            revision: Revision(7),
        };
        let answer = read(&machines(&page, &[group("db"), group("web")]));
        assert_eq!(answer["machines"][0]["id"], "a");
        assert_eq!(
            (&answer["next"], &answer["revision"]),
            (&json!("a"), &json!(7))
        );
        let groups: Vec<&Value> = answer["groups"].as_array().unwrap().iter().collect();
        assert_eq!((groups.len(), &groups[0]["name"]), (1, &json!("web")));
    }

    #[test]
    fn the_last_page_has_no_next_one() {
        let page = EntryPage {
            entries: Vec::new(),
            next: None,
            revision: Revision(0),
        };
        let expected = json!({"machines": [], "groups": [], "next": null, "revision": 0});
        assert_eq!(read(&machines(&page, &[])), expected);
    }

    #[test]
    fn a_machine_tells_when_it_was_last_used() {
        let entry = entry(json!({"id": "a", "enabled": false}));
        let answer = read(&machine(&entry, Some(1_800_000_000)));
        assert_eq!(answer["last_used"], "2027-01-15T08:00:00Z");
        assert_eq!(answer["enabled"], false);
        assert_eq!(read(&machine(&entry, None))["last_used"], Value::Null);
    }

    #[test]
    fn answers_to_changes_have_the_revision() {
        assert_eq!(
            read(&added(3, Revision(9))),
            json!({"added": 3, "revision": 9})
        );
        assert_eq!(read(&changed(Revision(9))), json!({"revision": 9}));
        assert_eq!(read(&revoked("t-1")), json!({"revoked": "t-1"}));
    }

    #[test]
    fn the_token_stands_in_a_buffer_that_has_not_moved() {
        let body = token("t-1", &"x".repeat(47));
        assert!(body.len() <= 64 + 3 + 47);
        assert_eq!(read(&body)["token"], "x".repeat(47));
    }

    #[test]
    fn a_listed_token_has_its_uses_and_its_author() {
        let stored = StoredToken {
            id: "t-1".into(),
            max_uses: 10,
            uses: 2,
            expires: 1_800_000_000,
            terms: json!({"vault": "prod"}),
            by: "alice".into(),
            created: 1_799_999_000,
            revoked: None,
        };
        let answer = read(&tokens(&[stored]));
        let listed = &answer["tokens"][0];
        assert_eq!(
            (&listed["uses"], &listed["by"]),
            (&json!(2), &json!("alice"))
        );
        assert_eq!(listed["terms"]["vault"], "prod");
        assert_eq!(listed["revoked"], Value::Null);
    }

    #[test]
    fn a_change_names_machines_author_and_request() {
        let change = LoggedChange {
            revision: Revision(3),
            at: 1_800_000_000,
            by: "alice".into(),
            request_id: "r-1".into(),
            added: vec![MachineId::parse("a").unwrap()],
            removed: Vec::new(),
            changed: Vec::new(),
            is_replacement: false,
        };
        assert_eq!(
            read(&changes(&[change], Revision(5))),
            json!({"revision": 5, "changes": [{
                "revision": 3, "ts": "2027-01-15T08:00:00Z", "by": "alice", "request_id": "r-1",
                "added": ["a"], "removed": [], "changed": [], "replaced": false,
            }]})
        );
    }
}
