//! Properties of all commands together: their help and the spelling of their options.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use clap::CommandFactory;

use super::*;

/// Every command and subcommand but `help`, by its words.
fn commands() -> Vec<(String, clap::Command)> {
    fn walk(words: String, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
        for command in command.get_subcommands() {
            let words = format!("{words} {}", command.get_name());
            found.push((words.clone(), command.clone()));
            walk(words, command, found);
        }
    }
    let mut root = Arguments::command();
    root.build();
    let mut found = Vec::new();
    walk("countersign".into(), &root, &mut found);
    found.retain(|(words, _)| !words.contains(" help"));
    assert!(found.len() > 20, "the commands were found");
    found
}

fn parses(line: &str) -> bool {
    Arguments::try_parse_from(line.split(' ')).is_ok()
}

#[test]
fn every_command_has_an_example_that_starts_with_its_own_words() {
    for (words, command) in commands() {
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        assert!(help.starts_with("Example"), "{words}: {help}");
        // A Dockerfile has the words one by one.
        let plain = help.replace("\"/countersign\", \"health\"", "countersign health");
        assert!(plain.contains(&words), "{words}: {help}");
    }
}

#[test]
fn every_command_is_told_in_the_imperative() {
    const VERBS: [&str; 22] = [
        "Add", "Check", "Create", "Disable", "Enable", "Enrol", "Explain", "Export", "Find",
        "Generate", "Import", "List", "Make", "Migrate", "Reload", "Remove", "Report", "Revoke",
        "Run", "Show", "Sign", "Verify",
    ];
    for (words, command) in commands() {
        let about = command.get_about().unwrap().to_string();
        let verb = about.split([' ', ':']).next().unwrap();
        assert!(VERBS.contains(&verb), "{words}: {about}");
    }
}

#[test]
fn no_sentence_of_the_help_begins_with_what_or_who() {
    for (words, mut command) in commands() {
        let help = command.render_long_help().to_string();
        let sentences = help.split(['.', ':', '\n']).map(str::trim_start);
        for sentence in sentences {
            let first = sentence.split([' ', ',']).next().unwrap();
            let bad = ["What", "Who", "Whatever", "Whoever"];
            assert!(!bad.contains(&first), "{words}: {sentence}");
        }
    }
}

#[test]
fn an_option_has_one_spelling_and_one_kind_of_value_in_all_commands() {
    // The spelling of each thing, and those that it had or might have.
    let spellings = [
        ("config", &["configuration", "conf"][..]),
        ("machine-id", &["machine", "id"]),
        ("key", &["private-key", "identity-key"]),
        ("audit", &["log"]),
        ("data", &["body"]),
        ("cacert", &["ca", "ca-cert"]),
        ("gateway", &["url"]),
        ("since", &["from-time", "after"]),
        ("json", &["format"]),
    ];
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    for (words, command) in commands() {
        for option in command.get_arguments().filter(|it| !it.is_positional()) {
            let name = option.get_long().unwrap();
            for (right, wrong) in spellings {
                assert!(!wrong.contains(&name), "{words}: --{name} is --{right}");
            }
            if spellings.iter().all(|(right, _)| *right != name) {
                continue;
            }
            let kind = format!("{:?}", option.get_value_names());
            let before = kinds.entry(name.to_owned()).or_insert_with(|| kind.clone());
            assert_eq!(*before, kind, "{words}: --{name}");
        }
    }
    for (right, _) in spellings {
        assert!(kinds.contains_key(right), "no command has --{right}");
    }
}

#[test]
fn older_spellings_are_accepted_and_hidden() {
    for (new, old) in [
        ("explain --machine-id m GET /", "explain --machine m GET /"),
        (
            "machine add --new-id m --public-key k",
            "machine add --id m --public-key k",
        ),
        (
            "sign --key k --machine-id m --data f PUT /",
            "sign --key k --machine-id m --body f PUT /",
        ),
        (
            "request --key k --machine-id m --data f PUT /",
            "request --key k --machine-id m --body f PUT /",
        ),
        (
            "audit show --audit f --machine-id m",
            "audit show --log f --machine m",
        ),
        ("audit verify --audit f", "audit verify --log f"),
        ("report --audit f", "report --log f"),
    ] {
        assert!(parses(&format!("countersign {new}")), "{new}");
        assert!(parses(&format!("countersign {old}")), "{old}");
    }
}

#[test]
fn exit_codes_tell_a_failed_operation_from_a_wrong_call_and_a_wrong_file() {
    let codes = [
        CommandError::Operation(String::new()),
        CommandError::Usage(String::new()),
        CommandError::Configuration(String::new()),
    ];
    assert_eq!(codes.map(|error| error.exit_code()), [1, 64, 78]);
}
