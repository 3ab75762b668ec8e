//! The terms on which a machine is enrolled: those of a token, and those of a joiner.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::credential::is_name;
use super::lifetime::{lifetime, show_lifetime};
use crate::yaml::{Field, Table};
use countersign_core::identity::Machine;
use countersign_core::policy::network;
use serde_json::{Map, Value, json};

/// The lives that a machine may have, in seconds: one of less than a minute ends before its first
/// request, and one without an end has no `expires_in`.
pub const LIFETIMES: RangeInclusive<u64> = 60..=3650 * 86_400;

/// Most groups and networks, as in an entry of the registry.
const MAX_GROUPS: usize = 8;
const MAX_CIDRS: usize = 64;

/// Longest name of a group, in bytes, as in the registry.
const MAX_GROUP: usize = 64;

/// The terms of every machine that one token or one joiner lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineTerms {
    /// `X-Machine-Owner` to the backend.
    pub owner: Option<String>,
    /// The groups of the registry that it is in.
    pub groups: Vec<String>,
    /// The name of the credential of its requests.
    pub credential: Option<String>,
    /// How long it lives, in seconds. `None`: without an end.
    pub expires_in: Option<u64>,
    /// The networks that it may connect from. Empty: every network.
    pub cidrs: Vec<IpNet>,
    /// Whether it may renew itself before its end.
    pub may_renew: bool,
}

impl MachineTerms {
    /// Reads the terms out of a table that may have other keys too.
    pub(crate) fn read(table: &mut Table<'_>) -> MachineTerms {
        let owner = table.field("owner").and_then(|field| label(&field));
        let groups = table.field("groups").map(|field| groups(&field));
        let credential = table.field("credential").and_then(|field| {
            field.parse_text(|text| match is_name(text) {
                true => Ok(text.to_owned()),
                // The text is not repeated: it may be the secret itself.
                false => Err("must be the name of a credential, [a-z0-9_-]{1,64}".to_owned()),
            })
        });
        let expires_in = table.field("expires_in");
        let expires_in = expires_in.and_then(|field| field.parse(lifetime(LIFETIMES)));
        let cidrs = table.field("cidrs").map(|field| networks(&field));
        let may_renew = table.truth("may_renew", false);
        if may_renew && expires_in.is_none() {
            let text = "has no effect without `expires_in`, because the machine has no end; remove it, \
                        or add expires_in: 24h";
            table.mistake("may_renew", text);
        }
        MachineTerms {
            owner,
            groups: groups.unwrap_or_default(),
            credential,
            expires_in,
            cidrs: cidrs.unwrap_or_default(),
            may_renew,
        }
    }

    /// The same as JSON, with the keys of the configuration.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut terms = Map::new();
        let mut put = |key: &str, value: Value| terms.insert(key.to_owned(), value);
        if let Some(owner) = &self.owner {
            put("owner", json!(owner));
        }
        if !self.groups.is_empty() {
            put("groups", json!(self.groups));
        }
        if let Some(credential) = &self.credential {
            put("credential", json!(credential));
        }
        if let Some(seconds) = self.expires_in {
            put("expires_in", json!(show_lifetime(seconds)));
        }
        if !self.cidrs.is_empty() {
            let cidrs: Vec<String> = self.cidrs.iter().map(IpNet::to_string).collect();
            put("cidrs", json!(cidrs));
        }
        if self.may_renew {
            put("may_renew", json!(true));
        }
        terms
    }
}

/// A name, a vault or an owner.
pub(crate) fn label(field: &Field<'_>) -> Option<String> {
    field.parse_text(|text| match Machine::is_label(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "must be 1 to {} visible ASCII characters, without a space at either end",
            Machine::MAX_LABEL
        )),
    })
}

/// Networks, at least one.
pub(crate) fn networks(field: &Field<'_>) -> Vec<IpNet> {
    let none = "is empty, which would let no address pass; write a network, such as 10.0.0.0/8";
    let items = field.some_items_up_to(MAX_CIDRS, none);
    (items.iter())
        .filter_map(|item| item.parse(|text| network::parse(text).map_err(|why| why.to_string())))
        .collect()
}

fn groups(field: &Field<'_>) -> Vec<String> {
    let items = field.some_items_up_to(MAX_GROUPS, "is empty; remove it");
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let mut groups: Vec<String> = Vec::new();
    for item in items {
        let name = item.parse_text(|name| {
            match (1..=MAX_GROUP).contains(&name.len()) && name.bytes().all(is_word) {
                true => Ok(name.to_owned()),
                false => Err(format!(
                    "is not the name of a group: 1 to {MAX_GROUP} of the characters A-Z a-z 0-9 . _ -"
                )),
            }
        });
        if let Some(name) = name {
            if groups.contains(&name) {
                item.mistake("is listed twice; remove one");
            }
            groups.push(name);
        }
    }
    groups
}
