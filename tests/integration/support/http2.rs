//! An HTTP/2 client over TLS, by ALPN, one request at a time.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::Response;
use super::signer::Signed;

pub struct Http2 {
    runtime: tokio::runtime::Runtime,
    send: SendRequest<Bytes>,
}

impl Http2 {
    /// Connects to a gateway whose certificate lies in `folder`.
    pub fn connect(address: SocketAddr, folder: &Path) -> Http2 {
        let runtime = runtime();
        let send = runtime.block_on(async {
            let stream = dial(address, &[folder.join("cert.pem")]).await;
            hands_shaken(stream).await
        });
        Http2 { runtime, send }
    }

    /// Connects to a gateway whose certificate is one of these.
    pub fn connect_trusting(address: SocketAddr, certificates: &[PathBuf]) -> Http2 {
        let runtime = runtime();
        let send =
            runtime.block_on(async { hands_shaken(dial(address, certificates).await).await });
        Http2 { runtime, send }
    }

    /// Agrees on HTTP/2 by ALPN, says nothing more, and tells whether the gateway ends it.
    pub fn is_closed_in_silence(address: SocketAddr, folder: &Path) -> bool {
        runtime().block_on(async {
            let mut stream = dial(address, &[folder.join("cert.pem")]).await;
            let mut rest = Vec::new();
            let end = stream.read_to_end(&mut rest);
            tokio::time::timeout(Duration::from_secs(10), end)
                .await
                .is_ok()
        })
    }

    /// Sends a signed request; `declared` says whether with a Content-Length.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        signed: &Signed,
        body: &[u8],
        declared: bool,
    ) -> Response {
        let length = body.len().to_string();
        let mut headers = signed.pairs().to_vec();
        if declared && !body.is_empty() {
            headers.push(("content-length", &length));
        }
        self.send(method, target, &headers, body)
    }

    /// Sends a request with these headers.
    pub fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("https://localhost{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let exchange = exchange(self.send.clone(), request, Bytes::copy_from_slice(body));
        self.runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(30), exchange).await })
            .expect("an answer in time")
    }
}

/// A response as far as it came.
pub struct Received {
    pub response: Response,
    /// How the gateway broke the stream off; `None` for a whole response.
    pub reset: Option<h2::Reason>,
    pub trailers: Option<http::HeaderMap>,
}

impl Http2 {
    /// GETs with these headers, and takes what comes, whole or not.
    pub fn receive(&mut self, target: &str, headers: &[(&str, &str)]) -> Received {
        let mut request = http::Request::get(format!("https://localhost{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (send, request) = (self.send.clone(), request.body(()).unwrap());
        let receiving = async {
            let mut send = send.ready().await.unwrap();
            let (answer, _) = send.send_request(request, true).unwrap();
            received(answer.await.unwrap()).await
        };
        self.runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(30), receiving).await })
            .expect("an answer in time")
    }
}

/// What became of an upload that goes on whatever the gateway says.
pub struct Upload {
    pub answer: Response,
    /// Bytes of the body that the gateway made room for.
    pub sent: usize,
    /// How the gateway broke the stream off.
    pub reset: Option<h2::Reason>,
}

impl Http2 {
    /// POSTs `size` bytes, all of them as far as they are taken, and only then looks at the answer.
    pub fn upload(&mut self, target: &str, headers: &[(&str, &str)], size: usize) -> Upload {
        let mut request = http::Request::post(format!("https://localhost{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let exchange = upload(self.send.clone(), request.body(()).unwrap(), size);
        self.runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), exchange).await })
            .expect("an answer in time")
    }
}

async fn upload(send: SendRequest<Bytes>, request: http::Request<()>, size: usize) -> Upload {
    let mut send = send.ready().await.unwrap();
    let (answer, mut stream) = send.send_request(request, false).unwrap();
    let (mut sent, mut reset) = (0, None);
    while sent < size {
        stream.reserve_capacity((size - sent).min(64 * 1024));
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                sent += room;
                let piece = Bytes::from(vec![b'a'; room]);
                stream.send_data(piece, sent == size).unwrap();
            }
            Some(Err(error)) => {
                reset = error.reason();
                break;
            }
            // The stream is at its end; it says why below.
            None => {
                let reason = poll_fn(|cx| stream.poll_reset(cx)).await;
                reset = reason.ok();
                break;
            }
        }
    }
    let answer = content(answer.await.unwrap()).await;
    Upload {
        answer,
        sent,
        reset,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

async fn hands_shaken(stream: TlsStream<TcpStream>) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

/// TLS with ALPN `h2`.
async fn dial(address: SocketAddr, certificates: &[PathBuf]) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    for file in certificates {
        roots
            .add(CertificateDer::from_pem_file(file).unwrap())
            .unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    tls
}

async fn exchange(
    send: SendRequest<Bytes>,
    request: http::Request<()>,
    mut body: Bytes,
) -> Response {
    let mut send = send.ready().await.unwrap();
    let (answer, mut stream) = send.send_request(request, body.is_empty()).unwrap();
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        // A gateway that has answered takes no more.
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
            break;
        };
        let piece = body.split_to(room.min(body.len()));
        if stream.send_data(piece, body.is_empty()).is_err() {
            break;
        }
    }
    content(answer.await.unwrap()).await
}

async fn content(answer: http::Response<h2::RecvStream>) -> Response {
    let received = received(answer).await;
    assert_eq!(received.reset, None, "the answer broke off");
    received.response
}

async fn received(answer: http::Response<h2::RecvStream>) -> Received {
    let (head, mut content) = answer.into_parts();
    let (mut body, mut reset) = (Vec::new(), None);
    while let Some(piece) = content.data().await {
        match piece {
            Ok(piece) => {
                let flow = content.flow_control();
                flow.release_capacity(piece.len()).unwrap();
                body.extend_from_slice(&piece);
            }
            Err(error) => {
                reset = error.reason();
                assert!(reset.is_some(), "{error}");
                break;
            }
        }
    }
    let trailers = match reset {
        None => content.trailers().await.unwrap(),
        Some(_) => None,
    };
    let headers = head.headers.iter();
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    Received {
        response: Response {
            status: head.status.as_u16(),
            headers: (headers.map(|(name, value)| (name.to_string(), text(value)))).collect(),
            body,
        },
        reset,
        trailers,
    }
}
