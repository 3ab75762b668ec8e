//! Machines on a terminal, or as JSON for a program.

use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;

use crate::config::instant;
use crate::registry::key_format;
use countersign_core::identity::Machine;
use countersign_core::policy::{List, Policy};

/// A machine as JSON, with the names of the registry and of the audit records.
#[derive(Serialize)]
struct Json<'m> {
    id: &'m str,
    name: Option<&'m str>,
    vault: Option<&'m str>,
    owner: Option<&'m str>,
    credential: Option<&'m str>,
    enabled: bool,
    not_before: Option<String>,
    expires: Option<String>,
    public_keys: Vec<JsonKey>,
    allow: Option<Vec<JsonItem>>,
    cidrs: Option<Vec<JsonItem>>,
    per_minute: Option<u32>,
}

/// One of a list, with the group that it is from.
#[derive(Serialize)]
struct JsonItem {
    is: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

#[derive(Serialize)]
struct JsonKey {
    key: String,
    public_key: String,
    not_before: Option<String>,
    not_after: Option<String>,
}

impl<'m> From<&'m Machine> for Json<'m> {
    fn from(machine: &'m Machine) -> Json<'m> {
        let keys = machine.keys.iter().map(|key| JsonKey {
            key: key.public.fingerprint().to_string(),
            public_key: key_format::to_base64(key.public.as_bytes()),
            not_before: key.validity.not_before().map(instant::to_text),
            not_after: key.validity.not_after().map(instant::to_text),
        });
        let policy = machine.policy.as_deref();
        Json {
            id: machine.id.as_str(),
            name: machine.name.as_deref(),
            vault: machine.vault.as_deref(),
            owner: machine.owner.as_deref(),
            credential: machine.credential.as_deref(),
            enabled: machine.enabled,
            not_before: machine.not_before.map(instant::to_text),
            expires: machine.expires.map(instant::to_text),
            public_keys: keys.collect(),
            allow: policy.and_then(|policy| items(policy.allow.as_deref()?)),
            cidrs: policy.and_then(|policy| items(policy.cidrs.as_deref()?)),
            per_minute: policy.and_then(|policy| Some(policy.rate?.per_minute())),
        }
    }
}

fn items<T: Display>(lists: &[Arc<List<T>>]) -> Option<Vec<JsonItem>> {
    let all = lists.iter().flat_map(|list| {
        list.items.iter().map(|item| JsonItem {
            is: item.to_string(),
            group: list.group.as_deref().map(str::to_owned),
        })
    });
    Some(all.collect())
}

/// All machines: a table, or a JSON array.
pub(super) fn list(machines: &[&Machine], json: bool) -> String {
    if json {
        let machines: Vec<Json<'_>> = machines
            .iter()
            .map(|machine| Json::from(*machine))
            .collect();
        return as_json(&machines);
    }
    const HEADINGS: [&str; 8] = [
        "ID", "NAME", "VAULT", "OWNER", "STATE", "EXPIRES", "KEYS", "POLICY",
    ];
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(machines.iter().map(|machine| {
        [
            machine.id.to_string(),
            or_dash(machine.name.as_deref()),
            or_dash(machine.vault.as_deref()),
            or_dash(machine.owner.as_deref()),
            state(machine).to_owned(),
            or_dash(machine.expires.map(instant::to_text).as_deref()),
            machine.keys.len().to_string(),
            or_dash(machine.policy.as_deref().map(terms).as_deref()),
        ]
    }));
    table(&rows)
}

/// One machine: a line for each property, or a JSON object.
pub(super) fn one(machine: &Machine, json: bool) -> String {
    if json {
        return as_json(&Json::from(machine));
    }
    let mut rows = vec![
        ["id".to_owned(), machine.id.to_string()],
        ["name".to_owned(), or_dash(machine.name.as_deref())],
        ["vault".to_owned(), or_dash(machine.vault.as_deref())],
        ["owner".to_owned(), or_dash(machine.owner.as_deref())],
        [
            "credential".to_owned(),
            or_dash(machine.credential.as_deref()),
        ],
        ["state".to_owned(), state(machine).to_owned()],
        [
            "not before".to_owned(),
            or_dash(machine.not_before.map(instant::to_text).as_deref()),
        ],
        [
            "expires".to_owned(),
            or_dash(machine.expires.map(instant::to_text).as_deref()),
        ],
    ];
    for key in &machine.keys {
        let base64 = key_format::to_base64(key.public.as_bytes());
        let mut text = format!("{} {base64}", key.public.fingerprint());
        for (word, date) in [
            ("from", key.validity.not_before()),
            ("until", key.validity.not_after()),
        ] {
            if let Some(date) = date {
                text += &format!(" {word} {}", instant::to_text(date));
            }
        }
        rows.push(["key".to_owned(), text]);
    }
    if let Some(policy) = &machine.policy {
        rows.extend(listed("allow", policy.allow.as_deref()));
        rows.extend(listed("cidr", policy.cidrs.as_deref()));
        let rate = (policy.rate).map(|rate| format!("{} a minute", rate.per_minute()));
        rows.extend(rate.map(|rate| ["rate".to_owned(), rate]));
    }
    table(&rows)
}

/// A row for each item, with the group that it is from.
fn listed<T: Display>(name: &str, lists: Option<&[Arc<List<T>>]>) -> Vec<[String; 2]> {
    let items = lists.into_iter().flatten().flat_map(|list| {
        let group = list.group.as_ref();
        let group = group.map_or(String::new(), |group| format!("  (group {group})"));
        (list.items.iter()).map(move |item| [name.to_owned(), format!("{item}{group}")])
    });
    items.collect()
}

/// A policy in few words.
fn terms(policy: &Policy) -> String {
    let words = [
        policy.allow.is_some().then_some("allow"),
        policy.cidrs.is_some().then_some("cidrs"),
        policy.rate.is_some().then_some("rate"),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(",")
}

fn state(machine: &Machine) -> &'static str {
    if machine.enabled {
        "enabled"
    } else {
        "disabled"
    }
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// Columns as wide as their widest cell; every cell is ASCII, as the registry demands. The last is
/// not filled up.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Serialisation fails only for a map without string keys, or a failing writer.
fn as_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
