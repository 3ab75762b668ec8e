//! Logins: for each machine the gateway gets a token of the machine's own from the backend.

use http::{HeaderName, HeaderValue};

use super::assertion;
use super::credential;
use crate::yaml::{Field, Table, one_of, quoted};

/// Longest name of a mount, a role or a namespace, in bytes.
const MAX_NAME: usize = 128;

/// The header that names a namespace to Vault and OpenBao.
pub(super) static NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");

/// The path at which a backend with logins says whether it accepts a token.
pub(super) const LOOK_UP: &str = "/v1/auth/token/lookup-self";

/// The login of each machine at an upstream, by the `jwt` method of Vault and OpenBao.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The path at which the method is mounted, without slashes at its ends.
    pub mount: String,
    /// The role of a machine.
    pub role: LoginRole,
    /// The claim `aud` of the assertion: the name of the backend.
    pub audience: String,
    /// The header that carries the token of a machine.
    pub header: HeaderName,
    /// The namespace of the login and of the requests. Default: none.
    pub namespace: Option<HeaderValue>,
    /// Whether a token is revoked when the gateway no longer uses it. Default: yes.
    pub revoke: bool,
}

/// The role that a machine asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginRole {
    /// All machines have this one.
    Fixed(String),
    /// The first group that the machine is in; one without a group cannot log in.
    Group,
}

impl Login {
    /// The path of the login request.
    pub fn path(&self) -> String {
        format!("/v1/auth/{}/login", self.mount)
    }

    /// The header that names the namespace, if there is one.
    pub fn namespace_header(&self) -> Option<(HeaderName, HeaderValue)> {
        Some((NAMESPACE.clone(), self.namespace.clone()?))
    }
}

/// Reads the login of an upstream. `identity` is the identity header. `can_assert` tells whether
/// the file has `assertion`.
pub(super) fn read(field: &Field<'_>, identity: &HeaderName, can_assert: bool) -> Option<Login> {
    if !can_assert {
        field.mistake(
            "needs the gateway's signing key: add assertion: { issuer: https://gw.example, keys: \
             [assertion.pem] }",
        );
    }
    let mut table = field.table();
    let method = table.required("method");
    let method = method.and_then(|field| field.parse(one_of(&[("jwt", ())])));
    let mount = table.required("mount");
    let mount = mount.and_then(|field| field.parse(mount_path));
    let role = role(&mut table);
    let audience = table.required("audience");
    let audience = audience.and_then(|field| field.parse(assertion::name));
    let header = table.required("header");
    let header = header.and_then(|field| field.parse(|text| credential::header_of(text, identity)));
    let namespace = table.field("namespace");
    let namespace = namespace.and_then(|field| field.parse(namespace_path));
    let revoke = table.field("revoke");
    let revoke = revoke.and_then(|field| field.parse(one_of(&[("on", true), ("off", false)])));
    if namespace.is_some() && header.as_ref() == Some(&NAMESPACE) {
        table.mistake(
            "header",
            "is the header of the namespace; name the header of the token",
        );
    }
    method?;
    Some(Login {
        mount: mount?,
        role: role?,
        audience: audience?,
        header: header?,
        namespace,
        revoke: revoke.unwrap_or(true),
    })
}

fn role(table: &mut Table<'_>) -> Option<LoginRole> {
    match (table.field("role"), table.field("role_by")) {
        (Some(field), None) => field.parse(role_name).map(LoginRole::Fixed),
        (None, Some(field)) => field
            .parse(one_of(&[("group", ())]))
            .map(|()| LoginRole::Group),
        (Some(_), Some(field)) => {
            field.mistake("is set together with `role`; remove one of the two");
            None
        }
        (None, None) => {
            table.mistake(
                "role",
                "is missing, and so is `role_by`; write the name of the backend's role",
            );
            None
        }
    }
}

fn is_path(text: &str) -> bool {
    let is_word = |segment: &str| {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(is_known)
    };
    text.len() <= MAX_NAME && text.split('/').all(is_word)
}

fn mount_path(text: &str) -> Result<String, String> {
    match is_path(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{} is not the path of an auth method; write it as `bao auth list` shows it, without \
             the slash at its end, such as jwt",
            quoted(text)
        )),
    }
}

fn role_name(text: &str) -> Result<String, String> {
    match is_path(text) && !text.contains('/') {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{} is not a role: 1 to {MAX_NAME} of the characters A-Z a-z 0-9 . _ -",
            quoted(text)
        )),
    }
}

fn namespace_path(text: &str) -> Result<HeaderValue, String> {
    let path = text.strip_suffix('/').unwrap_or(text);
    match HeaderValue::from_str(text) {
        Ok(value) if is_path(path) => Ok(value),
        _ => Err(format!(
            "{} is not a namespace, such as team-a",
            quoted(text)
        )),
    }
}
