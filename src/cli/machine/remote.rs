//! `countersign machine --gateway`: the same actions, as calls to a gateway.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::add::{AddArgs, public_key};
use super::bulk;
use super::rotate::RotateArgs;
use super::{MachineArgs, RegistryAction, print};
use crate::cli::command_error::CommandError;
use crate::cli::management_client::{ListedMachines, ManagementClient, machine_path};
use crate::cli::terminal::say;
use crate::config::instant;
use crate::registry::new_machines::random_id;
use crate::registry::{CheckedEntry, Registry, key_format};
use countersign_core::identity::Machine;

/// Runs the action at a gateway. The output is that of the same action on a file.
///
/// # Errors
///
/// [`CommandError::Usage`]: an argument is wrong. [`CommandError::Operation`]: no such machine, or
/// the gateway refuses, or does not answer.
pub(super) fn run(
    args: &MachineArgs,
    client: &ManagementClient,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    match &args.action {
        RegistryAction::Add(add) if add.into.is_some() => Err(CommandError::Usage(
            "--into: names a file of a directory, and cannot stand beside --gateway".into(),
        )),
        RegistryAction::Add(add) => {
            if let Some(from) = &add.from {
                let entries = bulk::entries(from)?;
                let fields = |entry: &CheckedEntry| Value::Object(entry.fields().clone());
                client.add(&entries.iter().map(fields).collect::<Vec<_>>())?;
                return bulk::say_ids(out, &bulk::ids(&entries));
            }
            let entry = entry_of(add)?;
            client.add(std::slice::from_ref(&entry))?;
            let id = entry["id"].as_str().unwrap_or_default();
            say(out, &format!("{id}\n"))
        }
        RegistryAction::List { json } => {
            let registry = registry_of(client, client.machines(None)?)?;
            let mut machines: Vec<&Machine> = registry.machines().map(AsRef::as_ref).collect();
            machines.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            say(out, &print::list(&machines, *json))
        }
        RegistryAction::Show { id, json } => {
            let registry = machine_of(client, id)?;
            let machine = registry.find(id).ok_or_else(|| lost(client))?;
            say(out, &print::one(machine, *json))
        }
        RegistryAction::Enable { id } => set_enabled(client, id, true, out),
        RegistryAction::Disable { id } => set_enabled(client, id, false, out),
        RegistryAction::Rotate(rotate) => self::rotate(rotate, client, out),
        RegistryAction::Remove { id } => {
            client.call("DELETE", &machine_path(id)?, None)?;
            say(out, &format!("{id}: removed\n"))
        }
    }
}

/// The entry of a machine to add.
fn entry_of(args: &AddArgs) -> Result<Value, CommandError> {
    let id = match &args.id {
        Some(id) => id.clone(),
        None => random_id().map_err(CommandError::Operation)?.to_string(),
    };
    let keys = (args.public_keys.iter())
        .map(|text| public_key("--public-key", text))
        .map(|key| key.map(|key| key_format::to_base64(key.as_bytes())))
        .collect::<Result<Vec<String>, CommandError>>()?;
    let mut entry = Map::new();
    entry.insert("id".into(), id.into());
    entry.insert("public_keys".into(), keys.into());
    for (key, value) in [
        ("name", &args.name),
        ("vault", &args.vault),
        ("owner", &args.owner),
        ("credential", &args.credential),
        ("not_before", &args.not_before),
        ("expires", &args.expires),
    ] {
        if let Some(value) = value {
            entry.insert(key.into(), value.clone().into());
        }
    }
    for (key, list) in [
        ("groups", &args.groups),
        ("allow", &args.allow),
        ("cidrs", &args.cidrs),
    ] {
        if !list.is_empty() {
            entry.insert(key.into(), list.clone().into());
        }
    }
    if let Some(count) = args.per_minute {
        entry.insert("rate".into(), json!({ "per_minute": count }));
    }
    Ok(Value::Object(entry))
}

/// The machines as a registry, which reads their policies with those of their groups.
fn registry_of(
    client: &ManagementClient,
    listed: ListedMachines,
) -> Result<Registry, CommandError> {
    let ListedMachines { machines, groups } = listed;
    let mut document = Map::new();
    document.insert("machines".into(), machines.into());
    if !groups.is_empty() {
        document.insert("groups".into(), groups.into());
    }
    let document = Value::Object(document).to_string();
    let name = client.gateway();
    Registry::from_bytes(Path::new(&name), document.as_bytes(), None).map_err(|mistakes| {
        CommandError::Operation(format!(
            "the gateway's answer is no registry that this version can read:\n{mistakes}"
        ))
    })
}

/// A registry with one machine, and its groups.
fn machine_of(client: &ManagementClient, id: &str) -> Result<Registry, CommandError> {
    let entry = client.machine(id)?;
    let groups = match entry.contains_key("groups") {
        // Only pages have the groups.
        true => client.machines(Some(id))?.groups,
        false => Vec::new(),
    };
    let listed = ListedMachines {
        machines: vec![Value::Object(entry)],
        groups,
    };
    registry_of(client, listed)
}

fn set_enabled(
    client: &ManagementClient,
    id: &str,
    enabled: bool,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let word = if enabled { "enabled" } else { "disabled" };
    let entry = client.machine(id)?;
    if (entry.get("enabled") != Some(&Value::Bool(false))) == enabled {
        return say(out, &format!("{id}: {word} already\n"));
    }
    let patch = json!({ "enabled": enabled });
    client.call("PATCH", &machine_path(id)?, Some(&patch))?;
    say(out, &format!("{id}: {word}\n"))
}

fn rotate(
    args: &RotateArgs,
    client: &ManagementClient,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    if args.not_before.is_some() {
        return Err(CommandError::Usage(
            "--not-before: a gateway adds a key that is good at once; leave it out".into(),
        ));
    }
    let new = public_key("--new-key", &args.new_key)?;
    let body = json!({
        "public_key": key_format::to_base64(new.as_bytes()),
        "overlap": format!("{}s", args.overlap),
    });
    let path = format!("{}/keys", machine_path(&args.id)?);
    client.call("POST", &path, Some(&body))?;
    let registry = machine_of(client, &args.id)?;
    let machine = registry.find(&args.id).ok_or_else(|| lost(client))?;
    let mut said = format!("{}: added the key {}\n", args.id, new.fingerprint());
    for key in machine.keys.iter().filter(|key| key.public != new) {
        let until = key.validity.not_after().map(instant::to_text);
        let until = until.unwrap_or_else(|| "it is removed".into());
        said += &format!(
            "{}: {} is good until {until}\n",
            args.id,
            key.public.fingerprint()
        );
    }
    say(out, &said)
}

/// The gateway answered with another machine than it was asked for.
fn lost(client: &ManagementClient) -> CommandError {
    CommandError::Operation(format!(
        "the gateway at {} answered with another machine",
        client.gateway()
    ))
}
