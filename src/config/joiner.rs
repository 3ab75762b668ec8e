//! Joiners: issuers of JSON Web Tokens that vouch for new machines.

use std::path::{Path, PathBuf};

use super::GatewayUrl;
use super::assertion;
use super::machine_terms::MachineTerms;
use super::operation;
use crate::jwt::{IssuerKeys, MAX_KEY_SET};
use crate::yaml::{Field, Table, quoted};
use countersign_client::file::{self, Unusable};
use countersign_core::enrolment::is_vault;
use countersign_core::pattern::Pattern;

/// Most joiners: each whose issuer and vault fit a token checks its signature.
const MAX_JOINERS: usize = 32;

/// Longest name of a claim, and longest template, in bytes.
const MAX_TEXT: usize = 256;

/// A platform that vouches for its machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joiner {
    /// Its name in records and logs, `[a-z0-9_-]{1,64}`.
    pub name: String,
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// The public keys of the issuer.
    pub keys: KeySource,
    /// The claim `aud` of tokens that are meant for this gateway.
    pub audience: String,
    /// The claims that a token must have; at least one.
    pub claims: Vec<(String, Pattern)>,
    /// The vault that its machines belong to; the path of the enrolment names it.
    pub vault: String,
    /// The terms of its machines.
    pub machine: MachineTerms,
    /// The name of a machine. Default: the one that it asks for.
    pub machine_name: Option<NameTemplate>,
}

/// Where the public keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a JWK set (RFC 7517).
    File(PathBuf),
    /// An address that serves one. Its path is the prefix of the URL.
    Url {
        /// The address.
        url: GatewayUrl,
        /// A PEM file of trusted certificate authorities, in place of the system's.
        ca: Option<PathBuf>,
    },
}

/// A name with claims in braces: `ci-{repository}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Vec<TemplatePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Claim(String),
}

impl KeySource {
    /// Reads the keys of a file.
    ///
    /// # Errors
    ///
    /// The mistake in the file.
    pub fn read_file(path: &Path) -> Result<IssuerKeys, Unusable> {
        let bytes = file::read(path, MAX_KEY_SET).map_err(|fault| fault.of(path))?;
        let keys = IssuerKeys::parse(&bytes);
        keys.map_err(|why| Unusable::content(format!("{} {why}", path.display())))
    }
}

impl NameTemplate {
    /// Parses a template. A brace has no other meaning than to enclose a claim.
    ///
    /// # Errors
    ///
    /// Why the text is no template.
    pub fn parse(text: &str) -> Result<NameTemplate, String> {
        let malformed = || {
            format!(
                "{} is not a name with claims in braces, such as \"{{sub}}\"",
                quoted(text)
            )
        };
        if !(1..=MAX_TEXT).contains(&text.len()) {
            return Err(malformed());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (before, after) = rest.split_once('{').unwrap_or((rest, ""));
            if before.contains('}') {
                return Err(malformed());
            }
            if !before.is_empty() {
                parts.push(TemplatePart::Text(before.to_owned()));
            }
            if before.len() == rest.len() {
                break;
            }
            let (claim, after) = after.split_once('}').ok_or_else(malformed)?;
            if claim.is_empty() || claim.contains('{') {
                return Err(malformed());
            }
            parts.push(TemplatePart::Claim(claim.to_owned()));
            rest = after;
        }
        Ok(NameTemplate(parts))
    }

    /// The name, with what `claim` gives for each claim.
    ///
    /// # Errors
    ///
    /// The first claim that is missing.
    pub fn fill(&self, claim: impl Fn(&str) -> Option<String>) -> Result<String, &str> {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                TemplatePart::Text(text) => name.push_str(text),
                TemplatePart::Claim(key) => name.push_str(&claim(key).ok_or(&**key)?),
            }
        }
        Ok(name)
    }
}

/// Reads the list of joiners.
pub(super) fn read(list: Option<Field<'_>>, base: &Path) -> Vec<Joiner> {
    let Some(list) = list else {
        return Vec::new();
    };
    let mut joiners: Vec<Joiner> = Vec::new();
    for item in list.some_items_up_to(MAX_JOINERS, "has no joiner; remove it") {
        let Some(joiner) = joiner(&mut item.table(), base) else {
            continue;
        };
        if joiners.iter().any(|known| known.name == joiner.name) {
            item.mistake(format!(
                "another joiner has the name {} already",
                joiner.name
            ));
        }
        joiners.push(joiner);
    }
    joiners
}

fn joiner(table: &mut Table<'_>, base: &Path) -> Option<Joiner> {
    let name = (table.required("name")).and_then(|field| {
        field.parse_text(|text| match super::is_credential_name(text) {
            true => Ok(text.to_owned()),
            false => Err("must be a name, [a-z0-9_-]{1,64}".to_owned()),
        })
    });
    let issuer = (table.required("issuer")).and_then(|field| field.parse(assertion::name));
    let keys = (table.required("jwks")).and_then(|field| keys(&mut field.table(), base));
    let audience = (table.required("audience")).and_then(|field| field.parse(assertion::name));
    let claims = table.required_or(
        "claims",
        "is missing; without it every token of the issuer would enrol a machine. Name what only \
         your machines have, such as sub",
    );
    let claims = claims.map(|field| claims_of(&field));
    let vault = (table.required("vault")).and_then(|field| {
        field.parse_text(|text| match is_vault(text) {
            true => Ok(text.to_owned()),
            false => Err(
                "is one segment of a path: 1 to 128 of the characters A-Z a-z 0-9 . _ -".to_owned(),
            ),
        })
    });
    let (machine, machine_name) = {
        let mut terms = table.table("machine");
        let name = terms.field("name");
        let name = name.and_then(|field| field.parse_text(NameTemplate::parse));
        (MachineTerms::read(&mut terms), name)
    };
    Some(Joiner {
        name: name?,
        issuer: issuer?,
        keys: keys?,
        audience: audience?,
        claims: claims?,
        vault: vault?,
        machine,
        machine_name,
    })
}

fn keys(table: &mut Table<'_>, base: &Path) -> Option<KeySource> {
    let ca = table.field("ca");
    match (table.field("file"), table.field("url")) {
        (Some(file), None) => {
            if let Some(ca) = ca {
                ca.mistake("has no effect on a file; remove it");
            }
            let path = operation::file(&file, base)?;
            // A key set that cannot be read at a start would refuse every machine.
            if let Err(why) = KeySource::read_file(&path) {
                file.mistake(why.to_string());
            }
            Some(KeySource::File(path))
        }
        (None, Some(url)) => {
            let ca = ca.and_then(|field| operation::file(&field, base));
            let url = url.parse(|text| {
                let url = GatewayUrl::parse(text)?;
                match url.is_confidential() {
                    true => Ok(url),
                    false => Err(
                        "is plain HTTP: whoever sits in between could put in keys of their own; \
                         use https://"
                            .to_owned(),
                    ),
                }
            })?;
            Some(KeySource::Url { url, ca })
        }
        (Some(_), Some(url)) => {
            url.mistake("is set together with `file`; remove one of the two");
            None
        }
        (None, None) => {
            table.mistake("file", "is missing, and so is `url`; name one of the two");
            None
        }
    }
}

fn claims_of(field: &Field<'_>) -> Vec<(String, Pattern)> {
    let none = "has no claim; without one every token of the issuer would enrol a machine";
    let mut claims = Vec::new();
    for (name, field) in field.some_entries(none) {
        if !(1..=MAX_TEXT).contains(&name.len()) {
            field.mistake(format!(
                "the name of a claim has 1 to {MAX_TEXT} characters"
            ));
        }
        let Some(pattern) = field.parse(|text| Pattern::parse(text).map_err(|why| why.to_string()))
        else {
            continue;
        };
        let beginning = pattern.as_str().strip_suffix('*');
        match beginning.map(|text| text.bytes().next_back()) {
            Some(None) => field.warning("lets every value pass; write the beginning of yours"),
            Some(Some(last)) if last.is_ascii_alphanumeric() => field.warning(format!(
                "also lets values pass that go on with a letter or a digit; end it with a separator \
                 before the `*`, such as {}/*",
                beginning.unwrap_or_default()
            )),
            _ => {}
        }
        claims.push((name.to_owned(), pattern));
    }
    claims
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_with_claims() {
        let claim = |key: &str| match key {
            "sub" => Some("web".to_owned()),
            "kubernetes.io/namespace" => Some("prod".to_owned()),
            _ => None,
        };
        for (text, name) in [
            ("{sub}", "web"),
            ("k8s-{kubernetes.io/namespace}-{sub}", "k8s-prod-web"),
            ("{sub}{sub}!", "webweb!"),
            ("plain", "plain"),
        ] {
            let template = NameTemplate::parse(text).unwrap();
            assert_eq!(template.fill(claim), Ok(name.to_owned()), "{text}");
        }
        let missing = NameTemplate::parse("{sub}-{none}").unwrap();
        assert_eq!(missing.fill(claim), Err("none"));
    }

    #[test]
    fn other_braces_are_no_template() {
        for text in [
            "", "{", "}", "{}", "{sub", "sub}", "{a{b}", "{a}}", "a}b{c}",
        ] {
            assert!(NameTemplate::parse(text).is_err(), "{text}");
        }
        assert!(NameTemplate::parse(&"x".repeat(MAX_TEXT + 1)).is_err());
    }
}
