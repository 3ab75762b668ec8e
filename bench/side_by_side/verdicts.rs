//! What the figures are meant to show, and whether they do.

use crate::contender::{ENFORCE, ENVOY_AUTH, JOURNAL, NGINX_AUTH, OPEN, UNTHROTTLED};
use crate::measure::Sample;
use crate::requests::Kind;
use crate::run::Results;
use crate::table::{Row, markdown, median};

/// One target, and the figure.
struct Verdict {
    what: String,
    target: String,
    figure: String,
    /// Empty where the target was only to be compared with.
    verdict: String,
}

/// The table of targets.
pub(crate) fn verdicts(results: &Results, idle: u64) -> String {
    let mut all = Vec::new();
    for name in [ENFORCE, JOURNAL] {
        let alone = results.signatures.iter().map(|s| s.alone);
        let together = results.signatures.iter().map(|s| s.together);
        all.push(authentication(results, name, "", alone));
        all.push(authentication(results, name, ", cores busy", together));
        for (other, target, goal) in [(NGINX_AUTH, 0.85, 0.75), (ENVOY_AUTH, 0.55, 0.48)] {
            let ratios = by_round(&results.main, name, other, |this, other| this / other);
            all.push(at_most(
                format!("CPU of {name} / {other}"),
                &ratios,
                target,
                Some(goal),
                "×",
            ));
        }
    }
    let p99 = pairs(&results.open_loop, "", (ENFORCE, OPEN), |sample| sample.p99);
    let p99: Vec<f64> = p99.map(|(enforce, open)| enforce - open).collect();
    all.push(at_most(
        "p99 of enforce − open, open loop".to_owned(),
        &p99,
        200.0,
        None,
        " µs",
    ));
    for (protocol, transport) in [
        ("HTTP/1.1", "a connection each"),
        ("HTTP/2, TLS", "kept connections"),
    ] {
        let accepted = format!("accepted, {protocol}");
        for (kind, target) in [
            (Kind::BadSignature, 1.0),
            (Kind::Replay, 1.0),
            (Kind::Malformed, 0.2),
        ] {
            let refused = format!("{}, {protocol}", kind.name());
            let ratios = across(&results.refused, UNTHROTTLED, &refused, &accepted);
            let transport = if kind == Kind::Replay {
                "kept connections"
            } else {
                transport
            };
            let what = format!(
                "CPU of {} / accepted, {protocol} ({transport})",
                kind.name()
            );
            all.push(at_most(what, &ratios, target, None, "×"));
        }
    }
    all.push(at_most(
        "memory of enforce, idle".to_owned(),
        &[idle as f64 / 1e6],
        40.0,
        None,
        " MB",
    ));
    let rows: Vec<_> = all
        .into_iter()
        .map(|v| vec![v.what, v.target, v.figure, v.verdict])
        .collect();
    markdown(
        &["what", "target", "figure (least – most)", "verdict"],
        &rows,
    )
}

/// What `enforce` costs above `open`, in signatures.
fn authentication(
    results: &Results,
    name: &str,
    which: &str,
    signatures: impl Iterator<Item = f64>,
) -> Verdict {
    let above = by_round(&results.main, name, OPEN, |this, open| this - open);
    let ratios: Vec<f64> = std::iter::zip(above, signatures)
        .map(|(above, one)| above / one)
        .collect();
    let what = format!("CPU of {name} − open, in verify_strict{which}");
    at_most(what, &ratios, 1.4, Some(1.2), "×")
}

fn at_most(what: String, figures: &[f64], target: f64, goal: Option<f64>, unit: &str) -> Verdict {
    let digits = if target >= 10.0 { 0 } else { 2 };
    let figure = median(figures.to_vec());
    let least = figures.iter().copied().fold(f64::NAN, f64::min);
    let greatest = figures.iter().copied().fold(f64::NAN, f64::max);
    let goal_text = goal
        .map(|goal| format!(" (goal {goal})"))
        .unwrap_or_default();
    let verdict = if figure.is_nan() {
        "not measured".to_owned()
    } else if goal.is_some_and(|goal| figure <= goal) {
        "met, and the goal".to_owned()
    } else if figure <= target {
        "met".to_owned()
    } else {
        format!("**missed** by {:.*}{unit}", digits, figure - target)
    };
    Verdict {
        what,
        target: format!("≤ {target}{unit}{goal_text}"),
        figure: match figure.is_nan() {
            true => String::new(),
            false => format!("{figure:.digits$}{unit} ({least:.digits$} – {greatest:.digits$})"),
        },
        verdict,
    }
}

/// A figure of two contenders' CPU for each round. Nothing, where one of them did not count.
fn by_round(rows: &[Row], this: &str, other: &str, figure: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    pairs(rows, "", (this, other), |sample| sample.cpu)
        .map(|(a, b)| figure(a, b))
        .collect()
}

fn pairs<'a>(
    rows: &'a [Row],
    case: &str,
    (this, other): (&str, &str),
    of: impl Fn(&Sample) -> f64 + 'a,
) -> impl Iterator<Item = (f64, f64)> + 'a {
    let samples = |name| samples(rows, case, name);
    std::iter::zip(samples(this), samples(other)).map(move |(a, b)| (of(a), of(b)))
}

/// The CPU of one case to that of another, of one contender.
fn across(rows: &[Row], name: &str, this: &str, other: &str) -> Vec<f64> {
    let of = |case| samples(rows, case, name).iter().map(|sample| sample.cpu);
    of(this).zip(of(other)).map(|(a, b)| a / b).collect()
}

fn samples<'a>(rows: &'a [Row], case: &str, name: &str) -> &'a [Sample] {
    let row = rows
        .iter()
        .find(|row| row.contender == name && row.case == case);
    match row {
        Some(row) if row.fault().is_none() => &row.samples,
        _ => &[],
    }
}
