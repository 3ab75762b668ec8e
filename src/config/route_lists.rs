//! Reads the lists of a route: its further methods, and the further headers that it forwards.

use http::HeaderName;

use super::headers;
use crate::yaml::{Table, quoted};
use countersign_core::method::{METHODS, may_be_added};

/// Reads the methods that a route takes besides those of every route.
pub(super) fn methods(table: &mut Table<'_>) -> Vec<String> {
    let mut methods: Vec<String> = Vec::new();
    for item in table.items("methods") {
        if let Some(method) = item.parse(method) {
            if methods.contains(&method) {
                item.mistake(format!("{method} is listed twice"));
            }
            methods.push(method);
        }
    }
    methods
}

/// Parses a method that a route may add.
fn method(text: &str) -> Result<String, String> {
    match text {
        "CONNECT" | "TRACE" | "PRI" => Err(format!("{text} is refused on every route; remove it")),
        _ if METHODS.contains(&text) => Err(format!(
            "every route takes {text}: the list adds methods, it does not restrict them; remove it"
        )),
        _ if may_be_added(text) => Ok(text.to_owned()),
        _ => Err(format!(
            "{} is not a method: upper case, at most 32 characters",
            quoted(text)
        )),
    }
}

/// Reads the client headers that a route forwards besides the usual ones. `taken` are those that only
/// the gateway writes.
pub(super) fn forward_headers(table: &mut Table<'_>, taken: &[&HeaderName]) -> Vec<HeaderName> {
    let mut forwarded = Vec::new();
    for item in table.items("forward_headers") {
        let Some(name) = item.parse(headers::settable) else {
            continue;
        };
        if taken
            .iter()
            .any(|taken| headers::is_same_header(taken, &name))
        {
            item.mistake(format!(
                "{name} is a header that only the gateway writes; remove it"
            ));
        }
        if headers::ALLOWED.contains(&name) {
            item.mistake(format!("{name} crosses on every route; remove it"));
        }
        if forwarded
            .iter()
            .any(|known| headers::is_same_header(known, &name))
        {
            item.mistake(format!("{name} is listed twice; remove one"));
        }
        if headers::overrides_the_request(&name) {
            item.warning(format!(
                "{name} is not signed, and a client could use it to override the signed method or \
                 path; remove it if the backend honours it"
            ));
        }
        forwarded.push(name);
    }
    forwarded
}
