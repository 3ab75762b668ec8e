//! Changes of one machine that is there.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::change_log::{Author, ChangeScope, Revision, TouchedIds};
use super::connect::Database;
use super::connection::Argument::{self, Bytes, Text};
use super::read::{checked, entry_text, search_text};
use super::transaction::Transaction;
use super::write_error::WriteError;
use crate::config::instant;
use crate::registry::checked_entry::CheckedEntry;
use crate::registry::key_format;
use countersign_core::identity::{Machine, MachineId};

impl Database {
    /// Changes fields of a machine; `null` removes one. A patch without effect is no change.
    ///
    /// # Errors
    ///
    /// [`WriteError::NoMachine`]; as [`Database::add`] otherwise.
    pub async fn patch(
        &self,
        id: &MachineId,
        patch: &Map<String, Value>,
        author: &Author,
    ) -> Result<Revision, WriteError> {
        self.edit(id, Edit::Patch(patch), author).await
    }

    /// Adds a key. The machine's other keys end at `others_end` (Unix seconds) if not before; keys
    /// that have ended by [`Author::at`] are taken out where the new one needs their place.
    /// `expires` sets the machine's own end.
    ///
    /// # Errors
    ///
    /// [`WriteError::Invalid`] for a weak key, or one too many; otherwise as [`Database::patch`].
    pub async fn add_key(
        &self,
        id: &MachineId,
        key: [u8; 32],
        others_end: u64,
        expires: Option<u64>,
        author: &Author,
    ) -> Result<Revision, WriteError> {
        let new = Edit::NewKey {
            key,
            others_end,
            expires,
            now: author.at,
        };
        self.edit(id, new, author).await
    }

    async fn edit(
        &self,
        id: &MachineId,
        edit: Edit<'_>,
        author: &Author,
    ) -> Result<Revision, WriteError> {
        let mut change = self.begin_change().await?;
        match change.edit(id, edit).await {
            Ok(true) => {
                let touched = TouchedIds {
                    changed: vec![id.as_str().to_owned()],
                    ..TouchedIds::default()
                };
                change.commit(touched, ChangeScope::Machines, author).await
            }
            Ok(false) => {
                let revision = change.revision_before();
                change.roll_back().await;
                Ok(revision)
            }
            Err(error) => {
                change.roll_back().await;
                Err(error)
            }
        }
    }
}

/// A change of one machine.
enum Edit<'a> {
    Patch(&'a Map<String, Value>),
    NewKey {
        key: [u8; 32],
        others_end: u64,
        expires: Option<u64>,
        now: u64,
    },
}

impl Edit<'_> {
    fn applied_to(&self, entry: &CheckedEntry) -> Result<CheckedEntry, WriteError> {
        let patched = match self {
            Edit::Patch(patch) => entry.patched(patch),
            Edit::NewKey { key, .. } if entry.keys().contains(key) => {
                let id = entry.id();
                return Err(WriteError::Exists(format!("{id} has this key already")));
            }
            Edit::NewKey {
                key,
                others_end,
                expires,
                now,
            } => {
                let mut patch = Map::new();
                let keys = with_new_key(entry, key, *others_end, *now);
                patch.insert("public_keys".to_owned(), Value::Array(keys));
                if let Some(expires) = expires {
                    patch.insert("expires".to_owned(), json!(instant::to_text(*expires)));
                }
                entry.patched(&patch)
            }
        };
        patched.map_err(WriteError::Invalid)
    }
}

/// The keys of an entry with their ends, and a new one.
fn with_new_key(entry: &CheckedEntry, key: &[u8; 32], others_end: u64, now: u64) -> Vec<Value> {
    let old = entry.fields().get("public_keys").and_then(Value::as_array);
    let mut keys = Vec::with_capacity(Machine::MAX_KEYS);
    for old in old.into_iter().flatten() {
        let mut dated = match old {
            Value::Object(dated) => dated.clone(),
            text => Map::from_iter([("key".to_owned(), text.clone())]),
        };
        let end = dated.get("not_after").and_then(Value::as_str);
        let end = end.and_then(instant::to_unix_seconds);
        let end = end.map_or(others_end, |end| end.min(others_end));
        dated.insert("not_after".to_owned(), json!(instant::to_text(end)));
        keys.push((end, Value::Object(dated)));
    }
    while keys.len() >= Machine::MAX_KEYS {
        let ended = (keys.iter().enumerate())
            .filter(|(_, (end, _))| *end <= now)
            .min_by_key(|(_, (end, _))| *end);
        match ended.map(|(index, _)| index) {
            Some(index) => keys.remove(index),
            // The reader of the entry says that there are too many.
            None => break,
        };
    }
    let keys = keys.into_iter().map(|(_, key)| key);
    keys.chain([json!(key_format::to_base64(key))]).collect()
}

impl Transaction {
    /// Changes a machine. Whether its entry is another one now.
    async fn edit(&mut self, id: &MachineId, edit: Edit<'_>) -> Result<bool, WriteError> {
        let Some(text) = entry_text(&mut self.session, id).await? else {
            return Err(WriteError::NoMachine);
        };
        let before = checked(&text)?;
        let after = edit.applied_to(&before)?;
        if after == before {
            return Ok(false);
        }
        let (old, new): (HashSet<_>, HashSet<_>) = (
            before.keys().iter().collect(),
            after.keys().iter().collect(),
        );
        let fresh: Vec<&[u8; 32]> = new.difference(&old).copied().collect();
        let wanted: Vec<_> = fresh.iter().map(|key| (*key, id)).collect();
        self.refuse_taken_keys(&wanted).await?;
        self.refuse_missing_groups(&after.groups().collect())
            .await?;
        for key in old.difference(&new) {
            let sql = "DELETE FROM machine_key WHERE public_key = $1";
            self.session.execute(sql, &[Bytes(*key)]).await?;
        }
        let rows: Vec<Argument<'_>> = (fresh.iter())
            .flat_map(|key| [Bytes(*key), Text(id.as_str())])
            .collect();
        self.insert("INSERT INTO machine_key (public_key, id) VALUES", 2, &rows)
            .await?;
        let sql = "UPDATE machine SET entry = $2, search = $3 WHERE id = $1";
        let search = search_text(&after);
        let values = [Text(id.as_str()), Text(after.json()), Text(&search)];
        self.session.execute(sql, &values).await?;
        Ok(true)
    }
}
