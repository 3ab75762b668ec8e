//! The demo's backend: a handful of secrets behind a bearer token. It knows nothing of
//! signatures, and stands for the server that a user already has.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// The header and the token that the backend wants. Only the gateway holds it.
pub(super) const TOKEN_HEADER: &str = "X-Vault-Token";

const SECRETS: [(&str, &str, &str); 3] = [
    (
        "sk_database",
        "database password",
        "correct-horse-battery-staple",
    ),
    ("sk_smtp", "mail password", "tr0ub4dor-and-3"),
    ("sk_api", "payment API key", "pk_demo_51f0c2"),
];

const PROJECT: &str = "proj_demo";

/// Longest wait for a request on a connection; the gateway keeps idle ones for less.
const IDLE: Duration = Duration::from_secs(30);

/// Largest request body read, and longest head line.
const MAX_BYTES: u64 = 64 * 1024;

struct Request {
    method: String,
    path: String,
    token: Option<String>,
    identity: Option<String>,
    body: Value,
    close: bool,
}

/// Starts the backend on a free loopback port; it lives as long as the process.
///
/// # Errors
///
/// That no port could be bound.
pub(super) fn start(token: String) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let token = token.clone();
            std::thread::spawn(move || {
                // A client that went away is no concern of a demo.
                let _ = serve(&stream, &token);
            });
        }
    });
    Ok(address)
}

fn serve(stream: &TcpStream, token: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let (status, answer) = answer(&request, token);
        let body = answer.to_string();
        let mut out = stream;
        out.write_all(
            format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                body.len(),
                if request.method == "HEAD" { "" } else { &body },
            )
            .as_bytes(),
        )?;
        if request.close {
            break;
        }
    }
    Ok(())
}

/// Reads one request. It comes from the gateway, which has framed it by Content-Length.
fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.by_ref().take(MAX_BYTES).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        token: None,
        identity: None,
        body: Value::Null,
        close: false,
    };
    let mut length = 0u64;
    loop {
        let mut line = String::new();
        reader.by_ref().take(MAX_BYTES).read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0).min(MAX_BYTES),
            "x-vault-token" => request.token = Some(value),
            "x-machine-identity" => request.identity = Some(value),
            "connection" => request.close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut body)?;
    request.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(request))
}

/// The part of the SikkerKey API that reads.
fn answer(request: &Request, token: &str) -> (&'static str, Value) {
    const OK: &str = "200 OK";
    if request.token.as_deref() != Some(token) {
        return (
            "403 Forbidden",
            json!({ "error": "missing or wrong token" }),
        );
    }
    let listed = || -> Vec<Value> {
        SECRETS
            .iter()
            .map(|(id, name, _)| json!({ "id": id, "name": name, "fieldNames": null, "projectId": PROJECT }))
            .collect()
    };
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v1/secrets" | "/v1/cli/secrets") | ("POST", "/v1/secrets/list") => {
            (OK, json!({ "secrets": listed() }))
        }
        ("GET", "/v1/cli/projects") => (
            OK,
            json!({ "projects": [{ "id": PROJECT, "name": "demo" }] }),
        ),
        ("POST", "/v1/secrets/export") => {
            let secrets: Vec<Value> = SECRETS
                .iter()
                .map(|(id, name, value)| {
                    json!({ "id": id, "name": name, "value": value, "fieldNames": null })
                })
                .collect();
            (OK, json!({ "secrets": secrets }))
        }
        ("POST", "/v1/secrets/poll") => {
            let watch = request.body["watch"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let changes: serde_json::Map<String, Value> = watch
                .iter()
                .filter_map(Value::as_str)
                .map(|id| (id.to_owned(), json!({ "status": "unchanged" })))
                .collect();
            (OK, json!({ "changes": changes }))
        }
        ("POST", "/v1/verify-access") => (
            OK,
            json!({ "valid": true, "projectName": "demo", "error": null }),
        ),
        ("GET", path) => {
            let found = path
                .strip_prefix("/v1/secret/")
                .and_then(|id| SECRETS.iter().find(|(known, ..)| *known == id));
            match found {
                Some((_, _, value)) => (OK, json!({ "value": value, "read_by": request.identity })),
                None => ("404 Not Found", json!({ "error": "no such secret" })),
            }
        }
        _ => ("404 Not Found", json!({ "error": "no such endpoint" })),
    }
}
