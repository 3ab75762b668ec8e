//! `countersign request`: signs a request, sends it, and prints the answer's body.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::Failure;
use super::machine_side::{read_body, signer};
use crate::agent::tls_fault::{self, Tried};
use crate::clock::Clock;
use crate::config::GatewayUrl;
use crate::file;

/// Sign a request, send it, and print the body of the answer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign request --key key.pem --machine-id web-1 GET http://127.0.0.1:8080/v1/secret/db

The exit code is 0 for a 2xx answer, and 1 otherwise, with the status on standard error.")]
pub(super) struct RequestArgs {
    /// The machine's private key (PKCS#8 PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The id under which the registry knows the machine
    #[arg(long, value_name = "ID")]
    machine_id: String,
    /// The request body; - is standard input
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// A header to send besides the four, as 'Name: value'; may be given more than once
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<String>,
    /// Sign the query with the path, for a route whose query is signed
    #[arg(long)]
    sign_query: bool,
    /// Certificates to trust instead of the public ones (PEM)
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The method, upper case
    method: String,
    /// Where to send it
    url: String,
}

/// Longest time for the whole exchange, the gateway's own deadlines included.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Largest answer that is read: no secret is larger.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// Largest file of certificates, in bytes: a bundle of all authorities of the web has a quarter of it.
const MAX_CERTIFICATES: usize = 1 << 20;

/// Sends the request and writes the answer's body to `out`.
///
/// # Errors
///
/// What is wrong with the arguments; that no answer came; an answer that is not 2xx, whose body
/// is written all the same.
pub(super) fn run(args: &RequestArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let signer = signer(&args.machine_id, &args.key)?;
    let body = read_body(args.data.as_deref())?;
    let target = target_of(&args.url)?;
    let signed = match target.split_once('?') {
        Some((path, _)) if !args.sign_query => path,
        _ => target,
    };
    let now = Clock::system().now().unix_seconds();
    let headers = signer.sign_text(&args.method, signed, &body, now)?;

    let mut request = http::Request::builder()
        .method(args.method.as_str())
        .uri(&args.url);
    for (header, value) in &headers {
        request = request.header(header.name(), value);
    }
    for line in &args.header {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| Failure::Usage(format!("'{line}' is not 'Name: value'")))?;
        request = request.header(name.trim(), value.trim());
    }
    let request = request
        .body(body)
        .map_err(|e| Failure::Usage(format!("the request cannot be built: {e}")))?;

    let unsent = |error: ureq::Error| {
        Failure::Operation(format!("no answer from the gateway: {}", why(&error, args)))
    };
    let mut answer = agent(args)?.run(request).map_err(unsent)?;
    let content = answer
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER)
        .read_to_vec()
        .map_err(unsent)?;
    out.write_all(&content)
        .and_then(|()| out.flush())
        .map_err(|e| Failure::Operation(e.to_string()))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(Failure::Operation(format!("the answer was {status}"))),
    }
}

/// The request target as it stands in the URL, byte for byte: what is signed has to be what is
/// sent.
fn target_of(url: &str) -> Result<&str, Failure> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .ok_or_else(|| {
            Failure::Usage(format!("'{url}' does not start with http:// or https://"))
        })?;
    Ok(rest.find('/').map_or("/", |start| &rest[start..]))
}

/// Why there was no answer, in words that say what to do.
fn why(error: &ureq::Error, args: &RequestArgs) -> String {
    let gateway = GatewayUrl::parse(args.url.split('?').next().unwrap_or_default());
    let (tls, authority, host) = match &gateway {
        Ok(it) => (it.tls, it.authority.as_str(), it.host.as_str()),
        Err(_) => return error.to_string(),
    };
    let tried = Tried {
        host,
        authority,
        ca: args.cacert.as_deref(),
    };
    match error {
        ureq::Error::Protocol(_) if !tls => tls_fault::not_http(authority),
        ureq::Error::Io(io) if !tls && io.kind() == std::io::ErrorKind::UnexpectedEof => {
            tls_fault::hung_up(authority)
        }
        ureq::Error::Io(io) => tried.explained(io),
        ureq::Error::Rustls(found) => tried.explained(found),
        _ => error.to_string(),
    }
}

fn agent(args: &RequestArgs) -> Result<ureq::Agent, Failure> {
    use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

    let mut tls = TlsConfig::builder();
    if let Some(path) = &args.cacert {
        let fail = |what: String| Failure::Operation(format!("{}: {what}", path.display()));
        let pem = file::read(path, MAX_CERTIFICATES).map_err(|fault| fail(fault.to_string()))?;
        let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err(fail("there is no certificate in it".into()));
        }
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
    }
    Ok(ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .allow_non_standard_methods(true)
        .timeout_global(Some(TIMEOUT))
        .tls_config(tls.build())
        .build()
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_what_stands_in_the_url() {
        for (url, target) in [
            ("http://h", "/"),
            ("http://h/", "/"),
            ("https://h:1/a/b?c=%2F", "/a/b?c=%2F"),
        ] {
            assert_eq!(target_of(url), Ok(target));
        }
        assert!(matches!(target_of("h/a"), Err(Failure::Usage(_))));
    }
}
