//! `countersign request`: signs a request, sends it, and prints the body of the answer.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::Request;

use super::command_error::CommandError;
use super::machine_options::SignerArgs;
use super::request_body::BodyArgs;
use super::terminal::cannot_print;
use crate::config::GatewayUrl;
use countersign_client::agent::connect::Connector;
use countersign_client::clock::Clock;
use countersign_client::gateway_headers;
use countersign_client::http_client::{self, ExchangeLimits, RequestError};

/// Sign a request, send it, and print the body of the answer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign request --key key.pem --machine-id web-1 GET http://127.0.0.1:8080/v1/secret/db

Exit codes: 0 for a 2xx answer, 64 for wrong usage, 78 for a mistake in a file; 1 otherwise, with
the status on standard error.")]
pub(super) struct RequestArgs {
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    body: BodyArgs,
    /// A further header, as 'Name: value'. Repeat it for several
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<String>,
    /// Sign the query with the path, for a route with `query: signed`
    #[arg(long)]
    sign_query: bool,
    /// Certificate authorities to trust instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The method, upper case
    method: String,
    /// The URL to send it to
    url: String,
}

/// The time covers the gateway's own deadlines; the size is larger than any secret.
const LIMITS: ExchangeLimits = ExchangeLimits {
    time: Duration::from_secs(120),
    answer: 64 * 1024 * 1024,
};

/// Sends the request and writes the answer's body to `out`.
///
/// # Errors
///
/// The arguments are wrong; no answer came; the answer is not 2xx, and its body is written all the
/// same.
pub(super) fn run(args: &RequestArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let further = (args.header.iter())
        .map(|line| further_header(line))
        .collect::<Result<Vec<_>, _>>()?;
    let signer = args.signer.signer()?;
    let body = args.body.read(args.signer.key_is_stdin())?;
    let (gateway, target) = split(&args.url)?;
    let signed = match target.split_once('?') {
        Some((path, _)) if !args.sign_query => path,
        _ => target,
    };
    let now = Clock::system().now().unix_seconds();
    let headers = signer.sign_text(&args.method, signed, &body, now)?;

    let mut request = Request::builder().method(args.method.as_str()).uri(target);
    for (header, value) in &headers {
        request = request.header(header.name(), value);
    }
    for (name, value) in further {
        request = request.header(name, value);
    }
    let request = request
        .body(Bytes::from(body))
        .map_err(|e| CommandError::Usage(format!("the request cannot be built: {e}")))?;

    let connector =
        Connector::new(gateway, args.cacert.as_deref()).map_err(CommandError::Configuration)?;
    let answer = http_client::send(&connector, request, LIMITS).map_err(|error| {
        let gateway = &connector.gateway;
        CommandError::Operation(match error {
            RequestError::Unconnected(_) => {
                format!("cannot reach the gateway at {gateway}: {}", error.cause())
            }
            _ => format!("no answer from the gateway at {gateway}: {error}"),
        })
    })?;
    out.write_all(answer.body())
        .and_then(|()| out.flush())
        .map_err(cannot_print)?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(CommandError::Operation(format!(
            "the gateway answered {status}"
        ))),
    }
}

/// The name and the value of a further header.
fn further_header(line: &str) -> Result<(&str, &str), CommandError> {
    let usage = |why: &str| CommandError::Usage(format!("--header '{line}' {why}"));
    let (name, value) = (line.split_once(':')).ok_or_else(|| usage("is not 'Name: value'"))?;
    match gateway_headers::written_by_the_client(name.trim()) {
        Some(why) => Err(usage(&format!("{why}; leave it out"))),
        None => Ok((name.trim(), value.trim())),
    }
}

/// The gateway that a URL names, and the request target as it stands in the URL, byte for byte: the
/// signed target has to be the one that is sent.
fn split(url: &str) -> Result<(GatewayUrl, &str), CommandError> {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let target = url[host..]
        .find('/')
        .map_or(url.len(), |slash| host + slash);
    let gateway = GatewayUrl::parse(&url[..target]).map_err(CommandError::Usage)?;
    let target = match &url[target..] {
        "" => "/",
        target => target,
    };
    Ok((gateway, target))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_the_framing_or_of_the_signature_is_a_usage_mistake() {
        assert_eq!(further_header("X-A : b:c "), Ok(("X-A", "b:c")));
        for line in [
            "Content-Length: 5",
            "transfer-encoding: chunked",
            "Host: other",
            "Connection: close",
            "TE: trailers",
            "X-Nonce: n",
            "x_signature: s",
            "nothing",
        ] {
            let told = further_header(line);
            assert!(matches!(told, Err(CommandError::Usage(_))), "{line}");
        }
    }

    #[test]
    fn the_target_is_what_stands_in_the_url() {
        for (url, gateway, target) in [
            ("http://h", "http://h", "/"),
            ("http://h/", "http://h", "/"),
            ("https://h:1/a/b?c=%2F", "https://h:1", "/a/b?c=%2F"),
        ] {
            let (found, rest) = split(url).unwrap();
            assert_eq!((found.to_string().as_str(), rest), (gateway, target));
        }
        for url in ["h/a", "http://h?a=/b", "ftp://h/"] {
            assert!(matches!(split(url), Err(CommandError::Usage(_))), "{url}");
        }
    }
}
