//! The table of calls, and the call of a request.

use countersign_core::identity::MachineId;

/// Longest id of an enrolment token, in bytes. The gateway's own have fewer.
const MAX_TOKEN_ID: usize = 64;

/// A call, by the method and the path of a request. What else it takes is in its query or its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryCall {
    /// A page of machines.
    ListMachines,
    /// Machines to add, all or none.
    AddMachines,
    /// One machine.
    ShowMachine(MachineId),
    /// Fields of a machine to change or remove.
    ChangeMachine(MachineId),
    /// A machine to remove.
    RemoveMachine(MachineId),
    /// A key to add to a machine, and an end for the others.
    AddKey(MachineId),
    /// A token to create, with which machines enrol.
    CreateToken,
    /// All tokens, without their secret.
    ListTokens,
    /// A token to revoke.
    RevokeToken(Box<str>),
    /// The changes after a revision.
    ListChanges,
    /// A key that a machine adds to itself.
    RenewOwnKey,
}

/// The signer of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallSigner {
    /// An operator. No machine is one.
    Operator,
    /// The machine that the call is about.
    Machine,
}

/// Why a request is none of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCall {
    /// No call has the path.
    Path,
    /// The calls of the path have other methods: these.
    Method(&'static [&'static str]),
}

/// The thing that a path names.
enum Resource {
    Machines,
    Machine(MachineId),
    Keys(MachineId),
    Tokens,
    Token(Box<str>),
    Changes,
    OwnKeys,
}

impl RegistryCall {
    /// Every call: its method, and its path behind that of the route.
    pub const TABLE: [(&'static str, &'static str); 11] = [
        ("GET", "/machines"),
        ("POST", "/machines"),
        ("GET", "/machines/{id}"),
        ("PATCH", "/machines/{id}"),
        ("DELETE", "/machines/{id}"),
        ("POST", "/machines/{id}/keys"),
        ("POST", "/enrolment-tokens"),
        ("GET", "/enrolment-tokens"),
        ("DELETE", "/enrolment-tokens/{id}"),
        ("GET", "/changes"),
        ("POST", "/self/keys"),
    ];

    /// The call of a request, by its method and its path behind that of the route, without a query.
    /// Paths and methods are compared byte for byte.
    ///
    /// # Errors
    ///
    /// [`NoCall`]. It tells nothing that is not in the table.
    pub fn find(method: &str, path: &str) -> Result<RegistryCall, NoCall> {
        let resource = Resource::of(path).ok_or(NoCall::Path)?;
        let methods = resource.methods();
        (resource.call(method)).ok_or(NoCall::Method(methods))
    }

    /// Its signer.
    pub const fn signer(&self) -> CallSigner {
        match self {
            RegistryCall::RenewOwnKey => CallSigner::Machine,
            _ => CallSigner::Operator,
        }
    }
}

impl Resource {
    fn of(path: &str) -> Option<Resource> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let first_three = [segments.next(), segments.next(), segments.next()];
        if segments.next().is_some() {
            return None;
        }
        match first_three {
            [Some("machines"), None, None] => Some(Resource::Machines),
            [Some("machines"), Some(id), None] => MachineId::parse(id).map(Resource::Machine),
            [Some("machines"), Some(id), Some("keys")] => MachineId::parse(id).map(Resource::Keys),
            [Some("enrolment-tokens"), None, None] => Some(Resource::Tokens),
            [Some("enrolment-tokens"), Some(id), None] if is_token_id(id) => {
                Some(Resource::Token(id.into()))
            }
            [Some("changes"), None, None] => Some(Resource::Changes),
            [Some("self"), Some("keys"), None] => Some(Resource::OwnKeys),
            _ => None,
        }
    }

    const fn methods(&self) -> &'static [&'static str] {
        match self {
            Resource::Machines | Resource::Tokens => &["GET", "POST"],
            Resource::Machine(_) => &["GET", "PATCH", "DELETE"],
            Resource::Keys(_) | Resource::OwnKeys => &["POST"],
            Resource::Token(_) => &["DELETE"],
            Resource::Changes => &["GET"],
        }
    }

    fn call(self, method: &str) -> Option<RegistryCall> {
        Some(match (self, method) {
            (Resource::Machines, "GET") => RegistryCall::ListMachines,
            (Resource::Machines, "POST") => RegistryCall::AddMachines,
            (Resource::Machine(id), "GET") => RegistryCall::ShowMachine(id),
            (Resource::Machine(id), "PATCH") => RegistryCall::ChangeMachine(id),
            (Resource::Machine(id), "DELETE") => RegistryCall::RemoveMachine(id),
            (Resource::Keys(id), "POST") => RegistryCall::AddKey(id),
            (Resource::Tokens, "POST") => RegistryCall::CreateToken,
            (Resource::Tokens, "GET") => RegistryCall::ListTokens,
            (Resource::Token(id), "DELETE") => RegistryCall::RevokeToken(id),
            (Resource::Changes, "GET") => RegistryCall::ListChanges,
            (Resource::OwnKeys, "POST") => RegistryCall::RenewOwnKey,
            _ => return None,
        })
    }
}

/// Whether a text can be the id of a token: the alphabet of machine ids.
fn is_token_id(text: &str) -> bool {
    text.len() <= MAX_TOKEN_ID && MachineId::is_valid(text.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use countersign_core::method::METHODS;
    use proptest::prelude::*;

    fn id() -> MachineId {
        MachineId::parse("web-1").unwrap()
    }

    fn find(method: &str, path: &str) -> Result<RegistryCall, NoCall> {
        RegistryCall::find(method, path)
    }

    #[test]
    fn every_row_of_the_table_is_a_call_of_its_own() {
        let calls = RegistryCall::TABLE.map(|(method, path)| {
            let path = path.replace("{id}", "web-1");
            find(method, &path).unwrap()
        });
        assert_eq!(
            calls,
            [
                RegistryCall::ListMachines,
                RegistryCall::AddMachines,
                RegistryCall::ShowMachine(id()),
                RegistryCall::ChangeMachine(id()),
                RegistryCall::RemoveMachine(id()),
                RegistryCall::AddKey(id()),
                RegistryCall::CreateToken,
                RegistryCall::ListTokens,
                RegistryCall::RevokeToken("web-1".into()),
                RegistryCall::ListChanges,
                RegistryCall::RenewOwnKey,
            ]
        );
    }

    #[test]
    fn no_method_outside_the_table_has_a_call() {
        let paths: Vec<&str> = RegistryCall::TABLE.iter().map(|(_, path)| *path).collect();
        for path in paths {
            for method in METHODS.into_iter().chain(["PUT", "get", "TRACE", ""]) {
                let is_there = RegistryCall::TABLE.contains(&(method, path));
                let found = find(method, &path.replace("{id}", "a"));
                assert_eq!(found.is_ok(), is_there, "{method} {path}");
            }
        }
    }

    #[test]
    fn another_method_names_those_of_the_path_in_the_order_of_the_table() {
        for (path, _) in [("/machines", ()), ("/machines/a", ()), ("/changes", ())] {
            let pattern = path.replace("/a", "/{id}");
            let rows = RegistryCall::TABLE.iter();
            let expected: Vec<&str> = rows
                .filter(|(_, known)| *known == pattern)
                .map(|(method, _)| *method)
                .collect();
            let Err(NoCall::Method(allowed)) = find("OPTIONS", path) else {
                unreachable!("{path}");
            };
            assert_eq!(allowed, expected, "{path}");
        }
    }

    #[test]
    fn head_is_no_get() {
        assert_eq!(
            find("HEAD", "/machines"),
            Err(NoCall::Method(&["GET", "POST"]))
        );
    }

    #[test]
    fn a_path_that_is_not_in_the_table_has_no_call() {
        for path in [
            "",
            "/",
            "machines",
            "/machines/",
            "/Machines",
            "/machine",
            "/machinesx",
            "/machines/a/",
            "/machines/a/key",
            "/machines/a/keys/",
            "/machines/a/keys/b",
            "/machines//keys",
            "/enrolment-tokens/",
            "/enrolment-tokens/a/b",
            "/enrolment-tokens/a/keys",
            "/changes/1",
            "/self",
            "/self/keys/",
            "/self/keys/a",
            "/self/key",
            "/v1/machines",
            "//machines",
            "/countersign/v1/machines",
        ] {
            assert_eq!(find("GET", path), Err(NoCall::Path), "{path}");
        }
    }

    #[test]
    fn an_id_outside_the_grammar_is_no_machine_and_no_token() {
        let long = "a".repeat(129);
        for id in ["a%40b", "a:b", "a b", "é", "a@b", "a,b", &long] {
            let path = format!("/machines/{id}");
            assert_eq!(find("GET", &path), Err(NoCall::Path), "{id}");
            let path = format!("/enrolment-tokens/{id}");
            assert_eq!(find("DELETE", &path), Err(NoCall::Path), "{id}");
        }
    }

    #[test]
    fn an_id_may_be_as_long_as_the_grammar_has_it() {
        let path = format!("/machines/{}", "a".repeat(128));
        assert!(find("GET", &path).is_ok());
        let path = format!("/enrolment-tokens/{}", "a".repeat(MAX_TOKEN_ID + 1));
        assert_eq!(find("DELETE", &path), Err(NoCall::Path));
    }

    #[test]
    fn a_machine_may_be_called_like_a_part_of_a_path() {
        for name in ["machines", "keys", "self", "changes"] {
            let call = find("GET", &format!("/machines/{name}")).unwrap();
            assert_eq!(
                call,
                RegistryCall::ShowMachine(MachineId::parse(name).unwrap())
            );
        }
    }

    #[test]
    fn machines_sign_one_call_and_operators_all_others() {
        for (method, path) in RegistryCall::TABLE {
            let call = find(method, &path.replace("{id}", "a")).unwrap();
            let expected = match path {
                "/self/keys" => CallSigner::Machine,
                _ => CallSigner::Operator,
            };
            assert_eq!(call.signer(), expected, "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn only_one_spelling_of_a_path_is_a_machines_own_call(path in "[/a-z%0-9A-F.]{0,12}") {
            if let Ok(call) = find("POST", &path) {
                prop_assert_eq!(call.signer() == CallSigner::Machine, path == "/self/keys");
            }
        }
    }
}
