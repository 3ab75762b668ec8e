//! Whether a connection to a server may carry another request. Every reason not to is here.

use http::StatusCode;

/// The facts about a connection after the response on it has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedExchange {
    /// The server's end took every byte of the request.
    pub(crate) sent_whole: bool,
    /// The final answer began before that.
    pub(crate) answered_early: bool,
    /// The answer was read to its end, and its framing told where that is.
    pub(crate) answered_whole: bool,
    /// Both sides agreed to keep the connection (RFC 9112, section 9.3), and nothing was read
    /// behind the answer.
    pub(crate) keep_alive: bool,
    pub(crate) was_head: bool,
    /// The request had a body.
    pub(crate) had_body: bool,
    pub(crate) status: StatusCode,
}

/// Whether the connection may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It is closed.
    Never,
    /// It may carry another request at once.
    AtOnce,
    /// It may after a rest: some servers send a body where none may be, and it may still come.
    AfterRest,
}

impl FinishedExchange {
    /// Whether the connection may be used again. Any doubt closes it: to make another connection
    /// costs time, and an answer that belongs to another request costs a secret.
    pub(crate) fn reuse(&self) -> Reuse {
        let is_whole = self.sent_whole && self.answered_whole && !self.answered_early;
        // A server that answers with an error may have left the body unread, and then reads it as
        // the next request, or waits for ever.
        let may_be_unread =
            self.had_body && (self.status.is_client_error() || self.status.is_server_error());
        if !is_whole || !self.keep_alive || may_be_unread {
            return Reuse::Never;
        }
        let has_no_body = matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        if self.was_head || has_no_body {
            Reuse::AfterRest
        } else {
            Reuse::AtOnce
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GET and its answer, as they should be.
    const GOOD: FinishedExchange = FinishedExchange {
        sent_whole: true,
        answered_early: false,
        answered_whole: true,
        keep_alive: true,
        was_head: false,
        had_body: false,
        status: StatusCode::OK,
    };

    #[test]
    fn each_fact_alone_decides_as_the_table_says() {
        use Reuse::{AfterRest, AtOnce, Never};
        let with = |status| FinishedExchange { status, ..GOOD };
        let body = |status| FinishedExchange {
            had_body: true,
            status,
            ..GOOD
        };
        #[rustfmt::skip]
        let table = [
            ("a whole answer", GOOD, AtOnce),
            ("a request that was not sent whole", FinishedExchange { sent_whole: false, ..GOOD }, Never),
            ("an answer before the request was sent", FinishedExchange { answered_early: true, ..GOOD }, Never),
            ("an answer that broke off", FinishedExchange { answered_whole: false, ..GOOD }, Never),
            ("a server that closes", FinishedExchange { keep_alive: false, ..GOOD }, Never),
            ("HEAD", FinishedExchange { was_head: true, ..GOOD }, AfterRest),
            ("HEAD with an error", FinishedExchange { was_head: true, ..with(StatusCode::NOT_FOUND) }, AfterRest),
            ("204", with(StatusCode::NO_CONTENT), AfterRest),
            ("304", with(StatusCode::NOT_MODIFIED), AfterRest),
            ("205, which has framing", with(StatusCode::RESET_CONTENT), AtOnce),
            ("404 to a request without a body", with(StatusCode::NOT_FOUND), AtOnce),
            ("500 to a request without a body", with(StatusCode::INTERNAL_SERVER_ERROR), AtOnce),
            ("200 to a request with a body", body(StatusCode::OK), AtOnce),
            ("204 to a request with a body", body(StatusCode::NO_CONTENT), AfterRest),
            ("413 to a request with a body", body(StatusCode::PAYLOAD_TOO_LARGE), Never),
            ("404 to a request with a body", body(StatusCode::NOT_FOUND), Never),
            ("503 to a request with a body", body(StatusCode::SERVICE_UNAVAILABLE), Never),
        ];
        for (what, exchanged, expected) in table {
            assert_eq!(exchanged.reuse(), expected, "{what}");
        }
    }

    #[test]
    fn a_rest_mends_no_reason_to_close() {
        for was_head in [false, true] {
            for broken in [
                FinishedExchange {
                    sent_whole: false,
                    was_head,
                    ..GOOD
                },
                FinishedExchange {
                    answered_whole: false,
                    was_head,
                    ..GOOD
                },
                FinishedExchange {
                    keep_alive: false,
                    was_head,
                    ..GOOD
                },
            ] {
                assert_eq!(broken.reuse(), Reuse::Never);
            }
        }
    }
}
