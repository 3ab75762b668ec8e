//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): before anything else a
//! proxy says whom it speaks for.

use std::net::IpAddr;
use std::time::Duration;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why a connection does not begin as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    #[error("it closed, or nothing came in time")]
    Gone,
    #[error("it does not begin with a PROXY line")]
    NotOne,
    #[error("its PROXY line is malformed, or too long")]
    Malformed,
}

/// Longest line of version 1, with its end (section 2.1).
const LONGEST_LINE: usize = 107;

/// Bytes of version 2 behind its first 16: the longest addresses, and room for what load balancers
/// add (names, ids, a few hundred bytes).
const LONGEST_BLOCK: usize = 1024;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Reads exactly the line, and not a byte behind it, within `deadline`. Gives the address that it
/// names; none for one that names none (`UNKNOWN`, `LOCAL`: the proxy itself is the client).
///
/// # Errors
///
/// [`Bad`]; the connection is then of no use. Whoever connected may be anybody: whether the line
/// is believed is the caller's affair.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    deadline: Duration,
) -> Result<Option<IpAddr>, Bad> {
    let read = tokio::time::timeout(deadline, read_all(stream)).await;
    parse(&read.unwrap_or(Err(Bad::Gone))?)
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Bad> {
    let gone = |_| Bad::Gone;
    // Both are at least this long.
    let mut line = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut line).await.map_err(gone)?;
    if line == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await.map_err(gone)?;
        line.extend_from_slice(&rest);
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if length > LONGEST_BLOCK {
            return Err(Bad::Malformed);
        }
        let start = line.len();
        line.resize(start + length, 0);
        stream.read_exact(&mut line[start..]).await.map_err(gone)?;
        return Ok(line);
    }
    if !line.starts_with(b"PROXY ") {
        return Err(Bad::NotOne);
    }
    // One by one: the byte behind the line belongs to somebody else.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE {
            return Err(Bad::Malformed);
        }
        line.push(stream.read_u8().await.map_err(gone)?);
    }
    Ok(line)
}

fn parse(line: &[u8]) -> Result<Option<IpAddr>, Bad> {
    let address: Option<IpAddr> = if line.starts_with(&SIGNATURE) {
        let header = v2::Header::try_from(line).map_err(|_| Bad::Malformed)?;
        match (header.command, header.addresses) {
            (v2::Command::Local, _) | (_, v2::Addresses::Unspecified) => None,
            (_, v2::Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
            (_, v2::Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
            (_, v2::Addresses::Unix(_)) => None,
        }
    } else {
        let header = v1::Header::try_from(line).map_err(|_| Bad::Malformed)?;
        match header.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        }
    };
    Ok(address.map(|address| address.to_canonical()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of these bytes, and what is left of them.
    fn read_of(bytes: &[u8]) -> (Result<Option<IpAddr>, Bad>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let mut left = bytes;
        let read = runtime.block_on(read(&mut left, Duration::from_secs(5)));
        (read, left.to_vec())
    }

    /// Version 2 with this command, family and block.
    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        bytes.extend(block);
        bytes
    }

    const FOUR: [u8; 12] = [192, 0, 2, 9, 10, 0, 0, 1, 0x10, 0, 0, 80];

    fn named(text: &str) -> Result<Option<IpAddr>, Bad> {
        Ok(Some(text.parse().unwrap()))
    }

    #[test]
    fn a_line_of_version_1_names_an_address_and_nothing_behind_it_is_read() {
        for (line, address) in [
            ("PROXY TCP4 192.0.2.9 10.0.0.1 4711 80\r\n", "192.0.2.9"),
            (
                "PROXY TCP6 2001:db8::9 2001:db8::1 4711 80\r\n",
                "2001:db8::9",
            ),
            ("PROXY TCP6 ::ffff:192.0.2.9 ::1 4711 80\r\n", "192.0.2.9"),
        ] {
            let (read, left) = read_of(format!("{line}GET / HTTP/1.1\r\n").as_bytes());
            assert_eq!(read, named(address), "{line}");
            assert_eq!(left, b"GET / HTTP/1.1\r\n");
        }
    }

    #[test]
    fn version_2_names_an_address_whatever_is_added_to_it() {
        let mut more = FOUR.to_vec();
        more.extend([0x05, 0, 3, b'a', b'b', b'c']);
        for block in [&FOUR[..], &more] {
            let mut bytes = v2(1, 0x11, block);
            bytes.extend(b"\x16\x03\x01");
            assert_eq!(
                read_of(&bytes),
                (named("192.0.2.9"), b"\x16\x03\x01".to_vec())
            );
        }
        let mut six = [0; 36];
        six[15] = 9;
        assert_eq!(read_of(&v2(1, 0x21, &six)).0, named("::9"));
    }

    #[test]
    fn a_health_check_of_the_proxy_itself_names_none() {
        assert_eq!(read_of(b"PROXY UNKNOWN\r\n").0, Ok(None));
        assert_eq!(read_of(b"PROXY UNKNOWN ::1 ::1 1 2\r\n").0, Ok(None));
        assert_eq!(read_of(&v2(0, 0x00, b"")).0, Ok(None));
        assert_eq!(read_of(&v2(0, 0x11, &FOUR)).0, Ok(None));
    }

    #[test]
    fn what_is_no_proxy_line_is_told_from_a_bad_one() {
        assert_eq!(read_of(b"GET / HTTP/1.1\r\n").0, Err(Bad::NotOne));
        assert_eq!(
            read_of(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00").0,
            Err(Bad::NotOne)
        );
        assert_eq!(read_of(b"PROXY").0, Err(Bad::Gone));
        for bad in [
            "PROXY TCP4 192.0.2.9 10.0.0.1 4711\r\n",
            "PROXY TCP4 192.0.2.999 10.0.0.1 4711 80\r\n",
            "PROXY TCP4  192.0.2.9 10.0.0.1 4711 80\r\n",
            "PROXY UDP4 192.0.2.9 10.0.0.1 4711 80\r\n",
        ] {
            assert_eq!(read_of(bad.as_bytes()).0, Err(Bad::Malformed), "{bad}");
        }
    }

    #[test]
    fn neither_version_is_read_for_ever() {
        let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
        let (read, left) = read_of(long.as_bytes());
        assert_eq!(read, Err(Bad::Malformed));
        assert_eq!(left.len(), long.len() - LONGEST_LINE);
        let huge = v2(1, 0x11, &[0; LONGEST_BLOCK + 1]);
        assert_eq!(read_of(&huge).0, Err(Bad::Malformed));
    }

    #[test]
    fn a_version_2_block_that_is_too_short_for_its_addresses_is_malformed() {
        assert_eq!(read_of(&v2(1, 0x11, &FOUR[..11])).0, Err(Bad::Malformed));
        assert_eq!(read_of(&v2(7, 0x11, &FOUR)).0, Err(Bad::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_of(&bytes);
            let _ = read_of(&[b"PROXY ", &bytes[..]].concat());
            let _ = read_of(&[&SIGNATURE[..], &bytes[..]].concat());
        }
    }
}
