//! The gateway's assertions about machines: their issuer, and the keys that sign them.

use std::path::{Path, PathBuf};

use super::audit::GatewayKey;
use super::listeners::Listener;
use super::operation;
use crate::yaml::{Field, Table, quoted};
use countersign_client::file::{self, Unusable};
use countersign_core::private_key;
use countersign_core::target::Target;

/// Most keys: one that signs, and those that a rotation has before and after it.
const MAX_KEYS: usize = 8;

/// Longest issuer and audience, in bytes.
const MAX_NAME: usize = 256;

/// A PEM key is some hundred bytes.
const MAX_KEY_FILE: usize = 8 * 1024;

/// The settings of the assertions, which are signed JSON Web Tokens (JWT, RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// The claim `iss`: the name of this gateway, by which a backend chooses the keys it trusts.
    pub issuer: String,
    /// The Ed25519 keys, at least one. The first signs; all are published.
    pub keys: Vec<GatewayKey>,
    /// The files of the keys, in the same order.
    pub files: Vec<PathBuf>,
    /// The path on the data listeners at which the public keys are served without a signature.
    /// Default: none; the admin listener always serves them.
    pub jwks_path: Option<String>,
}

impl Assertion {
    /// Reads the files of the keys again.
    ///
    /// # Errors
    ///
    /// The first mistake, without any content of a file.
    pub fn read_again(&self) -> Result<Vec<GatewayKey>, Unusable> {
        self.files.iter().map(|file| key(file)).collect()
    }
}

/// The path of the public keys, with its place in the file.
pub(super) struct JwksPath<'a>(Option<(Field<'a>, String)>);

impl JwksPath<'_> {
    /// Notes what else is at the path: the keys are answered before any route is looked for.
    /// `signed_route` gives the path of the route, other than an open one, that a path lies below.
    pub(super) fn check<'r>(
        &self,
        listeners: &[Listener],
        signed_route: impl Fn(&str) -> Option<&'r str>,
    ) {
        let Some((field, path)) = &self.0 else {
            return;
        };
        let is_health = |listener: &&Listener| listener.health.as_ref() == Some(path);
        if let Some(listener) = listeners.iter().find(is_health) {
            field.mistake(format!(
                "{path} is the health check of the listener {}; give the keys another path",
                listener.address
            ));
        }
        // A route for everything leaves no other place.
        if let Some(route) = signed_route(path).filter(|route| *route != "/") {
            field.warning(format!(
                "lies below the route {route}, which asks for signatures: the gateway answers \
                 {path} with the keys, unsigned, and the backend never gets it. Choose a path \
                 outside the routes, such as /.well-known/jwks.json"
            ));
        }
    }
}

/// Reads `assertion`; `None` without it.
pub(super) fn read<'a>(root: &mut Table<'a>, base: &Path) -> (Option<Assertion>, JwksPath<'a>) {
    let Some(field) = root.field("assertion") else {
        return (None, JwksPath(None));
    };
    let mut table = field.table();
    let jwks_path = table.field("jwks_path").and_then(|field| {
        let path = field.parse(path)?;
        Some((field, path))
    });
    let assertion = settings(&mut table, jwks_path.as_ref().map(|(_, path)| path), base);
    (assertion, JwksPath(jwks_path))
}

fn settings(table: &mut Table<'_>, jwks_path: Option<&String>, base: &Path) -> Option<Assertion> {
    let issuer = (table.required("issuer")).and_then(|field| field.parse(name));
    let keys = table.required("keys");
    let keys = keys.map(|field| self::keys(&field, base));
    let (files, keys) = keys?.into_iter().unzip();
    Some(Assertion {
        issuer: issuer?,
        keys,
        files,
        jwks_path: jwks_path.cloned(),
    })
}

fn keys(field: &Field<'_>, base: &Path) -> Vec<(PathBuf, GatewayKey)> {
    let none = "names no key; make one with `countersign keygen --out assertion.pem`";
    let mut keys: Vec<(PathBuf, GatewayKey)> = Vec::new();
    for item in field.some_items_up_to(MAX_KEYS, none) {
        let read = item.parse(|text| {
            let file = operation::path(text, base)?;
            operation::warn_of_mode(&item, &file);
            let key = key(&file).map_err(|why| why.to_string())?;
            Ok((file, key))
        });
        let Some((file, key)) = read else { continue };
        if let Some((first, _)) = keys.iter().find(|(_, known)| *known == key) {
            item.mistake(format!(
                "{} holds the key of {} again; remove one of the two",
                file.display(),
                first.display()
            ));
        }
        keys.push((file, key));
    }
    keys
}

fn key(file: &Path) -> Result<GatewayKey, Unusable> {
    let pem = file::read_secret(file, MAX_KEY_FILE).map_err(|fault| fault.of(file))?;
    let key = private_key::parse(&pem);
    key.map(GatewayKey::new)
        .map_err(|why| Unusable::content(format!("{}: {why}", file.display())))
}

/// Parses an issuer or an audience.
pub(super) fn name(text: &str) -> Result<String, String> {
    let is_good =
        (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    match is_good {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "must be 1 to {MAX_NAME} visible ASCII characters without a space, such as https://gw.example"
        )),
    }
}

fn path(text: &str) -> Result<String, String> {
    let target = Target::parse(text.as_bytes());
    match target.is_ok_and(|target| target.query().is_none()) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{} is not a path, such as /.well-known/jwks.json",
            quoted(text)
        )),
    }
}
