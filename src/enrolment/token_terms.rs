//! The terms of an enrolment token: what it lets in, and until when.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::config::machine_terms::{MachineTerms, label, networks};
use crate::config::{lifetime, show_lifetime};
use crate::yaml::{Field, Node, Notes, Table};
use countersign_core::enrolment::is_vault;
use countersign_core::pattern::Pattern;

/// The life of a token, in seconds: by default as long as somebody needs to carry it to a machine.
const DEFAULT_LIFE: u64 = 600;
const SHORTEST_LIFE: u64 = 10;
const LONGEST_LIFE: u64 = 365 * 86_400;

/// Most machines of one token: those of the largest registry.
const MOST_USES: u32 = 1_000_000;

/// The terms of a token, as an operator states them when it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    /// The name of the token, for people.
    pub name: String,
    /// The vault that its machines belong to; the path of the enrolment names it.
    pub vault: String,
    /// Most machines that it ever lets in. Default: one.
    pub max_uses: u32,
    /// How long it is valid, in seconds. Default: ten minutes.
    pub expires_in: u64,
    /// The terms of its machines.
    pub machine: MachineTerms,
    /// The names that its machines may have. Default: every name.
    pub name_pattern: Option<Pattern>,
    /// The host names that its machines may tell. Default: every one.
    pub hostname_pattern: Option<Pattern>,
    /// The networks from which it may be used. Empty, the default: every network.
    pub cidrs: Vec<IpNet>,
    /// Whether a machine must prove that it holds its key. Default: yes.
    pub require_proof: bool,
}

impl TokenTerms {
    /// Reads the terms out of the body of the call that creates a token, or as they are stored.
    ///
    /// # Errors
    ///
    /// Every mistake, one text each. None repeats a value that may be secret.
    pub fn parse(value: &Value) -> Result<TokenTerms, Vec<String>> {
        let root = Node::deserialize(value).map_err(|_| vec!["is no JSON value".to_owned()])?;
        let notes = Notes::new(Path::new(""));
        let terms = read(&mut Field::root(&root, &notes).table());
        match notes.conclude(terms) {
            Ok((terms, _)) => Ok(terms),
            Err(mistakes) => Err(mistakes.list.iter().map(told).collect()),
        }
    }

    /// The same as JSON, with every default written out. [`TokenTerms::parse`] reads it back.
    pub fn to_json(&self) -> Value {
        let mut terms = Map::new();
        let mut put = |key: &str, value: Value| terms.insert(key.to_owned(), value);
        put("name", json!(self.name));
        put("vault", json!(self.vault));
        put("max_uses", json!(self.max_uses));
        put("expires_in", json!(show_lifetime(self.expires_in)));
        put("machine", Value::Object(self.machine.to_json()));
        if let Some(pattern) = &self.name_pattern {
            put("name_pattern", json!(pattern.as_str()));
        }
        if let Some(pattern) = &self.hostname_pattern {
            put("hostname_pattern", json!(pattern.as_str()));
        }
        if !self.cidrs.is_empty() {
            let cidrs: Vec<String> = self.cidrs.iter().map(IpNet::to_string).collect();
            put("cidrs", json!(cidrs));
        }
        put("require_proof", json!(self.require_proof));
        Value::Object(terms)
    }

    /// Whether the token may be used from this address. It fails closed: a token that is bound to
    /// networks is not good from an address that is not known.
    pub fn may_be_used_from(&self, client: Option<IpAddr>) -> bool {
        let from = |client: IpAddr| self.cidrs.iter().any(|network| network.contains(&client));
        self.cidrs.is_empty() || client.is_some_and(from)
    }
}

fn read(table: &mut Table<'_>) -> Option<TokenTerms> {
    let name = table.required("name").and_then(|field| label(&field));
    let vault = table.required("vault").and_then(|field| vault(&field));
    let max_uses = table.whole("max_uses", 1, 1..=MOST_USES);
    let lifetimes = lifetime(SHORTEST_LIFE..=LONGEST_LIFE);
    let expires_in = table.value("expires_in", DEFAULT_LIFE, lifetimes);
    let machine = MachineTerms::read(&mut table.table("machine"));
    let mut pattern = |key| {
        let field = table.field(key)?;
        field.parse_text(|text| Pattern::parse(text).map_err(|why| why.to_string()))
    };
    let name_pattern = pattern("name_pattern");
    let hostname_pattern = pattern("hostname_pattern");
    let cidrs = table.field("cidrs").map(|field| networks(&field));
    let require_proof = table.truth("require_proof", true);
    Some(TokenTerms {
        name: name?,
        vault: vault?,
        max_uses,
        expires_in,
        machine,
        name_pattern,
        hostname_pattern,
        cidrs: cidrs.unwrap_or_default(),
        require_proof,
    })
}

fn vault(field: &Field<'_>) -> Option<String> {
    field.parse_text(|text| match is_vault(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("is one segment of a path: 1 to 128 of the characters A-Z a-z 0-9 . _ -".to_owned())
        }
    })
}

fn told(mistake: &crate::yaml::Finding) -> String {
    match &*mistake.key {
        "" => mistake.text.clone(),
        key => format!("{key}: {}", mistake.text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn whole() -> Value {
        json!({
            "name": "web fleet", "vault": "vault_prod", "max_uses": 10, "expires_in": "1h",
            "machine": {
                "owner": "team-a", "groups": ["web", "eu"], "credential": "ro",
                "expires_in": "1d", "cidrs": ["10.0.0.0/8"], "may_renew": true,
            },
            "name_pattern": "web-*", "hostname_pattern": "*", "cidrs": ["192.0.2.0/24"],
            "require_proof": false,
        })
    }

    #[test]
    fn terms_print_back_as_they_were_read() {
        let terms = TokenTerms::parse(&whole()).unwrap();
        assert_eq!(terms.to_json(), whole());
        assert_eq!(TokenTerms::parse(&terms.to_json()), Ok(terms));
    }

    #[test]
    fn a_name_and_a_vault_are_enough_for_one_machine_and_ten_minutes() {
        let terms = TokenTerms::parse(&json!({ "name": "n", "vault": "v" })).unwrap();
        assert_eq!((terms.max_uses, terms.expires_in), (1, 600));
        assert!(terms.require_proof);
        assert_eq!(terms.machine, MachineTerms::default());
        assert_eq!(TokenTerms::parse(&terms.to_json()), Ok(terms));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let told = TokenTerms::parse(&json!({
            "vault": "a/b", "max_uses": 0, "expires_in": "1y", "name_pattern": "*-web",
            "cidrs": [], "require_proof": "yes", "max_use": 2,
            "machine": { "groups": ["a b"], "expires_in": "1s", "owner": " x", "credential": "A B",
                         "cidrs": ["10.0.0.1/8"], "id": "m" },
        }))
        .unwrap_err()
        .join("\n");
        for key in [
            "name:",
            "vault:",
            "max_uses:",
            "expires_in:",
            "name_pattern:",
            "cidrs:",
            "require_proof:",
            "max_use:",
            "machine.groups[0]:",
            "machine.expires_in:",
            "machine.owner:",
            "machine.credential:",
            "machine.cidrs[0]:",
            "machine.id:",
        ] {
            assert!(
                told.lines().any(|line| line.starts_with(key)),
                "{key} in\n{told}"
            );
        }
        assert!(!told.contains("A B"), "{told}");
    }

    #[test]
    fn terms_that_are_no_object_are_refused() {
        for value in [json!(null), json!([]), json!("name"), json!({})] {
            assert!(TokenTerms::parse(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn renewal_needs_an_end() {
        let value = json!({ "name": "n", "vault": "v", "machine": { "may_renew": true } });
        let told = TokenTerms::parse(&value).unwrap_err();
        assert!(told[0].starts_with("machine.may_renew:"), "{told:?}");
    }

    #[test]
    fn a_token_of_networks_is_not_good_from_an_unknown_address() {
        let terms = TokenTerms::parse(&whole()).unwrap();
        let from = |address: &str| terms.may_be_used_from(address.parse().ok());
        assert!(from("192.0.2.7"));
        assert!(!from("192.0.3.7"));
        assert!(!from(""));
    }
}
