//! The documents for operators: that what they tell people to type is there.

use super::text_of;
use crate::support::process::run;

const DOCUMENTS: [&str; 6] = [
    "README.md",
    "docs/audit.md",
    "docs/migration.md",
    "docs/running.md",
    "docs/runbook.md",
    "conf/systemd/countersign.service",
];

/// The commands of a document: what follows the program's name on lines that are code.
fn commands(document: &str) -> Vec<String> {
    let (mut fenced, mut found) = (false, Vec::new());
    for line in text_of(document).lines() {
        if line.starts_with("```") {
            fenced = line == "```sh";
            continue;
        }
        let code = match line.strip_prefix("    ") {
            Some(code) => code,
            None if fenced => line,
            None => line.strip_prefix("#   ").unwrap_or(""),
        };
        for part in code.split(" | ").flat_map(|part| part.split("; ")) {
            let part = part
                .trim_start()
                .trim_start_matches("docker exec countersign /");
            if let Some(command) = part.strip_prefix("countersign ") {
                found.push(command.split(['#', '>']).next().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn every_command_that_a_document_names_exists_with_its_flags() {
    let mut count = 0;
    for document in DOCUMENTS {
        for command in commands(document) {
            count += 1;
            let words: Vec<&str> = command.split_whitespace().collect();
            let nested = matches!(words[0], "audit" | "machine");
            let path = &words[..if nested { 2 } else { 1 }];
            let help = run(&[path, &["--help"]].concat());
            assert!(help.status.success(), "{document}: {command}");
            let help = String::from_utf8(help.stdout).unwrap();
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag), "{document}: {command}: {flag}");
            }
        }
    }
    assert!(count > 25, "the commands were found: {count}");
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    for document in ["docs/migration.md", "docs/running.md", "docs/runbook.md"] {
        let text = text_of(document);
        for target in text
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap())
        {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => document.to_owned(),
                file => match file.strip_prefix("../") {
                    Some(file) => file.to_owned(),
                    None => format!("docs/{file}"),
                },
            };
            let there = text_of(&file);
            assert!(
                anchor.is_empty() || anchors(&there).contains(&anchor.to_owned()),
                "{target}"
            );
        }
    }
}

/// The anchors of a document's headings, as GitHub makes them.
pub(super) fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}
