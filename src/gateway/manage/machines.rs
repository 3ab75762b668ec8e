//! The calls about machines.

use std::sync::Arc;

use bytes::Bytes;

use super::changes::ChangeContext;
use super::manager::{Manager, invalid};
use crate::audit::CalledChange;
use crate::management::answer::{self, CallAnswer};
use crate::management::body;
use crate::registry::CheckedEntry;
use crate::registry::database::Database;
use countersign_core::identity::MachineId;
use countersign_core::refusal::Refusal;

impl Manager {
    pub(super) async fn show_machine(
        &self,
        database: &Database,
        id: &MachineId,
    ) -> Result<CallAnswer, Refusal> {
        let entry = self.read(database.entry(id)).await?;
        let entry = entry.ok_or(Refusal::NoMachine)?;
        Ok(answer::machine(&entry, self.metrics.machine_last_used(id)))
    }

    /// Refuses entries with an id or a key of an operator.
    fn check_operators(&self, entries: &[CheckedEntry]) -> Result<(), Refusal> {
        let Some(operators) = &self.operators else {
            return Ok(());
        };
        let objections = entries.iter().filter_map(|it| operators.objection(it));
        let objections: Vec<String> = objections.collect();
        match objections.is_empty() {
            true => Ok(()),
            false => Err(invalid(objections)),
        }
    }
}

impl ChangeContext<'_> {
    pub(super) async fn add_machines(&self, body: &Bytes) -> Result<CallAnswer, Refusal> {
        let text = body.clone();
        let entries = tokio::task::spawn_blocking(move || body::machines_to_add(&text))
            .await
            .map_err(|_| Refusal::Internal)?
            .map_err(invalid)?;
        self.manager.check_operators(&entries)?;
        let entries: Arc<[CheckedEntry]> = entries.into();
        let recorded = {
            let machines = entries.iter().map(|entry| (entry.id(), entry.keys()));
            let machines: Vec<_> = machines.collect();
            self.record(CalledChange::AddMachines(&machines)).await?
        };
        let count = entries.len();
        let making = self.make(recorded, |database, author| async move {
            database.add(&entries, &author).await
        });
        Ok(answer::added(count, making.await?))
    }

    pub(super) async fn change_machine(
        &self,
        id: &MachineId,
        body: &Bytes,
    ) -> Result<CallAnswer, Refusal> {
        let patch = body::patch(body).map_err(invalid)?;
        let entry = self.entry(id).await?;
        // Once more in the transaction; here, so that a mistake is no record of a change.
        let patched = entry.patched(&patch).map_err(invalid)?;
        self.manager
            .check_operators(std::slice::from_ref(&patched))?;
        let recorded = {
            let fields: Vec<&str> = patch.keys().map(String::as_str).collect();
            let has_keys = patch.contains_key("public_keys");
            let change = CalledChange::ChangeMachine {
                machine: id,
                fields: &fields,
                keys: has_keys.then_some(patched.keys()),
            };
            self.record(change).await?
        };
        let id = id.clone();
        let making = self.make(recorded, |database, author| async move {
            database.patch(&id, &patch, &author).await
        });
        Ok(answer::changed(making.await?))
    }

    pub(super) async fn remove_machine(
        &self,
        id: &MachineId,
        body: &Bytes,
    ) -> Result<CallAnswer, Refusal> {
        body::none(body).map_err(invalid)?;
        self.entry(id).await?;
        let recorded = self.record(CalledChange::RemoveMachine(id)).await?;
        let id = id.clone();
        let making = self.make(recorded, |database, author| async move {
            database.remove(&id, &author).await
        });
        Ok(answer::changed(making.await?))
    }

    pub(super) async fn add_key(
        &self,
        id: &MachineId,
        body: &Bytes,
    ) -> Result<CallAnswer, Refusal> {
        let body::KeyToAdd { key, overlap } = body::key_to_add(body).map_err(invalid)?;
        let key = *key.as_bytes();
        if let Some(operators) = &self.manager.operators
            && operators.has_key(&key)
        {
            return Err(invalid(vec!["public_key: it is an operator's.".into()]));
        }
        self.entry(id).await?;
        let recorded = self.record(CalledChange::AddKey(id, &key)).await?;
        let id = id.clone();
        let making = self.make(recorded, |database, author| async move {
            let others_end = author.at.saturating_add(overlap);
            (database.add_key(&id, key, others_end, &author)).await
        });
        Ok(answer::changed(making.await?))
    }

    /// The machine's entry, so that a call about no machine is no record of a change.
    async fn entry(&self, id: &MachineId) -> Result<CheckedEntry, Refusal> {
        let entry = self.manager.read(self.database.entry(id)).await?;
        entry.ok_or(Refusal::NoMachine)
    }
}
