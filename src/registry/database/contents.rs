//! A whole registry: export and import.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::change_log::{Author, ChangeScope, Revision, TouchedIds, position};
use super::connect::Database;
use super::connection::Argument::{Bytes, Int, Text};
use super::read::{checked, checked_group, group_texts};
use super::session::{Purpose, Session};
use super::transaction::Transaction;
use super::write_error::WriteError;
use crate::config::instant;
use crate::registry::checked_entry::{CheckedEntry, CheckedGroup};
use crate::registry::entry::Lists;
use crate::registry::ids::IdCase;
use crate::registry::removed::Tombstone;
use crate::registry::{fields, key_format, keys};
use crate::yaml::{self, Mistakes, Notes, quoted};
use countersign_core::identity::{MachineId, PublicKey};

/// Everything that a registry holds. [`RegistryContents::parse`] checked it as a whole, or a
/// database that holds the same rules gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryContents {
    /// The groups.
    pub groups: Vec<CheckedGroup>,
    /// The machines.
    pub machines: Vec<CheckedEntry>,
    /// The tombstones.
    pub removed: Vec<Tombstone>,
}

/// How an import treats what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMode {
    /// The content takes the place of everything. Machines that it lacks leave no tombstone.
    Replace,
    /// The content is added; an id, a key or a group that differs from what is there is a mistake.
    Merge,
}

impl RegistryContents {
    /// Reads a document as machines.yaml has it. `file` is for the messages.
    ///
    /// # Errors
    ///
    /// Every mistake.
    pub fn parse(file: &Path, text: &str) -> Result<RegistryContents, Mistakes> {
        let notes = Notes::new(file);
        let none = "is empty; for a registry without machines write `machines: []`";
        let contents = yaml::document(text, &notes, none).map(|document| {
            let lists = Lists::of(&document, &notes);
            let fields = fields::read(&lists, None, IdCase::Exact, &notes);
            keys::check(&fields.claims, None, &PublicKey::from_bytes, &notes);
            let bytes = |claims: Range<usize>| {
                let claims = fields.claims[claims].iter();
                claims.map(|claim| claim.key).collect::<Vec<_>>()
            };
            // Complete only where there are no mistakes; else nothing of it gets out.
            let machines = fields.machines.into_iter().zip(&lists.machines);
            let removed = fields.removed.into_iter();
            let groups = fields.groups.iter().zip(&lists.groups);
            RegistryContents {
                machines: machines
                    .map(|((machine, claims), entry)| {
                        CheckedEntry::of_checked(machine.id, bytes(claims), entry.node())
                    })
                    .collect(),
                removed: removed
                    .map(|draft| Tombstone {
                        id: draft.id,
                        keys: bytes(draft.claims).into(),
                        at: draft.at,
                    })
                    .collect(),
                groups: groups
                    .map(|(group, entry)| CheckedGroup::of_checked(&group.name, entry.node()))
                    .collect(),
            }
        });
        notes.conclude(contents).map(|(contents, _)| contents)
    }

    /// The document, in YAML, which [`RegistryContents::parse`] reads as the same content.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        let groups: Vec<&str> = self.groups.iter().map(CheckedGroup::json).collect();
        let machines: Vec<&str> = self.machines.iter().map(CheckedEntry::json).collect();
        let removed: Vec<String> = self.removed.iter().map(tombstone_json).collect();
        let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
        for (key, items) in [
            ("groups", groups),
            ("machines", machines),
            ("removed", removed),
        ] {
            match items.is_empty() {
                true if key == "machines" => text.push_str("machines: []\n"),
                true => {}
                false => {
                    text.push_str(key);
                    text.push_str(":\n");
                    for item in items {
                        text.push_str("  - ");
                        text.push_str(item);
                        text.push('\n');
                    }
                }
            }
        }
        text
    }
}

fn tombstone_json(tombstone: &Tombstone) -> String {
    let keys: Vec<String> = tombstone.keys.iter().map(key_format::to_base64).collect();
    json!({
        "id": tombstone.id.as_str(),
        "at": instant::to_text(tombstone.at),
        "public_keys": keys,
    })
    .to_string()
}

/// Longest time for one statement of an import.
const PATIENCE: Duration = Duration::from_secs(120);

/// Machines of one page of an export.
const PAGE: u64 = 5000;

impl Database {
    /// Everything, at one revision.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`]; [`WriteError::Invalid`] if a row fails the reader's checks.
    pub async fn export(&self) -> Result<(RegistryContents, Revision), WriteError> {
        let mut session = self.begin(Purpose::Read).await?;
        session.be_patient(PATIENCE).await?;
        let revision = Revision(position(&mut session).await?.revision);
        let mut contents = RegistryContents::default();
        for text in group_texts(&mut session).await? {
            contents.groups.push(checked_group(&text)?);
        }
        let mut after = String::new();
        loop {
            let sql = "SELECT id, entry FROM machine WHERE entry IS NOT NULL AND id > $1 \
                       ORDER BY id LIMIT $2";
            let rows = session.rows(sql, &[Text(&after), Int(PAGE)]).await?;
            for row in &rows {
                let text = session.value(row.text(1))?;
                contents.machines.push(checked(&text)?);
            }
            match rows.last() {
                Some(last) if rows.len() as u64 == PAGE => after = session.value(last.text(0))?,
                _ => break,
            }
        }
        contents.removed = tombstones(&mut session).await?;
        session.roll_back().await;
        Ok((contents, revision))
    }

    /// Takes a whole registry in, as one change.
    ///
    /// # Errors
    ///
    /// [`WriteError::Exists`] and [`WriteError::Invalid`] from a merge;
    /// [`WriteError::Unavailable`].
    pub async fn import(
        &self,
        contents: &RegistryContents,
        mode: ImportMode,
        author: &Author,
    ) -> Result<Revision, WriteError> {
        let mut change = self.begin_change().await?;
        change.session.be_patient(PATIENCE).await?;
        let taken_in = match mode {
            ImportMode::Replace => change.replace(contents, self.folds_case()).await,
            ImportMode::Merge => change.merge(contents, self.folds_case()).await,
        };
        match taken_in {
            Ok((touched, scope)) => change.commit(touched, scope, author).await,
            Err(error) => {
                change.roll_back().await;
                Err(error)
            }
        }
    }
}

async fn tombstones(session: &mut Session) -> Result<Vec<Tombstone>, WriteError> {
    let sql = "SELECT m.id, m.removed, k.public_key FROM machine m \
               JOIN machine_key k ON k.id = m.id WHERE m.removed IS NOT NULL ORDER BY m.id";
    let mut all: Vec<(String, u64, Vec<[u8; 32]>)> = Vec::new();
    for row in session.rows(sql, &[]).await? {
        let (id, at) = (session.value(row.text(0))?, session.value(row.int(1))?);
        let key = session.value(row.bytes(2))?;
        let key: [u8; 32] = key.try_into().map_err(|_| damaged(&id))?;
        match all.last_mut() {
            Some(last) if last.0 == id => last.2.push(key),
            _ => all.push((id, at, vec![key])),
        }
    }
    let tombstone = |(id, at, keys): (String, u64, Vec<[u8; 32]>)| {
        Ok(Tombstone {
            id: MachineId::parse(&id).ok_or_else(|| damaged(&id))?,
            keys: keys.into(),
            at,
        })
    };
    all.into_iter().map(tombstone).collect()
}

fn damaged(id: &str) -> WriteError {
    WriteError::Invalid(vec![format!(
        "the tombstone {} in the database has a bad id or key",
        quoted(id)
    )])
}

impl Transaction {
    async fn replace(
        &mut self,
        contents: &RegistryContents,
        folds_case: bool,
    ) -> Result<(TouchedIds, ChangeScope), WriteError> {
        for table in ["machine_key", "machine", "machine_group"] {
            let sql = format!("DELETE FROM {table}");
            self.session.execute(&sql, &[]).await?;
        }
        self.insert_groups(&contents.groups.iter().collect::<Vec<_>>())
            .await?;
        self.insert_tombstones(&contents.removed.iter().collect::<Vec<_>>())
            .await?;
        if folds_case {
            self.add(&contents.machines, folds_case).await?;
        } else {
            // The document was checked as a whole, and nothing else is there.
            let groups = contents.machines.iter().flat_map(CheckedEntry::groups);
            self.refuse_missing_groups(&groups.collect()).await?;
            self.insert_machines(&contents.machines).await?;
        }
        Ok((TouchedIds::default(), ChangeScope::Everything))
    }

    async fn merge(
        &mut self,
        contents: &RegistryContents,
        folds_case: bool,
    ) -> Result<(TouchedIds, ChangeScope), WriteError> {
        let mut known = HashMap::new();
        for text in group_texts(&mut self.session).await? {
            let group = checked_group(&text)?;
            known.insert(group.name().to_owned(), group);
        }
        let others = (contents.groups.iter())
            .filter(|group| known.get(group.name()).is_some_and(|known| known != *group));
        let others: Vec<String> = others
            .map(|group| {
                format!(
                    "there is another group {}; rename one of the two",
                    group.name()
                )
            })
            .collect();
        if !others.is_empty() {
            return Err(WriteError::Invalid(others));
        }
        let fresh = contents
            .groups
            .iter()
            .filter(|group| !known.contains_key(group.name()));
        let fresh: Vec<&CheckedGroup> = fresh.collect();
        let has_groups = !fresh.is_empty();
        self.insert_groups(&fresh).await?;

        let ids = contents.machines.iter().map(|entry| entry.id());
        let ids = ids.chain(contents.removed.iter().map(|tombstone| &tombstone.id));
        let ids: Vec<_> = ids.map(|id| Text(id.as_str())).collect();
        let mut present = HashMap::new();
        let sql = "SELECT id, entry FROM machine WHERE id IN ({})";
        for row in self.look_up(sql, &ids).await? {
            let entry = self.session.value(row.maybe_text(1))?;
            present.insert(self.session.value(row.text(0))?, entry);
        }
        let is_same = |id: &MachineId, entry: Option<&str>| {
            let present = present.get(id.as_str());
            present.is_some_and(|present| present.as_deref() == entry)
        };
        let removed = contents.removed.iter();
        let removed: Vec<&Tombstone> = removed.filter(|it| !is_same(&it.id, None)).collect();
        if let Some(living) = removed
            .iter()
            .find(|it| present.contains_key(it.id.as_str()))
        {
            return Err(WriteError::Exists(format!(
                "{} is a removed machine in the import, and a machine here; remove it first",
                living.id
            )));
        }
        let fresh = contents.machines.iter();
        let fresh = fresh.filter(|entry| !is_same(entry.id(), Some(entry.json())));
        let fresh: Vec<CheckedEntry> = fresh.cloned().collect();
        let mut touched = self.add(&fresh, folds_case).await?;
        let buried: Vec<_> = removed
            .iter()
            .flat_map(|it| it.keys.iter().map(|key| (key, &it.id)))
            .collect();
        self.refuse_taken_keys(&buried).await?;
        self.insert_tombstones(&removed).await?;
        let scope = match has_groups {
            true => ChangeScope::Groups,
            false => ChangeScope::Machines,
        };
        touched
            .removed
            .extend(removed.iter().map(|it| it.id.to_string()));
        Ok((touched, scope))
    }

    async fn insert_groups(&mut self, groups: &[&CheckedGroup]) -> Result<(), WriteError> {
        let rows: Vec<_> = (groups.iter())
            .flat_map(|group| [Text(group.name()), Text(group.json())])
            .collect();
        self.insert("INSERT INTO machine_group (name, entry) VALUES", 2, &rows)
            .await
    }

    async fn insert_tombstones(&mut self, tombstones: &[&Tombstone]) -> Result<(), WriteError> {
        let folded: Vec<String> = (tombstones.iter())
            .map(|tombstone| tombstone.id.as_str().to_ascii_lowercase())
            .collect();
        let rows: Vec<_> = (tombstones.iter().zip(&folded))
            .flat_map(|(it, folded)| [Text(it.id.as_str()), Text(folded), Text(""), Int(it.at)])
            .collect();
        let sql = "INSERT INTO machine (id, folded, search, removed) VALUES";
        self.insert(sql, 4, &rows).await?;
        let keys: Vec<_> = (tombstones.iter())
            .flat_map(|it| it.keys.iter().map(move |key| (key, &it.id)))
            .flat_map(|(key, id)| [Bytes(key), Text(id.as_str())])
            .collect();
        self.insert("INSERT INTO machine_key (public_key, id) VALUES", 2, &keys)
            .await
    }
}
