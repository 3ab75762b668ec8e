//! The calls that enrol a machine: `{prefix}/{vault}/enroll/register` and `{prefix}/{vault}/enroll/jwt`,
//! and `{prefix}/ai-bootstrap/register` of SikkerKey's client for agents.

use crate::config::Enrolment;
use countersign_core::enrolment::is_vault;

/// The kind of secret that lets a machine in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolmentSecret {
    /// An enrolment token.
    Token,
    /// A JSON Web Token of a joiner's issuer.
    Jwt,
    /// An enrolment token in the spelling of SikkerKey's client for agents: its 32 bytes in
    /// hexadecimal digits.
    AgentToken,
}

/// A call that enrols a machine. Every other path is left to the routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentCall {
    /// The path of the enrolment route.
    pub route: String,
    /// The vault, if the path names one. Without one it is that of the token.
    pub vault: Option<String>,
    /// The kind of secret in the body.
    pub secret: EnrolmentSecret,
}

impl EnrolmentCall {
    /// The call at a path, without its query. It is compared byte for byte: an encoded spelling is
    /// another path.
    pub fn find(enrolment: &Enrolment, path: &str) -> Option<EnrolmentCall> {
        let mut places = enrolment.behind_prefixes(path);
        places.find_map(|(route, rest)| EnrolmentCall::of(route, rest))
    }

    fn of(route: &str, rest: &str) -> Option<EnrolmentCall> {
        if rest == "/ai-bootstrap/register" {
            return Some(EnrolmentCall {
                route: route.to_owned(),
                vault: None,
                secret: EnrolmentSecret::AgentToken,
            });
        }
        let (vault, call) = rest.strip_prefix('/')?.split_once('/')?;
        let secret = match call {
            "enroll/register" => EnrolmentSecret::Token,
            "enroll/jwt" => EnrolmentSecret::Jwt,
            _ => return None,
        };
        is_vault(vault).then(|| EnrolmentCall {
            route: route.to_owned(),
            vault: Some(vault.to_owned()),
            secret,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::config::GatewayUrl;

    fn find(prefix: &str, path: &str) -> Option<(Option<String>, EnrolmentSecret)> {
        find_below(&[prefix], path)
    }

    fn find_below(prefixes: &[&str], path: &str) -> Option<(Option<String>, EnrolmentSecret)> {
        let enrolment = Enrolment {
            prefixes: prefixes.iter().map(|it| (*it).to_owned()).collect(),
            public_url: GatewayUrl::parse("https://gw").unwrap(),
            joiners: Vec::new(),
        };
        EnrolmentCall::find(&enrolment, path).map(|call| (call.vault, call.secret))
    }

    #[test]
    fn three_paths_below_the_prefix_are_taken() {
        let vault = || Some("vault_prod".to_owned());
        let agent = Some((None, EnrolmentSecret::AgentToken));
        assert_eq!(find("/v1", "/v1/ai-bootstrap/register"), agent);
        let at = |path| find("/v1", path);
        assert_eq!(
            at("/v1/vault_prod/enroll/register"),
            Some((vault(), EnrolmentSecret::Token))
        );
        assert_eq!(
            at("/v1/vault_prod/enroll/jwt"),
            Some((vault(), EnrolmentSecret::Jwt))
        );
        assert_eq!(
            find("/", "/vault_prod/enroll/jwt"),
            Some((vault(), EnrolmentSecret::Jwt))
        );
    }

    #[test]
    fn a_prefix_below_another_one_is_found_too() {
        let found = find_below(&["/v1", "/v1/eu"], "/v1/eu/vault_prod/enroll/jwt");
        assert_eq!(found.unwrap().0.as_deref(), Some("vault_prod"));
    }

    #[test]
    fn every_other_path_is_left_to_the_routes() {
        for path in [
            "/v1/vault_prod/enroll/register/",
            "/v1/vault_prod/enroll",
            "/v1/vault_prod/enroll/",
            "/v1/vault_prod/enroll/other",
            "/v1//enroll/register",
            "/v1/enroll/register",
            "/v1/a/b/enroll/register",
            "/v1/../enroll/register",
            "/v1/vault%5Fprod/enroll/register",
            "/v1/vault_prod/enroll%2Fregister",
            "/v1/vault_prod/Enroll/register",
            "/v12/vault_prod/enroll/register",
            "/v1x/vault_prod/enroll/register",
            "/vault_prod/enroll/register",
            "/",
            "",
        ] {
            assert_eq!(find("/v1", path), None, "{path}");
        }
    }
}
