//! The cost of the echo check: the search for a credential in the pieces of an answer.
//!
//!     make bench-core
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]

#[allow(dead_code, reason = "its tests run with those of the library")]
#[path = "../src/gateway/forward/echo/stream_search.rs"]
mod stream_search;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};

use self::stream_search::StreamSearch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A service token of OpenBao, in the length of today's.
const TOKEN: &str =
    "hvs.CAESIJ4xVJ0Q2m8nWc1yqk5bT7r3aZs9dLhFgUeXoPiNvBtMGh4KHGh2cy5aQ1dEUkZUR1lIVUpJ";

/// The size of an answer.
const ANSWER: usize = 1 << 20;

fn main() {
    divan::main();
}

/// JSON as an API has it: letters of the token, and beginnings of it.
fn text() -> Vec<u8> {
    let record = br#"{"id":"db-7","home":"https://h.example/hvs","value":"hvs.C","n":1.50},"#;
    record.iter().copied().cycle().take(ANSWER).collect()
}

/// Nothing but one beginning of the token after another.
fn hostile() -> Vec<u8> {
    let beginning = &TOKEN.as_bytes()[..TOKEN.len() - 1];
    beginning.iter().copied().cycle().take(ANSWER).collect()
}

fn search(bencher: Bencher<'_, '_>, answer: &[u8], token: &str, piece: usize) {
    bencher
        .counter(BytesCount::new(answer.len()))
        .bench_local(|| {
            let mut search = StreamSearch::new(black_box(token.as_bytes()))?;
            let mut pieces = black_box(answer).chunks(piece);
            Some(pieces.any(|piece| search.finds_in(piece)) || !search.held().is_empty())
        });
}

/// In pieces of one byte, of an event, of a packet, and of Pingora's buffer.
#[divan::bench(args = [1, 100, 1448, 65536])]
fn text_of_1_mib(bencher: Bencher<'_, '_>, piece: usize) {
    search(bencher, &text(), TOKEN, piece);
}

#[divan::bench(args = [1, 100, 1448, 65536])]
fn hostile_1_mib(bencher: Bencher<'_, '_>, piece: usize) {
    search(bencher, &hostile(), TOKEN, piece);
}

/// The largest secret there is.
#[divan::bench(args = [65536])]
fn secret_of_8_kib(bencher: Bencher<'_, '_>, piece: usize) {
    search(bencher, &text(), &"hvs.CAES".repeat(1024), piece);
}

/// The cost of an answer without a body, but for the lines of its head.
#[divan::bench]
fn begin() -> bool {
    StreamSearch::new(black_box(TOKEN.as_bytes())).is_some()
}
