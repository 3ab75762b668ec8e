//! `conf/prometheus`, `conf/grafana` and the runbook: that each names only what a gateway exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Output};
use std::sync::OnceLock;

use countersign_core::refusal::Code;
use serde_json::Value;

use super::{root, text_of, tool};
use crate::support::backend::Backend;
use crate::support::client::exchange;
use crate::support::gateway::{Gateway, Options, machine, raw, wait_for};

const RULES: &str = "conf/prometheus/countersign.rules.yml";
const TESTS: &str = "conf/prometheus/countersign.test.yml";
const DASHBOARD: &str = "conf/grafana/countersign.json";
const RUNBOOK: &str = "docs/runbook.md";

/// By metric, the values seen of each of its labels.
type Exported = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a gateway exports that has a bit of everything: credentials, an observed route, a route
/// with bearer credentials, a machine whose clock is off.
fn exported() -> &'static Exported {
    static EXPORTED: OnceLock<Exported> = OnceLock::new();
    EXPORTED.get_or_init(|| {
        let backend = Backend::start();
        let keys = tempfile::tempdir().unwrap();
        let key = keys.path().join("assertion.pem");
        std::fs::write(&key, machine().pem()).unwrap();
        let gateway = Gateway::with(
            &backend,
            Options {
                upstream: "    credential: { header: X-Vault-Token, file: token }\n  \
                           vault:\n    servers: ['http://127.0.0.1:1']\n    \
                           login: { method: jwt, mount: jwt, role: r, audience: a, header: X-Token }\n"
                    .into(),
                more: format!("assertion: {{ issuer: gw, keys: ['{}'] }}\n", key.display()),
                token: Some("t0ken".into()),
                routes: "  - { path: /, upstream: secrets }\n  \
                         - { path: /b, upstream: secrets, bearer_until: '2027-02-01' }\n  \
                         - { path: /o, upstream: secrets, mode: observe, observe_until: '2027-02-01' }\n"
                    .into(),
                tls: true,
                ..Options::default()
            },
        );
        let skewed = machine().sign("GET", "/a", gateway.now() + 60, b"");
        assert_eq!(exchange(gateway.address, raw("GET", "/a", &skewed.lines(), b"")).status, 200);
        wait_for("the machine's series", || {
            let (_, text) = gateway.admin_get("/metrics");
            text.contains("countersign_machine_skew_seconds{").then_some(())
        });
        parse(&gateway.admin_get("/metrics").1)
    })
}

fn parse(text: &str) -> Exported {
    let mut exported = Exported::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let metric = exported.entry(name.to_owned()).or_default();
        for label in labels
            .trim_end_matches('}')
            .split("\",")
            .filter(|l| !l.is_empty())
        {
            let (label, value) = label.split_once("=\"").unwrap();
            let values = metric.entry(label.to_owned()).or_default();
            values.insert(value.trim_end_matches('"').to_owned());
        }
    }
    exported
}

/// What is wrong with the metrics that a text names: none of them is exported, or not with those
/// labels and values. Labels that a scrape adds are known; values only of labels that are closed
/// sets.
fn wrong_with(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (start, _) in text.match_indices("countersign_") {
        let rest = &text[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let Some(labels) = exported().get(name) else {
            wrong.push(format!("{name} is not exported"));
            continue;
        };
        let Some(matchers) = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next())
        else {
            continue;
        };
        for matcher in matchers.split(", ").flat_map(|part| part.split("\",")) {
            // A document may name a label without a value.
            let (label, value) = matcher.split_once('=').unwrap_or((matcher, ""));
            let label = label.trim_end_matches('!');
            if matches!(label, "instance" | "job") {
                continue;
            }
            let Some(known) = labels.get(label) else {
                wrong.push(format!("{name} has no label {label}"));
                continue;
            };
            let values = value.trim_start_matches('~').trim_matches('"').split('|');
            let values = values.filter(|value| !value.is_empty());
            if matches!(label, "code" | "outcome" | "auth" | "result" | "mode") {
                let unknown = values.filter(|value| !known.contains(*value));
                wrong.extend(unknown.map(|value| format!("{name} has no {label} {value}")));
            }
        }
    }
    wrong
}

/// The labels that expressions group by, with the metrics in the same expression.
fn wrong_groups(expression: &str) -> Vec<String> {
    let known: BTreeSet<&str> = (exported().iter())
        .filter(|(name, _)| expression.contains(name.as_str()))
        .flat_map(|(_, labels)| labels.keys().map(String::as_str))
        .chain(["instance", "job", "le"])
        .collect();
    let groups = expression
        .match_indices("by (")
        .chain(expression.match_indices("on ("));
    let labels = groups.flat_map(|(start, found)| {
        let list = expression[start + found.len()..].split(')').next().unwrap();
        list.split(", ")
    });
    labels
        .filter(|label| !known.contains(label))
        .map(|label| format!("no metric of {expression} has a label {label}"))
        .collect()
}

fn rules() -> Vec<serde_yaml::Value> {
    let text = text_of(RULES);
    let rules: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let groups = rules["groups"].as_sequence().unwrap();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_sequence().unwrap().clone())
        .collect()
}

fn alerts() -> Vec<String> {
    let alerts = rules();
    alerts
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect()
}

/// The expressions of the dashboard, with what Grafana puts in place of its variables.
fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text_of(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().clone();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| target["expr"].as_str().unwrap())
        .map(|expr| {
            expr.replace("$__rate_interval", "5m")
                .replace("$instance", ".*")
        })
        .collect()
}

fn promtool(arguments: &[&str]) -> Output {
    Command::new(tool("promtool"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("promtool is installed by `make test`")
}

#[track_caller]
fn assert_good(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn promtool_finds_nothing_wrong_with_the_rules() {
    assert_good(&promtool(&[
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        RULES,
    ]));
}

#[test]
fn each_alert_is_raised_when_it_must_be_and_not_when_it_must_not() {
    assert_good(&promtool(&["test", "rules", TESTS]));
    let tests = text_of(TESTS);
    for alert in alerts() {
        assert!(
            tests.contains(&format!("alertname: {alert}\n")),
            "{alert} has no test"
        );
    }
}

#[test]
fn the_rules_name_only_metrics_labels_and_values_that_a_gateway_exports() {
    for rule in rules() {
        let expression = rule["expr"].as_str().unwrap();
        assert_eq!(wrong_with(expression), [""; 0], "{expression}");
        assert_eq!(wrong_groups(expression), [""; 0]);
    }
}

#[test]
fn the_dashboard_names_only_metrics_labels_and_values_that_a_gateway_exports() {
    let expressions = dashboard();
    assert!(expressions.len() > 25);
    for expression in expressions {
        assert_eq!(wrong_with(&expression), [""; 0], "{expression}");
        assert_eq!(wrong_groups(&expression), [""; 0]);
    }
}

#[test]
fn the_runbook_and_the_guides_name_only_metrics_that_a_gateway_exports() {
    for document in [
        RUNBOOK,
        "docs/running.md",
        "docs/watching.md",
        "docs/migration.md",
    ] {
        let mut wrong = wrong_with(&text_of(document));
        // For people, a histogram goes by one name.
        wrong.retain(|wrong| {
            let name = wrong.split(' ').next().unwrap();
            !exported().contains_key(&format!("{name}_bucket"))
        });
        assert_eq!(wrong, [""; 0], "{document}");
    }
}

#[test]
fn every_exported_metric_is_on_the_dashboard() {
    let shown = dashboard().join("\n");
    let families = exported().keys().filter(|name| !name.ends_with("_sum"));
    for name in families.filter(|name| !name.ends_with("_count")) {
        let elsewhere = [
            // The dashboard asks it which gateways there are.
            "countersign_build_info",
            // For looking into something, not for looking at.
            "countersign_clock_skew_seconds_bucket",
            "countersign_clock_steps_total",
            "countersign_registry_last_reload_timestamp_seconds",
        ];
        assert!(
            shown.contains(name) || elsewhere.contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn what_is_not_exported_would_be_noticed() {
    for text in [
        "countersign_requests",
        "countersign_requests_total{color=\"red\"}",
        "countersign_requests_total{outcome=\"lost\"}",
        "countersign_refusals_total{code=~\"replayed|bad_luck\"}",
    ] {
        assert_eq!(wrong_with(text).len(), 1, "{text}");
    }
    let group = "sum by (code) (countersign_requests_total)";
    assert_eq!(wrong_groups(group).len(), 1);
}

#[test]
fn every_expression_of_the_dashboard_parses() {
    let rules: Vec<Value> = (dashboard().iter().enumerate())
        .map(|(n, expr)| serde_json::json!({"record": format!("dashboard:expression:{n}"), "expr": expr}))
        .collect();
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let folder = tempfile::tempdir().unwrap();
    // JSON is YAML.
    let file = folder.path().join("dashboard.yml");
    fs::write(&file, rules.to_string()).unwrap();
    assert_good(&promtool(&["check", "rules", file.to_str().unwrap()]));
}

#[test]
fn every_alert_has_its_severity_and_texts_and_a_section_in_the_runbook() {
    let sections = anchors(&text_of(RUNBOOK));
    for rule in rules() {
        let alert = rule["alert"].as_str().unwrap();
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(matches!(severity, "page" | "ticket"), "{alert}");
        let text = |name: &str| rule["annotations"][name].as_str().unwrap().to_owned();
        assert!(!text("summary").is_empty() && !text("description").is_empty());
        let anchor = alert.to_lowercase();
        assert_eq!(text("runbook"), format!("{RUNBOOK}#{anchor}"));
        assert!(sections.contains(&anchor), "{alert} has no section");
    }
}

#[test]
fn the_runbook_has_no_section_for_an_alert_that_is_gone_and_says_the_right_severity() {
    let text = text_of(RUNBOOK);
    for section in text.split("\n## Countersign").skip(1) {
        let name = format!("Countersign{}", section.lines().next().unwrap());
        let mut rules = rules();
        rules.retain(|rule| rule["alert"] == name.as_str());
        assert_eq!(rules.len(), 1, "{name}");
        let severity = rules[0]["labels"]["severity"].as_str().unwrap();
        let begins = section.lines().nth(2).unwrap().to_lowercase();
        assert!(
            begins.starts_with(&format!("*{severity}.*")),
            "{name}: {begins}"
        );
    }
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
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

/// The status and the code of a document's rows that begin with a status.
fn rows_of_codes(document: &str) -> BTreeSet<String> {
    let text = text_of(document);
    let rows = text.lines().filter(|line| {
        line.strip_prefix("| ")
            .is_some_and(|row| row.starts_with(|c: char| c.is_ascii_digit()))
    });
    rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join(" | "))
        .collect()
}

fn row_of(code: Code) -> String {
    format!("| {} | `{}`", code.status(), code.as_str())
}

#[test]
fn every_code_has_its_row_in_the_reference_and_no_other() {
    let expected: BTreeSet<String> = Code::ALL.into_iter().map(row_of).collect();
    assert_eq!(rows_of_codes("docs/reference/refusals.md"), expected);
}

#[test]
fn every_code_with_a_5xx_status_has_its_row_in_the_runbook_and_no_other() {
    let codes = Code::ALL.into_iter().filter(|code| code.status() >= 500);
    assert_eq!(rows_of_codes(RUNBOOK), codes.map(row_of).collect());
}
