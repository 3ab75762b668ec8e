//! HTTP/2, which is agreed on in TLS: several streams at once on each connection.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

use super::pace::{Lane, Pace};
use super::{STREAMS, Seen, Target};
use crate::requests::Signed;

/// The lanes, [`STREAMS`] on each connection, ready to send what they have.
pub(super) async fn connect(
    to: Target<'_>,
    lanes: Vec<VecDeque<Signed>>,
    pace: &Pace,
) -> Vec<LocalBoxFuture<'static, Seen>> {
    let mut connected: Vec<LocalBoxFuture<'static, Seen>> = Vec::new();
    let mut sender = None;
    for (number, requests) in lanes.into_iter().enumerate() {
        if number % STREAMS == 0 {
            let stream = TcpStream::connect(to.encrypted).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let stream = to.certificate.connect(stream, b"h2").await.unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::task::spawn_local(connection);
            sender = Some(send);
        }
        let requests = requests
            .iter()
            .map(|r| (r.http2_head(), r.body.clone()))
            .collect();
        let sender = sender.clone().unwrap();
        connected.push(Box::pin(run(sender, requests, pace.lane(number))));
    }
    connected
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn run(
    mut sender: SendRequest<Bytes>,
    requests: Vec<(Request<()>, Bytes)>,
    mut lane: Lane,
) -> Seen {
    let mut seen = Seen::new();
    for (head, body) in requests {
        let due = lane.next().await;
        let status = ask(&mut sender, head, body).await.ok();
        seen.note(status, due.elapsed());
    }
    seen
}

async fn ask(
    sender: &mut SendRequest<Bytes>,
    head: Request<()>,
    body: Bytes,
) -> Result<u16, h2::Error> {
    std::future::poll_fn(|context| sender.poll_ready(context)).await?;
    let (answer, mut upload) = sender.send_request(head, body.is_empty())?;
    if !body.is_empty() {
        // The crate buffers what the peer's window does not take yet.
        upload.send_data(body, true)?;
    }
    let mut answer = answer.await?;
    let mut flow = answer.body_mut().flow_control().clone();
    while let Some(data) = answer.body_mut().data().await {
        flow.release_capacity(data?.len())?;
    }
    Ok(answer.status().as_u16())
}
