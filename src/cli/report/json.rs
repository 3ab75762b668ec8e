//! The report for programs.

use serde_json::{Value, json};

use super::RouteMode;
use crate::audit::report::{
    CodeCounts, Few, MigrationReport, Occurrences, Ranking, RouteUse, UnsignedClient, Usage,
};
use crate::config::instant;

/// One object with everything, also the rows that the text cuts off.
pub(super) fn of(report: &MigrationReport, since: Option<u64>, asks: &[RouteMode]) -> Value {
    let unread = report.first_unread.as_ref();
    json!({
        "since": since.map(instant::to_text),
        "lines": report.lines,
        "unread": report.unread,
        "first_unread": unread.map(|(file, line)| json!({"file": file, "line": line})),
        "earlier": report.earlier,
        "seen": seen(&report.seen),
        "refusals_left_out": report.refusals_left_out,
        "no_route": seen(&report.no_route),
        "routes": report.routes.iter().map(|(path, route)| {
            let asks = asks.iter().find(|asks| asks.path == *path);
            let mut value = of_route(route);
            value["route"] = json!(path);
            value["mode"] = json!(asks.map(|asks| &asks.now));
            value
        }).collect::<Vec<_>>(),
        "routes_left_out": report.routes_left_out,
        "tokens": table(&report.tokens, |token| json!({
            "token_hash": token.hash,
            "usage": usage(&token.usage),
            "addresses": few(&token.addresses),
            "paths": few(&token.paths),
            "routes": few(&token.routes),
        })),
        "addresses": table(&report.addresses, |used| json!({
            "address": used.address,
            "usage": usage(&used.usage),
            "tokens": few(&used.tokens),
        })),
        "paths": table(&report.paths, |path| json!({
            "prefix": path.prefix,
            "usage": usage(&path.usage),
        })),
        "would_refuse": table(&report.would_refuse, |row| {
            let (claimed, address) = match &row.who {
                UnsignedClient::Claimed(id) => (Some(id), None),
                UnsignedClient::Address(address) => (None, Some(address)),
                UnsignedClient::Unknown => (None, None),
            };
            json!({
                "code": row.code.as_str(),
                "claimed_machine": claimed,
                "address": address,
                "seen": seen(&row.seen),
            })
        }),
        "machines": table(&report.machines, |machine| json!({
            "id": machine.id,
            "signed": seen(&machine.signed),
            "refused": seen(&machine.refused),
            "registered": machine.registered,
        })),
        "never_signed": report.never_signed,
    })
}

fn of_route(route: &RouteUse) -> Value {
    json!({
        "verdict": route.verdict().as_str(),
        "signed": seen(&route.signed),
        "bearer": usage(&route.bearer),
        "observed": usage(&route.observed),
        "observed_codes": codes(&route.observed_codes),
        "observed_with_token": route.observed_with_token,
        "open": seen(&route.open),
        "refused": seen(&route.refused),
        "refused_codes": codes(&route.refused_codes),
    })
}

fn seen(seen: &Occurrences) -> Value {
    json!({
        "requests": seen.requests,
        "first": seen.span.map(|(first, _)| instant::to_text(first)),
        "last": seen.span.map(|(_, last)| instant::to_text(last)),
    })
}

fn usage(usage: &Usage) -> Value {
    let mut value = seen(&usage.seen);
    value["answered"] = json!(usage.answered);
    value["served"] = json!(usage.served);
    value
}

fn codes(codes: &CodeCounts) -> Value {
    let list = codes.list().into_iter();
    list.map(|(code, count)| (code.as_str().to_owned(), json!(count)))
        .collect()
}

fn few<T: serde::Serialize>(few: &Few<T>) -> Value {
    json!({"values": few.values, "more": few.more})
}

fn table<T>(table: &Ranking<T>, row: impl Fn(&T) -> Value) -> Value {
    json!({
        "rows": table.rows.iter().map(row).collect::<Vec<_>>(),
        "left_out": table.left_out,
    })
}
