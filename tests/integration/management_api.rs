//! The description of the calls for programs (docs/reference/management.yaml), held to the code.

use std::collections::BTreeSet;

use countersign::management::call::RegistryCall;
use countersign::management::query::{ChangesQuery, MAX_LIMIT, MachinesQuery};
use countersign_core::refusal::Code;
use serde_yaml::Value;

fn description() -> Value {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/reference/management.yaml"
    );
    serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// The operations: method, path, and what the description says.
fn operations(description: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_mapping().unwrap() {
        for (key, operation) in item.as_mapping().unwrap() {
            let key = key.as_str().unwrap();
            if key != "parameters" {
                let path = path.as_str().unwrap().to_owned();
                operations.push((key.to_uppercase(), path, operation.clone()));
            }
        }
    }
    operations
}

#[test]
fn it_has_every_call_and_no_other() {
    let described: BTreeSet<(String, String)> = operations(&description())
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    let table = RegistryCall::TABLE.map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(described, BTreeSet::from(table));
}

#[test]
fn it_has_the_parameters_of_the_queries() {
    for (method, path, operation) in operations(&description()) {
        let parameters = operation["parameters"].as_sequence().cloned();
        let names: Vec<String> = (parameters.into_iter().flatten())
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect();
        let expected: &[&str] = match (&*method, &*path) {
            ("GET", "/machines") => &MachinesQuery::PARAMETERS,
            ("GET", "/changes") => &ChangesQuery::PARAMETERS,
            _ => &[],
        };
        assert_eq!(names, expected, "{method} {path}");
    }
    let limit = &description()["paths"]["/machines"]["get"]["parameters"][1]["schema"];
    assert_eq!(limit["maximum"].as_u64(), Some(u64::from(MAX_LIMIT)));
    assert_eq!(
        limit["default"].as_u64(),
        Some(u64::from(MachinesQuery::default().limit))
    );
}

#[test]
fn its_refusals_are_codes_with_their_status() {
    let description = description();
    let code_of = |name: &str| match name {
        "unavailable" => Code::RegistryUnavailable,
        word => Code::parse(word).unwrap(),
    };
    for (method, path, operation) in operations(&description) {
        for (status, response) in operation["responses"].as_mapping().unwrap() {
            let status: u16 = status.as_str().unwrap().parse().unwrap();
            let Some(reference) = response["$ref"].as_str() else {
                assert_eq!(status, 200, "{method} {path}");
                continue;
            };
            let name = reference.strip_prefix("#/components/responses/").unwrap();
            let known = &description["components"]["responses"][name];
            let text = known["description"].as_str().unwrap();
            if name == "changed" {
                assert_eq!(status, 200, "{method} {path}");
                continue;
            }
            let code = code_of(name);
            assert_eq!(code.status(), status, "{method} {path}");
            assert!(
                text.starts_with(&format!("`{}`: ", code.as_str())),
                "{text}"
            );
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    match value.as_str() {
                        Some(target) if key == "$ref" => found.push(target),
                        _ => references(value, found),
                    }
                }
            }
            Value::Sequence(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let description = description();
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let steps = reference.strip_prefix("#/").unwrap().split('/');
        let target = steps.fold(&description, |value, step| &value[step]);
        assert!(target.is_mapping(), "{reference}");
    }
}
