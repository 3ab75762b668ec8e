//! Changes of machines. Each is one transaction, and one revision.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::change_log::{Author, ChangeScope, Revision, TouchedIds};
use super::connect::Database;
use super::connection::Argument::{self, Bytes, Int, Text};
use super::read::search_text;
use super::transaction::Transaction;
use super::write_error::WriteError;
use crate::config::instant;
use crate::registry::checked_entry::CheckedEntry;
use countersign_core::identity::MachineId;

impl Database {
    /// Adds machines, all or none. No machine at all is no change.
    ///
    /// # Errors
    ///
    /// [`WriteError::Exists`] if an id or a key is taken; [`WriteError::Invalid`] if a group does
    /// not exist, or two of the entries share an id or a key; [`WriteError::Unavailable`].
    pub async fn add(
        &self,
        entries: &[CheckedEntry],
        author: &Author,
    ) -> Result<Revision, WriteError> {
        let mut change = self.begin_change().await?;
        if entries.is_empty() {
            let revision = change.revision_before();
            change.roll_back().await;
            return Ok(revision);
        }
        match change.add(entries, self.folds_case()).await {
            Ok(touched) => change.commit(touched, ChangeScope::Machines, author).await,
            Err(error) => {
                change.roll_back().await;
                Err(error)
            }
        }
    }

    /// Removes a machine, and leaves a tombstone: its id and keys stay taken.
    ///
    /// # Errors
    ///
    /// [`WriteError::NoMachine`], [`WriteError::Unavailable`].
    pub async fn remove(&self, id: &MachineId, author: &Author) -> Result<Revision, WriteError> {
        let mut change = self.begin_change().await?;
        let sql = "UPDATE machine SET entry = NULL, removed = $2, search = '' \
                   WHERE id = $1 AND entry IS NOT NULL";
        let values = [Text(id.as_str()), Int(author.at)];
        if change.session.execute(sql, &values).await? == 0 {
            change.roll_back().await;
            return Err(WriteError::NoMachine);
        }
        let touched = TouchedIds {
            removed: vec![id.as_str().to_owned()],
            ..TouchedIds::default()
        };
        change.commit(touched, ChangeScope::Machines, author).await
    }
}

impl Transaction {
    /// Adds machines whose ids, keys and groups are free and there.
    pub(super) async fn add(
        &mut self,
        entries: &[CheckedEntry],
        folds_case: bool,
    ) -> Result<TouchedIds, WriteError> {
        refuse_twins(entries, folds_case)?;
        self.refuse_taken_ids(entries, folds_case).await?;
        self.refuse_taken_keys(&keys_of(entries)).await?;
        let groups: BTreeSet<&str> = entries.iter().flat_map(CheckedEntry::groups).collect();
        self.refuse_missing_groups(&groups).await?;
        self.insert_machines(entries).await?;
        Ok(TouchedIds {
            added: entries.iter().map(|entry| entry.id().to_string()).collect(),
            ..TouchedIds::default()
        })
    }

    pub(super) async fn insert_machines(
        &mut self,
        entries: &[CheckedEntry],
    ) -> Result<(), WriteError> {
        for entries in entries.chunks(super::transaction::BATCH) {
            let texts: Vec<(String, String)> = (entries.iter())
                .map(|entry| (entry.id().as_str().to_ascii_lowercase(), search_text(entry)))
                .collect();
            let rows: Vec<Argument<'_>> = (entries.iter().zip(&texts))
                .flat_map(|(entry, (folded, search))| {
                    let id = entry.id().as_str();
                    [Text(id), Text(folded), Text(search), Text(entry.json())]
                })
                .collect();
            let sql = "INSERT INTO machine (id, folded, search, entry) VALUES";
            self.insert(sql, 4, &rows).await?;
            let keys: Vec<Argument<'_>> = (entries.iter())
                .flat_map(|entry| entry.keys().iter().map(move |key| (key, entry.id())))
                .flat_map(|(key, id)| [Bytes(key), Text(id.as_str())])
                .collect();
            self.insert("INSERT INTO machine_key (public_key, id) VALUES", 2, &keys)
                .await?;
        }
        Ok(())
    }

    async fn refuse_taken_ids(
        &mut self,
        entries: &[CheckedEntry],
        folds_case: bool,
    ) -> Result<(), WriteError> {
        let folded: Vec<String> = match folds_case {
            true => (entries.iter())
                .map(|entry| entry.id().as_str().to_ascii_lowercase())
                .collect(),
            false => Vec::new(),
        };
        let (sql, values) = match folds_case {
            true => (
                "SELECT id, removed FROM machine WHERE folded IN ({})",
                folded.iter().map(|id| Text(id)).collect::<Vec<_>>(),
            ),
            false => (
                "SELECT id, removed FROM machine WHERE id IN ({})",
                entries
                    .iter()
                    .map(|entry| Text(entry.id().as_str()))
                    .collect(),
            ),
        };
        let mut taken = Vec::new();
        for row in self.look_up(sql, &values).await? {
            let id = self.session.value(row.text(0))?;
            let is_same = entries.iter().any(|entry| entry.id().as_str() == id);
            taken.push(match self.session.value(row.maybe_int(1))? {
                _ if !is_same => format!(
                    "there is a machine {id}, whose id differs in case only, and the backend at \
                     which machines log in would take the two for one machine; choose another id"
                ),
                None => format!("there is a machine {id} already"),
                Some(at) => format!(
                    "{id} was the id of a machine that was removed on {}, and old records name it; \
                     choose another id",
                    instant::to_text(at)
                ),
            });
        }
        refuse(taken, WriteError::Exists)
    }

    /// Refuses keys that are taken; each comes with the id of its machine.
    pub(super) async fn refuse_taken_keys(
        &mut self,
        keys: &[(&[u8; 32], &MachineId)],
    ) -> Result<(), WriteError> {
        let wanted: HashMap<&[u8; 32], &MachineId> = keys.iter().copied().collect();
        let values: Vec<Argument<'_>> = wanted.keys().map(|key| Bytes(*key)).collect();
        let sql = "SELECT k.public_key, k.id, m.removed FROM machine_key k \
                   LEFT JOIN machine m ON m.id = k.id WHERE k.public_key IN ({})";
        let mut taken = Vec::new();
        for row in self.look_up(sql, &values).await? {
            let key = self.session.value(row.bytes(0))?;
            let owner = self.session.value(row.text(1))?;
            let removed = self.session.value(row.maybe_int(2))?;
            let machine = <&[u8; 32]>::try_from(&key[..]).ok();
            let machine = machine.and_then(|key| wanted.get(key));
            let machine = machine.map_or("", |id| id.as_str());
            taken.push(match removed {
                None => format!("a key of {machine} is a key of the machine {owner} already"),
                Some(_) => format!(
                    "a key of {machine} was that of the removed machine {owner}, and old records \
                     name it; make a new key"
                ),
            });
        }
        refuse(taken, WriteError::Exists)
    }

    pub(super) async fn refuse_missing_groups(
        &mut self,
        groups: &BTreeSet<&str>,
    ) -> Result<(), WriteError> {
        let values: Vec<Argument<'_>> = groups.iter().map(|group| Text(group)).collect();
        let sql = "SELECT name FROM machine_group WHERE name IN ({})";
        let mut known = HashSet::new();
        for row in self.look_up(sql, &values).await? {
            known.insert(self.session.value(row.text(0))?);
        }
        let missing = groups.iter().filter(|group| !known.contains(**group));
        let missing: Vec<String> = missing
            .map(|group| format!("groups: there is no group {group}"))
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(WriteError::Invalid(missing)),
        }
    }
}

fn keys_of(entries: &[CheckedEntry]) -> Vec<(&[u8; 32], &MachineId)> {
    let mut keys = Vec::with_capacity(entries.len());
    for entry in entries {
        keys.extend(entry.keys().iter().map(|key| (key, entry.id())));
    }
    keys
}

/// Most mistakes that one error lists.
const MOST_LISTED: usize = 100;

fn refuse(mut texts: Vec<String>, error: fn(String) -> WriteError) -> Result<(), WriteError> {
    if texts.is_empty() {
        return Ok(());
    }
    texts.sort_unstable();
    let more = texts.len().saturating_sub(MOST_LISTED);
    texts.truncate(MOST_LISTED);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    Err(error(texts.join("\n")))
}

/// Refuses two entries of one call with the same id or key.
fn refuse_twins(entries: &[CheckedEntry], folds_case: bool) -> Result<(), WriteError> {
    let (mut ids, mut keys) = (HashSet::new(), HashMap::new());
    let mut twins = Vec::new();
    for entry in entries {
        let id = entry.id().as_str();
        let is_new = match folds_case {
            true => ids.insert(id.to_ascii_lowercase()),
            false => ids.insert(id.to_owned()),
        };
        if !is_new {
            twins.push(format!("{id}: the id is used twice"));
        }
        for key in entry.keys() {
            if let Some(other) = keys.insert(key, id) {
                twins.push(format!("{id}: a key is one of {other} too"));
            }
        }
    }
    twins.truncate(MOST_LISTED);
    match twins.is_empty() {
        true => Ok(()),
        false => Err(WriteError::Invalid(twins)),
    }
}
