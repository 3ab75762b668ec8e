//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): the first bytes of a
//! connection name the client behind the proxy.

use std::net::IpAddr;
use std::time::Duration;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why a connection does not begin with a valid PROXY line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyLineError {
    #[error("it closed, or nothing came in time")]
    Gone,
    #[error("it does not begin with a PROXY line")]
    Missing,
    #[error("its PROXY line is malformed, or too long")]
    Malformed,
}

/// Longest line of version 1, with its end (section 2.1).
const LONGEST_LINE: usize = 107;

/// Bytes of version 2 behind its first 16: the longest addresses, and room for what load balancers
/// add (names, ids, a few hundred bytes).
const LONGEST_BLOCK: usize = 1024;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Reads exactly the line, and not a byte behind it, within `deadline`. Returns the address that
/// the line names; `None` for `UNKNOWN` and `LOCAL`, where the proxy itself is the client.
///
/// # Errors
///
/// [`ProxyLineError`]; the connection is then closed. The other end may be any client: the caller
/// decides whether to trust the line.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    deadline: Duration,
) -> Result<Option<IpAddr>, ProxyLineError> {
    let read = tokio::time::timeout(deadline, read_all(stream)).await;
    parse(&read.unwrap_or(Err(ProxyLineError::Gone))?)
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, ProxyLineError> {
    let gone = |_| ProxyLineError::Gone;
    // Both are at least this long.
    let mut line = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut line).await.map_err(gone)?;
    if line == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await.map_err(gone)?;
        line.extend_from_slice(&rest);
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if length > LONGEST_BLOCK {
            return Err(ProxyLineError::Malformed);
        }
        let start = line.len();
        line.resize(start + length, 0);
        stream.read_exact(&mut line[start..]).await.map_err(gone)?;
        return Ok(line);
    }
    if !line.starts_with(b"PROXY ") {
        return Err(ProxyLineError::Missing);
    }
    // Byte by byte: the bytes behind the line belong to the request.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE {
            return Err(ProxyLineError::Malformed);
        }
        line.push(stream.read_u8().await.map_err(gone)?);
    }
    Ok(line)
}

fn parse(line: &[u8]) -> Result<Option<IpAddr>, ProxyLineError> {
    let address = match line.starts_with(&SIGNATURE) {
        true => parse_v2(line)?,
        false => parse_v1(line)?,
    };
    Ok(address.map(|address| address.to_canonical()))
}

/// The parser accepts a sign before a port. No proxy writes one, and another reader might stop
/// there.
fn parse_v1(line: &[u8]) -> Result<Option<IpAddr>, ProxyLineError> {
    let header = v1::Header::try_from(line).map_err(|_| ProxyLineError::Malformed)?;
    let (address, ports): (IpAddr, _) = match header.addresses {
        // The rest is not for reading (section 2.1), but it is text.
        v1::Addresses::Unknown => {
            let is_text = |b: &u8| matches!(b, b' '..=b'~');
            let text = line.strip_suffix(b"\r\n").unwrap_or(line);
            return match text.iter().all(is_text) {
                true => Ok(None),
                false => Err(ProxyLineError::Malformed),
            };
        }
        v1::Addresses::Tcp4(ip) => (
            ip.source_address.into(),
            [ip.source_port, ip.destination_port],
        ),
        v1::Addresses::Tcp6(ip) => (
            ip.source_address.into(),
            [ip.source_port, ip.destination_port],
        ),
    };
    let written = format!(" {} {}\r\n", ports[0], ports[1]);
    match line.ends_with(written.as_bytes()) {
        true => Ok(Some(address)),
        false => Err(ProxyLineError::Malformed),
    }
}

/// Type of the checksum among what is added to version 2 (section 2.2.4).
const CRC32C: u8 = 0x03;

fn parse_v2(line: &[u8]) -> Result<Option<IpAddr>, ProxyLineError> {
    let header = v2::Header::try_from(line).map_err(|_| ProxyLineError::Malformed)?;
    if header.command == v2::Command::Local {
        // The rest is to be discarded unread (section 2.2).
        return Ok(None);
    }
    // A stream, of a family that has a name: the other pairs must be dropped (section 2.2).
    let address = match (header.addresses, header.protocol) {
        (v2::Addresses::Unspecified, v2::Protocol::Unspecified) => None,
        (v2::Addresses::IPv4(ip), v2::Protocol::Stream) => Some(ip.source_address.into()),
        (v2::Addresses::IPv6(ip), v2::Protocol::Stream) => Some(ip.source_address.into()),
        (v2::Addresses::Unix(_), v2::Protocol::Stream) => None,
        _ => return Err(ProxyLineError::Malformed),
    };
    let added = line.len() - header.tlv_bytes().len();
    check_added(line, added)?;
    Ok(address)
}

/// Walks what stands behind the addresses, from `at` on: each a type, a length and a value, none of
/// which runs over the end; and one checksum at most, which is right (section 2.2.4).
fn check_added(line: &[u8], mut at: usize) -> Result<(), ProxyLineError> {
    let mut checksum = None;
    while at < line.len() {
        let &[kind, high, low, ..] = &line[at..] else {
            return Err(ProxyLineError::Malformed);
        };
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        let bytes = line.get(value..end).ok_or(ProxyLineError::Malformed)?;
        if kind == CRC32C {
            let sum: [u8; 4] = bytes.try_into().map_err(|_| ProxyLineError::Malformed)?;
            if checksum.replace((value, u32::from_be_bytes(sum))).is_some() {
                return Err(ProxyLineError::Malformed);
            }
        }
        at = end;
    }
    match checksum {
        Some((value, sum)) => {
            // Computed with its own place zeroed.
            let parts = [&line[..value], &[0; 4], &line[value + 4..]];
            match crc32c(parts.concat()) == sum {
                true => Ok(()),
                false => Err(ProxyLineError::Malformed),
            }
        }
        None => Ok(()),
    }
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit: it is some hundred bytes, once a connection.
fn crc32c(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            // The polynomial, reflected, where the bit that goes is set.
            sum = sum >> 1 ^ 0x82f6_3b78 & (sum & 1).wrapping_neg();
        }
    }
    !sum
}

#[cfg(test)]
mod tests;
