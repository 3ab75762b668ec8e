//! HTTP/1.1: one request at a time on each connection, which is made anew where the server closes
//! it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pace::{Lane, Pace};
use super::{Seen, Target, Tls, Transport};
use crate::requests::Signed;

/// The lanes, connected, each ready to send what it has. Their connections stand.
pub(super) async fn connect(
    to: Target<'_>,
    transport: Transport,
    lanes: Vec<VecDeque<Signed>>,
    pace: &Pace,
) -> Vec<LocalBoxFuture<'static, Seen>> {
    let mut connected: Vec<LocalBoxFuture<'static, Seen>> = Vec::new();
    for (number, requests) in lanes.into_iter().enumerate() {
        let requests = requests
            .iter()
            .map(|r| (r.http1_head(), r.body.clone()))
            .collect();
        let server = match transport {
            Transport::Plain => Server(to.plain, None),
            Transport::Tls => Server(to.encrypted, Some(to.certificate.clone())),
        };
        let lane = pace.lane(number);
        let connection = server.connect().await.unwrap();
        connected.push(Box::pin(run(server, connection, requests, lane)));
    }
    connected
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn run(
    server: Server,
    connection: Connection,
    requests: Vec<(Vec<u8>, Bytes)>,
    mut lane: Lane,
) -> Seen {
    let mut seen = Seen::new();
    let mut kept = Some(connection);
    for (head, body) in requests {
        let due = lane.next().await;
        let answer = async {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => {
                    seen.connections += 1;
                    server.connect().await?
                }
            };
            let (status, close) = connection.ask(&head, &body).await?;
            if !close {
                kept = Some(connection);
            }
            io::Result::Ok(status)
        };
        let status = answer.await.ok();
        seen.note(status, due.elapsed());
    }
    seen
}

struct Server(SocketAddr, Option<Tls>);

impl Server {
    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.1 {
            Some(tls) => Box::new(tls.connect(stream, b"http/1.1").await?),
            None => Box::new(stream),
        };
        Ok(Connection {
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

struct Connection {
    stream: Box<dyn Stream>,
    /// Reused from answer to answer.
    buffer: Vec<u8>,
}

impl Connection {
    /// The status of the answer, and whether the server closes the connection after it.
    async fn ask(&mut self, head: &[u8], body: &[u8]) -> io::Result<(u16, bool)> {
        self.stream.write_all(head).await?;
        if !body.is_empty() {
            self.stream.write_all(body).await?;
        }
        self.stream.flush().await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(answer) = Answer::parse(&self.buffer)? {
                while self.buffer.len() < answer.len {
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                return Ok((answer.status, answer.close));
            }
        }
    }
}

struct Answer {
    status: u16,
    close: bool,
    /// Of head and body.
    len: usize,
}

impl Answer {
    /// `None` while the head is not complete. Every answer has a `Content-Length` here.
    fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(io::Error::other)?;
        let httparse::Status::Complete(head) = parsed else {
            return Ok(None);
        };
        let mut answer = Answer {
            status: response.code.unwrap_or(0),
            close: false,
            len: head,
        };
        let mut has_length = false;
        for header in response.headers.iter() {
            let value = std::str::from_utf8(header.value).unwrap_or("");
            if header.name.eq_ignore_ascii_case("content-length") {
                answer.len += value.parse::<usize>().map_err(io::Error::other)?;
                has_length = true;
            } else if header.name.eq_ignore_ascii_case("connection") {
                answer.close = value.eq_ignore_ascii_case("close");
            }
        }
        match has_length {
            true => Ok(Some(answer)),
            false => Err(io::Error::other("an answer without Content-Length")),
        }
    }
}
