//! The verifier that people would put beside nginx or Envoy: it is asked about each request. It has
//! the gateway's own core (parsing, `verify_strict`, nonces in memory), two threads, kept
//! connections, and no log; a bare HTTP/1.1 loop around it keeps it as fast as such a service can
//! be.

use std::net::SocketAddr;
use std::sync::Arc;

use countersign::nonces::{MemoryNonces, NonceQuotas};
use countersign_client::clock::Clock;
use countersign_core::decision::{Attempt, prepare};
use countersign_core::header_name::SigningHeader;
use countersign_core::headers::{Occurrence, SigningHeaders};
use countersign_core::identity::{Machine, MachineId, PublicKey};
use countersign_core::message::BodyHash;
use countersign_core::method::Method;
use countersign_core::refusal::Refusal;
use countersign_core::replay::Window;
use countersign_core::target::{QueryPolicy, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::requests::MACHINE;
use crate::support::key;

const WINDOW: Window = Window {
    past: 300,
    future: 300,
};

const PERMITTED: &[u8] =
    b"HTTP/1.1 200 OK\r\nX-Machine-Identity: bench\r\nContent-Length: 0\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

struct Verifier {
    machine: Arc<Machine>,
    nonces: MemoryNonces,
    clock: Clock,
}

/// Serves until the process is ended.
pub(crate) fn serve(address: SocketAddr) {
    prepare();
    let clock = Clock::system();
    let quotas = NonceQuotas {
        all: u64::MAX,
        per_machine: u32::MAX,
    };
    let public = PublicKey::from_bytes(key().verifying_key().as_bytes()).unwrap();
    let verifier = Arc::new(Verifier {
        machine: Arc::new(Machine {
            id: MachineId::parse(MACHINE).unwrap(),
            name: None,
            vault: None,
            owner: None,
            credential: None,
            keys: [public.into()].into(),
            enabled: true,
            not_before: None,
            expires: None,
            policy: None,
            groups: Arc::default(),
        }),
        nonces: MemoryNonces::new(WINDOW, quotas, clock.clone()).unwrap(),
        clock,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let verifier = Arc::clone(&verifier);
            tokio::spawn(async move { verifier.answer(stream).await });
        }
    });
}

impl Verifier {
    /// Answers requests until the connection ends, or sends what is none.
    async fn answer(&self, mut stream: TcpStream) {
        let mut buffer = Vec::with_capacity(4096);
        loop {
            match Question::parse(&buffer) {
                Err(_) => return,
                Ok(Some(question)) => {
                    let (len, permitted) = (question.len, self.permits(&question).await.is_ok());
                    buffer.drain(..len);
                    let answer = if permitted { PERMITTED } else { REFUSED };
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {
                    if buffer.capacity() - buffer.len() < 4096 {
                        buffer.reserve(buffer.len().max(4096));
                    }
                    if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                        return;
                    }
                }
            }
        }
    }

    async fn permits(&self, question: &Question<'_>) -> Result<(), Refusal> {
        let headers = SigningHeaders::parse(|name| match name {
            SigningHeader::MachineId => question.machine,
            SigningHeader::Timestamp => question.timestamp,
            SigningHeader::Nonce => question.nonce,
            SigningHeader::Signature => question.signature,
        })?;
        let method = Method::accept(question.method, &[]).ok_or(Refusal::BadSignature)?;
        let target = Target::parse(question.target.as_bytes()).map_err(Refusal::BadTarget)?;
        let target = target.under(QueryPolicy::Strip)?;
        let now = self.clock.now().unix_seconds();
        Attempt::new(method, target, headers)
            .check_time(now, &WINDOW)?
            .look_up(|id| (self.machine.id.as_str() == id).then(|| Arc::clone(&self.machine)))
            .verify(BodyHash::of(question.body))
            .map_err(Refusal::from)?
            .check_state(now)
            .map_err(|denied| denied.refusal)?
            .claim(&self.nonces)
            .await
            .map_err(|denied| denied.refusal)?;
        Ok(())
    }
}

/// A request about a request. Envoy sends the original's method, target, headers and body; nginx
/// has a request of its own, sends method and target in headers, and no body.
struct Question<'a> {
    method: &'a str,
    target: &'a str,
    machine: Occurrence<'a>,
    timestamp: Occurrence<'a>,
    nonce: Occurrence<'a>,
    signature: Occurrence<'a>,
    body: &'a [u8],
    /// Of all of it.
    len: usize,
}

impl<'a> Question<'a> {
    /// `None` while it is not complete.
    fn parse(bytes: &'a [u8]) -> Result<Option<Question<'a>>, httparse::Error> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head) = request.parse(bytes)? else {
            return Ok(None);
        };
        let mut question = Question {
            method: request.method.unwrap_or(""),
            target: request.path.unwrap_or(""),
            machine: Occurrence::Absent,
            timestamp: Occurrence::Absent,
            nonce: Occurrence::Absent,
            signature: Occurrence::Absent,
            body: &[],
            len: head,
        };
        let mut length = 0;
        for header in request.headers.iter() {
            let text =
                || std::str::from_utf8(header.value).map_err(|_| httparse::Error::HeaderValue);
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let slot = if is("x-machine-id") {
                &mut question.machine
            } else if is("x-timestamp") {
                &mut question.timestamp
            } else if is("x-nonce") {
                &mut question.nonce
            } else if is("x-signature") {
                &mut question.signature
            } else {
                if is("x-original-method") {
                    question.method = text()?;
                } else if is("x-original-uri") {
                    question.target = text()?;
                } else if is("content-length") {
                    length = text()?.parse().map_err(|_| httparse::Error::HeaderValue)?;
                }
                continue;
            };
            *slot = match slot {
                Occurrence::Absent => Occurrence::Once(header.value),
                _ => Occurrence::Repeated,
            };
        }
        let Some(body) = bytes.get(head..head + length) else {
            return Ok(None);
        };
        question.body = body;
        question.len = head + length;
        Ok(Some(question))
    }
}
