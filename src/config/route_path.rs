//! The path of a route.

use crate::yaml::quoted;
use countersign_core::target::Target;

/// Longest route path, in bytes; the request target itself may have 4 KiB.
const MAX_PATH: usize = 1024;

/// Parses a path prefix in the grammar of request targets, without percent-encoding and query. A
/// prefix outside it would match nothing that gets as far as the lookup.
pub(super) fn route_path(text: &str) -> Result<String, String> {
    let shown = || quoted(text);
    if !text.starts_with('/') {
        return Err(format!("{} does not start with /", shown()));
    }
    if text.len() > MAX_PATH {
        return Err(format!("is longer than {MAX_PATH} bytes"));
    }
    if text.contains('%') {
        let why = "holds %; routes are written without percent-encoding";
        return Err(format!("{} {why}", shown()));
    }
    if let Some(prefix) = before_a_pattern(text) {
        return Err(format!(
            "{} holds a pattern, which a route would take for plain text; a route takes every path \
             below its own, so write {} (which paths a machine may ask for is said by `allow` in \
             the registry)",
            shown(),
            quoted(prefix)
        ));
    }
    match Target::parse(text.as_bytes()) {
        Err(why) => Err(format!("{} is no path of a request: {why}", shown())),
        Ok(target) if target.query().is_some() => Err(format!(
            "{} holds a query; a route is a path alone",
            shown()
        )),
        Ok(_) => Ok(match text.strip_suffix('/') {
            Some("") => "/".to_owned(),
            Some(path) => path.to_owned(),
            None => text.to_owned(),
        }),
    }
}

/// The path before the first segment that other gateways would read as a pattern: with a star, or
/// `:name`, or what ends a regular expression. `None` where there is none.
fn before_a_pattern(path: &str) -> Option<&str> {
    let is_pattern =
        |segment: &str| segment.contains('*') || segment.starts_with(':') || segment.ends_with('$');
    let mut end = 0;
    for segment in path.split('/').skip(1) {
        if is_pattern(segment) {
            return Some(if end == 0 { "/" } else { &path[..end] });
        }
        end += 1 + segment.len();
    }
    None
}
