//! Sends one HTTP request and buffers the response. Commands and checks use it. The agent streams
//! and has its own connection pool on the same [`Connector`].
//!
//! The client follows no redirect and uses no proxy of the environment: a signed request goes only
//! to the configured gateway.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};

use crate::agent::connect::{Connector, NoConnection};
use crate::agent::tls_fault;

/// Bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeLimits {
    /// The deadline for everything: connection, TLS, request and response.
    pub time: Duration,
    /// The largest response body, in bytes.
    pub answer: usize,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request was not sent.
    #[error(transparent)]
    Unconnected(#[from] NoConnection),
    /// The connection broke, or the response is not HTTP.
    #[error("{0}")]
    Broken(String),
    /// The response body exceeds [`ExchangeLimits::answer`].
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// [`ExchangeLimits::time`] has passed.
    #[error("no whole answer came within {0:?}")]
    Timeout(Duration),
    /// The async runtime cannot start.
    #[error("the HTTP client cannot be started: {0}")]
    NotStarted(io::Error),
}

impl RequestError {
    /// The cause alone, for a message that already has the address.
    pub fn cause(&self) -> String {
        match self {
            RequestError::Unconnected(NoConnection::Tcp(_, error)) => words(error),
            other => other.to_string(),
        }
    }
}

/// Sends a request and waits for the response, with any status.
///
/// `request` has the target in origin form (`/path?query`); `Host` and `Content-Length` are added.
///
/// # Errors
///
/// [`RequestError`]. Only [`RequestError::Unconnected`] means that the gateway has not seen the
/// request.
pub fn send(
    connector: &Connector,
    request: Request<Bytes>,
    limits: ExchangeLimits,
) -> Result<Response<Bytes>, RequestError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RequestError::NotStarted)?;
    let answer = runtime.block_on(exchange(connector, request, limits));
    // A hung name resolution must not keep the process alive.
    runtime.shutdown_background();
    answer
}

/// Like [`send`], within a Tokio runtime.
///
/// # Errors
///
/// See [`send`].
pub async fn exchange(
    connector: &Connector,
    request: Request<Bytes>,
    limits: ExchangeLimits,
) -> Result<Response<Bytes>, RequestError> {
    let whole = async {
        let mut sender = connector.open().await?;
        let answer = (sender.send_request(framed(connector, request)).await)
            .map_err(|error| broken(connector, &error))?;
        let (head, body) = answer.into_parts();
        let body = (Limited::new(body, limits.answer).collect().await).map_err(|error| {
            match error.downcast::<LengthLimitError>() {
                Ok(_) => RequestError::TooLarge(limits.answer),
                Err(error) => RequestError::Broken(root(&*error)),
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    let in_time = tokio::time::timeout(limits.time, whole).await;
    in_time.unwrap_or(Err(RequestError::Timeout(limits.time)))
}

/// Adds the headers of every request, except those that the caller has set.
fn framed(connector: &Connector, request: Request<Bytes>) -> Request<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    let headers = &mut head.headers;
    if let Ok(authority) = HeaderValue::from_str(&connector.gateway.authority) {
        headers.entry(HOST).or_insert(authority);
    }
    (headers.entry(USER_AGENT)).or_insert(HeaderValue::from_static("countersign"));
    // Without a length, a server may wait for a body of these methods.
    let has_body = [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
    if has_body || !body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    Request::from_parts(head, Full::new(body))
}

fn broken(connector: &Connector, error: &hyper::Error) -> RequestError {
    let gateway = &connector.gateway;
    RequestError::Broken(match gateway.tls {
        false if error.is_parse() => tls_fault::not_http(&gateway.authority),
        false if error.is_incomplete_message() => tls_fault::hung_up(&gateway.authority),
        _ if tls_fault::of(error).is_some() => connector.tried().words(error),
        _ => root(error),
    })
}

/// The innermost error: hyper's own text names the step alone.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.downcast_ref::<io::Error>()
        .map_or_else(|| root.to_string(), words)
}

/// An error of the system as it stands in the middle of a sentence: `connection refused`.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    (letters.next().into_iter())
        .flat_map(char::to_lowercase)
        .chain(letters)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::gateway_url::GatewayUrl;

    const LIMITS: ExchangeLimits = ExchangeLimits {
        time: Duration::from_secs(20),
        answer: 16,
    };

    /// Answers one request with these bytes, and tells what it read.
    fn server(answer: &'static [u8]) -> (Connector, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap();
            stream.write_all(answer).unwrap();
            if answer.is_empty() {
                // Until the client gives up.
                let _ = stream.read(&mut head);
            }
            String::from_utf8(head[..length].to_vec()).unwrap()
        });
        let gateway = GatewayUrl::parse(&url).unwrap();
        (Connector::new(gateway, None).unwrap(), served)
    }

    fn get(connector: &Connector, limits: ExchangeLimits) -> Result<Response<Bytes>, RequestError> {
        let request = Request::get("/a%2F?b=c").body(Bytes::new()).unwrap();
        send(connector, request, limits)
    }

    #[test]
    fn an_answer_is_read_whole_whatever_its_status_and_a_redirect_is_not_followed() {
        let (connector, served) = server(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 4\r\n\r\nthat",
        );
        let answer = get(&connector, LIMITS).unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (302, &b"that"[..])
        );
        let head = served.join().unwrap();
        assert!(head.starts_with("GET /a%2F?b=c HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {}", connector.gateway.authority)));
        assert!(!head.contains("content-length"), "{head}");
    }

    #[test]
    fn an_answer_beyond_the_limit_is_refused() {
        let (connector, _served) = server(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n0123456789abcdefg\r\n",
        );
        let refused = get(&connector, LIMITS);
        assert!(matches!(refused, Err(RequestError::TooLarge(16))));
    }

    #[test]
    fn an_answer_that_breaks_off_is_none() {
        let (connector, _served) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        assert!(matches!(
            get(&connector, LIMITS),
            Err(RequestError::Broken(_))
        ));
    }

    #[test]
    fn a_server_that_says_nothing_is_waited_for_until_the_deadline() {
        let (connector, _served) = server(b"");
        let limits = ExchangeLimits {
            time: Duration::from_millis(50),
            ..LIMITS
        };
        assert!(matches!(
            get(&connector, limits),
            Err(RequestError::Timeout(_))
        ));
    }

    #[test]
    fn a_refused_connection_is_told_without_the_number_of_the_system() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let connector = Connector::new(GatewayUrl::parse(&url).unwrap(), None).unwrap();
        let error = get(&connector, LIMITS).unwrap_err();
        assert_eq!(error.cause(), "connection refused");
    }
}
