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
use countersign_core::identity::{Machine, MachineId, PublicKey};
use countersign_core::refusal::Refusal;

/// What a machine is told whose new key is another machine's or an operator's. It does not learn
/// whose.
pub const TAKEN_KEY: &str = "public_key: the key is taken; make another key.";

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
        let (revision, _) = self.edit(id, Edit::Patch(patch), author).await?;
        Ok(revision)
    }

    /// Adds a key. The machine's other keys end at `others_end` (Unix seconds) if not before; keys
    /// that have ended by [`Author::at`] are taken out where the new one needs their place.
    ///
    /// # Errors
    ///
    /// [`WriteError::Invalid`] for a weak key, or one too many; otherwise as [`Database::patch`].
    pub async fn add_key(
        &self,
        id: &MachineId,
        key: [u8; 32],
        others_end: u64,
        author: &Author,
    ) -> Result<Revision, WriteError> {
        let new = Edit::NewKey {
            key,
            others_end,
            now: author.at,
        };
        let (revision, _) = self.edit(id, new, author).await?;
        Ok(revision)
    }

    /// Renews a machine: adds the key that it asks for beside its others, and moves its end. Both
    /// follow the entry as it is in this transaction, at [`Author::at`]: the registry in the memory
    /// of the gateway that verified `signer` may be older. The new end of the machine comes back, in
    /// Unix seconds.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] if the machine is gone, or may not act with the key `signer`;
    /// [`WriteError::Invalid`] if it may not renew itself or the key is taken; otherwise as [`Database::add_key`].
    pub async fn renew(
        &self,
        id: &MachineId,
        key: [u8; 32],
        signer: &PublicKey,
        author: &Author,
    ) -> Result<(Revision, u64), WriteError> {
        let now = author.at;
        let renewal = Edit::Renewal { key, signer, now };
        let renewed = self.edit(id, renewal, author).await;
        let (revision, entry) = renewed.map_err(|error| match error {
            // To the client of a machine that is gone, it never was there.
            WriteError::NoMachine => WriteError::Refused(Refusal::BadSignature),
            other => other,
        })?;
        let ends = entry.renewal_ends(now).map_err(WriteError::Invalid)?;
        Ok((revision, ends.expires))
    }

    async fn edit(
        &self,
        id: &MachineId,
        edit: Edit<'_>,
        author: &Author,
    ) -> Result<(Revision, CheckedEntry), WriteError> {
        let mut change = self.begin_change().await?;
        match change.edit(id, edit).await {
            Ok((entry, true)) => {
                let touched = TouchedIds {
                    changed: vec![id.as_str().to_owned()],
                    ..TouchedIds::default()
                };
                let committing = change.commit(touched, ChangeScope::Machines, author);
                Ok((committing.await?, entry))
            }
            Ok((entry, false)) => {
                let revision = change.revision_before();
                change.roll_back().await;
                Ok((revision, entry))
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
        now: u64,
    },
    Renewal {
        key: [u8; 32],
        signer: &'a PublicKey,
        now: u64,
    },
}

impl Edit<'_> {
    fn applied_to(&self, entry: &CheckedEntry) -> Result<CheckedEntry, WriteError> {
        match self {
            Edit::Patch(patch) => entry.patched(patch).map_err(WriteError::Invalid),
            Edit::NewKey {
                key,
                others_end,
                now,
            } => with_key(entry, key, *others_end, None, *now),
            Edit::Renewal { key, signer, now } => {
                let checked = entry.check_signer(signer, *now);
                checked.map_err(WriteError::Refused)?;
                let ends = entry.renewal_ends(*now).map_err(WriteError::Invalid)?;
                with_key(entry, key, ends.others_end, Some(ends.expires), *now)
            }
        }
    }
}

/// The entry with a new key, and with another end if `expires` gives one.
fn with_key(
    entry: &CheckedEntry,
    key: &[u8; 32],
    others_end: u64,
    expires: Option<u64>,
    now: u64,
) -> Result<CheckedEntry, WriteError> {
    if entry.keys().contains(key) {
        let id = entry.id();
        return Err(WriteError::Exists(format!("{id} has this key already")));
    }
    let mut patch = Map::new();
    let keys = keys_with_new(entry, key, others_end, now);
    patch.insert("public_keys".to_owned(), Value::Array(keys));
    if let Some(expires) = expires {
        patch.insert("expires".to_owned(), json!(instant::to_text(expires)));
    }
    entry.patched(&patch).map_err(WriteError::Invalid)
}

/// The keys of an entry with their ends, and a new one.
fn keys_with_new(entry: &CheckedEntry, key: &[u8; 32], others_end: u64, now: u64) -> Vec<Value> {
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
    /// Changes a machine. Its entry, and whether it is another one now.
    async fn edit(
        &mut self,
        id: &MachineId,
        edit: Edit<'_>,
    ) -> Result<(CheckedEntry, bool), WriteError> {
        let Some(text) = entry_text(&mut self.session, id).await? else {
            return Err(WriteError::NoMachine);
        };
        let before = checked(&text)?;
        let after = edit.applied_to(&before)?;
        if after == before {
            return Ok((after, false));
        }
        let (old, new): (HashSet<_>, HashSet<_>) = (
            before.keys().iter().collect(),
            after.keys().iter().collect(),
        );
        let fresh: Vec<&[u8; 32]> = new.difference(&old).copied().collect();
        let wanted: Vec<_> = fresh.iter().map(|key| (*key, id)).collect();
        let free = self.refuse_taken_keys(&wanted).await;
        free.map_err(|error| match (&edit, error) {
            (Edit::Renewal { .. }, WriteError::Exists(_)) => {
                WriteError::Invalid(vec![TAKEN_KEY.to_owned()])
            }
            (_, error) => error,
        })?;
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
        Ok((after, true))
    }
}
