//! Which form of the metrics a scraper asks for (RFC 9110, section 12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

use crate::metrics::Exposition;

/// OpenMetrics where it is named, in a version that is served, and no less welcome than text. A
/// wildcard asks for text, so that a person sees what `curl` always showed.
pub(super) fn exposition(headers: &HeaderMap) -> Exposition {
    let (mut open, mut text) = (0, 0);
    let lines = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok());
    for range in lines.flat_map(|line| line.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1000, None);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value.trim()),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match &*kind {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                open = open.max(quality);
            }
            "text/plain" | "text/*" | "*/*" => text = text.max(quality),
            _ => {}
        }
    }
    match open > 0 && open >= text {
        true => Exposition::OpenMetrics,
        false => Exposition::Text,
    }
}

/// A weight, from 0 to 1, in thousandths; 0 for anything else.
fn thousandths(text: &str) -> u16 {
    let weight: f32 = text.parse().unwrap_or(0.0);
    match (0.0..=1.0).contains(&weight) {
        true => (weight * 1000.0).round() as u16,
        false => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn asked(accept: &[&str]) -> Exposition {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        exposition(&headers)
    }

    #[test]
    fn openmetrics_is_for_those_who_name_it() {
        for accept in [
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "Application/OpenMetrics-Text;Version=\"1.0.0\"",
            "text/plain;q=0.5, application/openmetrics-text;version=1.0.0",
            // As Prometheus 2 and 3 ask.
            "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert_eq!(asked(&[accept]), Exposition::OpenMetrics, "{accept}");
        }
        let lines = ["text/plain;q=0.2", "application/openmetrics-text;q=0.3"];
        assert_eq!(asked(&lines), Exposition::OpenMetrics);
    }

    #[test]
    fn everybody_else_gets_text() {
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text; version=2.0.0",
            "application/openmetrics-text; version=0.0.1",
            "application/openmetrics-text; q=0",
            "application/openmetrics-text; q=7",
            "application/openmetrics-text; q=nan",
            "application/openmetrics-text; q=0.4, text/plain; q=0.5",
            "application/openmetrics-textual",
        ] {
            assert_eq!(asked(&[accept]), Exposition::Text, "{accept}");
        }
        assert_eq!(asked(&[]), Exposition::Text);
    }
}
