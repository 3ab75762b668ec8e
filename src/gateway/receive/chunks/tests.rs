#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;

/// The bytes of the body and whether it ended, in one piece.
fn read(bytes: &[u8]) -> Result<(usize, bool), &'static str> {
    let mut chunks = Chunks::new();
    let count = chunks.read(bytes)?;
    Ok((count, chunks.is_done()))
}

/// The same, in pieces that end here.
fn read_split(bytes: &[u8], cuts: &[usize]) -> Result<(usize, bool), &'static str> {
    let mut chunks = Chunks::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let (mut start, mut count) = (0, 0);
    for end in cuts {
        let taken = chunks.read(&bytes[start..end])?;
        count += taken;
        if taken < end - start {
            break;
        }
        start = end;
    }
    Ok((count, chunks.is_done()))
}

const GOOD: [&str; 16] = [
    "0\r\n\r\n",
    "3\r\nabc\r\n0\r\n\r\n",
    "03\r\nabc\r\n000\r\n\r\n",
    "a\r\n0123456789\r\n0\r\n\r\n",
    "A\r\n0123456789\r\n0\r\n\r\n",
    "1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
    "0000000000000003\r\nabc\r\n0\r\n\r\n",
    "3;x\r\nabc\r\n0\r\n\r\n",
    "3;x=y\r\nabc\r\n0;z\r\n\r\n",
    "3;\r\nabc\r\n0\r\n\r\n",
    "3;x=\"a b;c\"; y\r\nabc\r\n0\r\n\r\n",
    "3\r\n\r\n\0\r\n0\r\n\r\n",
    "0\r\nX-A: b\r\n\r\n",
    "0\r\nX-A:b\r\nX-B: \t c d \r\nX-A: e\r\n\r\n",
    "0\r\nX-Empty:\r\n\r\n",
    "0\r\nX-A: a:b\r\n\r\n",
];

const BAD: [&str; 57] = [
    "\r\n",
    "\n",
    ";x\r\n",
    " 3\r\n",
    "\t3\r\n",
    "3 \r\n",
    "3\t\r\n",
    "3 ;x\r\n",
    "3\n",
    "3\rx",
    "3\r\r\n",
    "+3\r\n",
    "-3\r\n",
    "0x3\r\n",
    "0X3\r\n",
    "3h\r\n",
    "g\r\n",
    "3.\r\n",
    "3,3\r\n",
    "3_0\r\n",
    "3\0\r\n",
    "\u{ff13}\r\n",
    "00000000000000003\r\n",
    "10000000000000000\r\n",
    "3;x\n",
    "3;x\0y\r\n",
    "3;x\ty\r\n",
    "3;x\x07\r\n",
    "3;x\x7f\r\n",
    "3;x\ry\r\n",
    "3;\u{e9}\r\n",
    "3;x=\"\r\n\"\r\nabc",
    "3\r\nabc\n",
    "3\r\nabcd\r\n",
    "3\r\nabc0\r\n\r\n",
    "3\r\nabc\r\r\n",
    "3\r\nabc\r\n\r\n",
    "3\r\nabc\r\n ",
    "0\n\r\n",
    "0\r\n\n",
    "0\r\n\r\r\n",
    "0\r\nNoColon\r\n",
    "0\r\n: x\r\n",
    "0\r\nX A: b\r\n",
    "0\r\nX-A : b\r\n",
    "0\r\nX-A\t: b\r\n",
    "0\r\n X-A: b\r\n",
    "0\r\nX-A: b\r\n folded\r\n",
    "0\r\nX-A: b\n\r\n",
    "0\r\nX-A: b\rc\r\n",
    "0\r\nX-A: b\0\r\n",
    "0\r\nX-A: b\x7f\r\n",
    "0\r\nX-A: \u{e9}\r\n",
    "0\r\nX-\u{e9}: a\r\n",
    "0\r\nX(A): b\r\n",
    "0\r\nX-A: b\r\n\n",
    "0\r\nGET / HTTP/1.1\r\n\r\n",
];

#[test]
fn bodies_with_one_reading_are_read_to_their_end_and_no_further() {
    for body in GOOD {
        assert_eq!(read(body.as_bytes()), Ok((body.len(), true)), "{body:?}");
        let behind = format!("{body}GET / HTTP/1.1\r\n\r\n");
        assert_eq!(read(behind.as_bytes()), Ok((body.len(), true)), "{body:?}");
        let whole = body.len() - 1;
        assert_eq!(
            read(&body.as_bytes()[..whole]),
            Ok((whole, false)),
            "{body:?}"
        );
    }
}

#[test]
fn bodies_with_a_second_reading_are_refused_however_they_arrive() {
    for body in BAD {
        assert_eq!(read(body.as_bytes()), Err(MALFORMED), "{body:?}");
        let cuts: Vec<usize> = (0..body.len()).collect();
        assert_eq!(
            read_split(body.as_bytes(), &cuts),
            Err(MALFORMED),
            "{body:?}"
        );
    }
}

#[test]
fn trailers_are_kept_by_name_to_be_judged() {
    let mut chunks = Chunks::new();
    chunks
        .read(b"0\r\nX-A: 1\r\nX-Machine-Identity: admin\r\nx-a: 2\r\n\r\n")
        .unwrap();
    let names: Vec<_> = chunks.trailers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-a", "x-machine-identity"]);
    assert_eq!(chunks.trailers().get_all("x-a").iter().count(), 2);
}

#[test]
fn a_trailer_section_over_its_limit_is_refused() {
    let fits = format!("0\r\nX: {}\r\n\r\n", "a".repeat(TRAILER_BYTES - 3));
    assert_eq!(read(fits.as_bytes()), Ok((fits.len(), true)));
    let long = format!("0\r\nX: {}\r\n\r\n", "a".repeat(TRAILER_BYTES - 2));
    assert_eq!(read(long.as_bytes()), Err(LONG));
    let many = format!("0\r\n{}\r\n", "X: a\r\n".repeat(TRAILER_BYTES));
    assert_eq!(read(many.as_bytes()), Err(LONG));
}

#[test]
fn extensions_are_bounded_over_the_whole_body() {
    let one = format!("0;{}", "e".repeat(SPARE_BYTES as usize));
    assert_eq!(read(one.as_bytes()), Err(LONG));
    let many = format!("1;{}\r\na\r\n", "e".repeat(1000)).repeat(20);
    assert_eq!(read(many.as_bytes()), Err(LONG));
    // A signature for each large chunk is no abuse, nor is a byte a chunk.
    let signed = format!(
        "400;signature={}\r\n{}\r\n",
        "e".repeat(64),
        "a".repeat(1024)
    );
    let signed = signed.repeat(4096);
    assert_eq!(read(signed.as_bytes()), Ok((signed.len(), false)));
    let small = "1\r\na\r\n".repeat(100_000);
    assert_eq!(read(small.as_bytes()), Ok((small.len(), false)));
}

#[test]
fn a_size_of_64_bits_is_counted_and_not_trusted() {
    let body = "ffffffffffffffff\r\nabc";
    assert_eq!(read(body.as_bytes()), Ok((body.len(), false)));
}

/// Pieces of which chunked bodies consist, good and bad.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"3\r\nabc\r\n".to_vec()),
        3 => Just(b"0\r\n".to_vec()),
        3 => Just(b"\r\n".to_vec()),
        1 => Just(b"X-A: b\r\n".to_vec()),
        1 => Just(b"1;x=y\r\nz\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_of_the_input_gives_the_same_verdict(
        bytes in soup(),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        prop_assert_eq!(read_split(&bytes, &cuts), read(&bytes));
    }

    #[test]
    fn what_is_written_as_chunks_is_read_as_that(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
        behind in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        let length = bytes.len();
        bytes.extend(behind);
        prop_assert_eq!(read(&bytes), Ok((length, true)));
    }
}
