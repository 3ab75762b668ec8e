//! Distinguishes a refusal of the gateway from other responses, before the response is forwarded.

use std::time::Duration;

use http::Response;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};

use super::answer::{AnswerBody, Streaming, broken_off, strip_connection, whole};
use super::pool::Lease;
use super::refused::{self, Refused};

/// Deadline for the body of a refusal, which is read before it is forwarded.
const REFUSAL: Duration = Duration::from_secs(10);

/// A response, by its origin and by whether a retry can help.
pub(super) enum GatewayAnswer {
    /// A refusal of the gateway, with the head and body to forward.
    Refused(Response<AnswerBody>, Refused),
    /// A 429 from the backend or a proxy in between.
    TooMany(Response<AnswerBody>),
    /// Any other response; its body streams.
    Streaming(Response<AnswerBody>),
}

impl GatewayAnswer {
    /// Reads the body of an answer that may be a refusal by the gateway, up to 64 KiB. The body of
    /// any other answer streams.
    pub(super) async fn read(
        answer: Response<Incoming>,
        lease: Lease,
        to_head: bool,
    ) -> GatewayAnswer {
        let (mut head, body) = answer.into_parts();
        strip_connection(&mut head.headers);
        let small = body
            .size_hint()
            .upper()
            .is_some_and(|it| it <= refused::MOST_BYTES);
        let refusal = refused::may_be(head.status.as_u16(), &head.headers);
        let worth_reading = !to_head && small && (refusal || head.status == 429);
        if !worth_reading {
            let body = Streaming::new(body, lease).boxed();
            return GatewayAnswer::Streaming(Response::from_parts(head, body));
        }
        let limited = Limited::new(
            Streaming::new(body, lease),
            usize::try_from(refused::MOST_BYTES).unwrap_or(usize::MAX),
        );
        let bytes = match tokio::time::timeout(REFUSAL, limited.collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            // A part of it must not pass for the whole.
            _ => return GatewayAnswer::Streaming(Response::from_parts(head, broken_off())),
        };
        let refused = refused::parse(&head.headers, &bytes);
        let answer = Response::from_parts(head, whole(bytes));
        match refused {
            Some(refused) => GatewayAnswer::Refused(answer, refused),
            None if answer.status() == 429 => GatewayAnswer::TooMany(answer),
            None => GatewayAnswer::Streaming(answer),
        }
    }
}
