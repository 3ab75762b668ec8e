//! The report for people.

use std::fmt::Display;

use super::RouteMode;
use crate::audit::report::{
    CodeCounts, Few, MigrationReport, MigrationStatus, Occurrences, Ranking, RouteUse,
    UnsignedClient, Usage,
};
use crate::cli::terminal::visible;
use crate::config::instant;

/// The whole text. Values that clients chose are escaped.
pub(super) fn of(
    report: &MigrationReport,
    since: Option<u64>,
    asks: &[RouteMode],
    top: usize,
) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        text += line;
        text.push('\n');
    };
    head(report, since, &mut line);
    for (path, route) in &report.routes {
        let now = asks.iter().find(|asks| asks.path == *path);
        of_route(path, route, now, report.unread > 0, &mut line);
    }
    if report.routes_left_out > 0 {
        line(&format!(
            "\n{} requests are of further routes: too many for a report",
            report.routes_left_out
        ));
    }
    tables(report, top, &mut line);
    machines(report, top, &mut line);
    text
}

fn head(report: &MigrationReport, since: Option<u64>, line: &mut dyn FnMut(&str)) {
    let requests = report.seen.requests;
    match report.seen.span {
        Some((first, last)) => line(&format!(
            "{requests} requests from {} to {}, in {} lines",
            instant::to_text(first),
            instant::to_text(last),
            report.lines
        )),
        None => line(&format!("no requests, in {} lines", report.lines)),
    }
    if let Some(since) = since {
        line(&format!(
            "since {}; {} earlier requests are left out",
            instant::to_text(since),
            report.earlier
        ));
    }
    if let Some((file, number)) = &report.first_unread {
        line(&format!(
            "CAUTION: unreadable lines, which are not counted: {}, the first one {}:{number}",
            report.unread,
            visible(file)
        ));
    }
    if report.refusals_left_out > 0 {
        line(&format!(
            "{} more refusals were left out of the log, by its summaries",
            report.refusals_left_out
        ));
    }
    if report.no_route.requests > 0 {
        line(&format!(
            "{} requests were refused before a route was found",
            report.no_route.requests
        ));
    }
}

fn of_route(
    path: &str,
    route: &RouteUse,
    asks: Option<&RouteMode>,
    has_gaps: bool,
    line: &mut dyn FnMut(&str),
) {
    let asks = asks.map_or_else(String::new, |asks| format!("  ({})", asks.now));
    line(&format!("\nroute {}{asks}", visible(path)));
    let mut row = |word: &str, seen: &Occurrences, more: &str| {
        if seen.requests > 0 {
            line(&format!(
                "  {word:<9}{:>9}  {}{more}",
                seen.requests,
                span(seen)
            ));
        }
    };
    row("signed", &route.signed, "");
    row(
        "bearer",
        &route.bearer.seen,
        &format!("  {}", served(&route.bearer)),
    );
    let observed = format!(
        "  {}, {} with a token; {}",
        served(&route.observed),
        route.observed_with_token,
        codes(&route.observed_codes)
    );
    row("observed", &route.observed.seen, &observed);
    row("open", &route.open, "");
    row(
        "refused",
        &route.refused,
        &format!("  {}", codes(&route.refused_codes)),
    );
    let gaps = match has_gaps {
        true => " (by the lines that could be read)",
        false => "",
    };
    line(&format!("  -> {}{gaps}", verdict(route)));
}

fn verdict(route: &RouteUse) -> String {
    let unsigned = route.unsigned();
    match route.verdict() {
        MigrationStatus::Open => "an open route: requests need no signature".to_owned(),
        MigrationStatus::Silent => "unknown: no request shows whether it can enforce".to_owned(),
        MigrationStatus::Clear => "it can enforce: all that passed was signed".to_owned(),
        MigrationStatus::Failing => {
            format!("it can enforce: the backend refused all unsigned requests, {unsigned} of them")
        }
        MigrationStatus::NotYet => format!(
            "not yet: {unsigned} passed that enforcing would have refused, the last one {}",
            route
                .last_unsigned()
                .map_or_else(String::new, instant::to_text)
        ),
    }
}

fn tables(report: &MigrationReport, top: usize, line: &mut dyn FnMut(&str)) {
    rows(
        "bearer tokens, by their hash",
        &report.tokens,
        top,
        |token| {
            let (addresses, paths) = (few(&token.addresses), few(&token.paths));
            let usage = of_usage(&token.usage);
            format!(
                "{}  {usage}\n      from {addresses}\n      for {paths}",
                token.hash
            )
        },
        line,
    );
    rows(
        "addresses of unsigned requests",
        &report.addresses,
        top,
        |used| {
            let tokens = used.tokens.values.len();
            let more = if used.tokens.more { " or more" } else { "" };
            let usage = of_usage(&used.usage);
            format!("{:<32}  {usage}, {tokens}{more} tokens", used.address)
        },
        line,
    );
    rows(
        "paths of unsigned requests",
        &report.paths,
        top,
        |path| format!("{:<32}  {}", visible(&path.prefix), of_usage(&path.usage)),
        line,
    );
    rows(
        "clients that observed routes would have refused",
        &report.would_refuse,
        top,
        |row| {
            let who = match &row.who {
                UnsignedClient::Claimed(id) => format!("claims to be {}", visible(id)),
                UnsignedClient::Address(address) => address.to_string(),
                UnsignedClient::Unknown => "unknown client".to_owned(),
            };
            let seen = format!("{:>9}  {}", row.seen.requests, span(&row.seen));
            format!("{:<16}  {who:<32}  {seen}", row.code.as_str())
        },
        line,
    );
}

fn machines(report: &MigrationReport, top: usize, line: &mut dyn FnMut(&str)) {
    rows(
        "machines that sign",
        &report.machines,
        top,
        |machine| {
            let seen = format!("{:>9}  {}", machine.signed.requests, span(&machine.signed));
            let refused = match machine.refused.requests {
                0 => String::new(),
                count => format!("  {count} refused"),
            };
            let unknown = match machine.registered {
                Some(false) => "  not among the enabled machines",
                _ => "",
            };
            format!("{:<32}  {seen}{refused}{unknown}", visible(&machine.id))
        },
        line,
    );
    if report.never_signed.is_empty() {
        return;
    }
    line(&format!(
        "\nmachines of the registry that have not signed: {}",
        report.never_signed.len()
    ));
    for id in report.never_signed.iter().take(top) {
        line(&format!("  {}", visible(id)));
    }
    more(report.never_signed.len(), top, line);
}

fn rows<T>(
    title: &str,
    table: &Ranking<T>,
    top: usize,
    row: impl Fn(&T) -> String,
    line: &mut dyn FnMut(&str),
) {
    if table.rows.is_empty() && table.left_out == 0 {
        return;
    }
    line(&format!("\n{title}: {}", table.rows.len()));
    for each in table.rows.iter().take(top) {
        line(&format!("  {}", row(each)));
    }
    more(table.rows.len(), top, line);
    if table.left_out > 0 {
        line(&format!(
            "  and {} requests of others, too many to list",
            table.left_out
        ));
    }
}

fn more(rows: usize, top: usize, line: &mut dyn FnMut(&str)) {
    if rows > top {
        line(&format!("  and {} more (--top)", rows - top));
    }
}

fn of_usage(usage: &Usage) -> String {
    format!(
        "{:>9}  {}  {}",
        usage.seen.requests,
        span(&usage.seen),
        served(usage)
    )
}

fn served(usage: &Usage) -> String {
    let unknown = usage.seen.requests.saturating_sub(usage.answered);
    let unknown = match unknown {
        0 => String::new(),
        count => format!(", {count} without an answer on record"),
    };
    format!("{} served{unknown}", usage.served)
}

fn span(seen: &Occurrences) -> String {
    seen.span.map_or_else(String::new, |(first, last)| {
        format!("{} .. {}", instant::to_text(first), instant::to_text(last))
    })
}

fn codes(codes: &CodeCounts) -> String {
    let list = codes.list().into_iter();
    let list: Vec<_> = list
        .map(|(code, count)| format!("{} {count}", code.as_str()))
        .collect();
    list.join(", ")
}

fn few<T: Display>(few: &Few<T>) -> String {
    let values: Vec<_> = (few.values.iter())
        .map(|value| visible(&value.to_string()))
        .collect();
    let more = if few.more { ", and others" } else { "" };
    values.join(", ") + more
}
