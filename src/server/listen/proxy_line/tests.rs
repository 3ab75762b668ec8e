#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;

/// The result of reading these bytes, and the bytes behind the PROXY line.
fn read_of(bytes: &[u8]) -> (Result<Option<IpAddr>, ProxyLineError>, Vec<u8>) {
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

fn named(text: &str) -> Result<Option<IpAddr>, ProxyLineError> {
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
    assert_eq!(
        read_of(b"GET / HTTP/1.1\r\n").0,
        Err(ProxyLineError::Missing)
    );
    assert_eq!(
        read_of(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00").0,
        Err(ProxyLineError::Missing)
    );
    assert_eq!(read_of(b"PROXY").0, Err(ProxyLineError::Gone));
    for bad in [
        "PROXY TCP4 192.0.2.9 10.0.0.1 4711\r\n",
        "PROXY TCP4 192.0.2.999 10.0.0.1 4711 80\r\n",
        "PROXY TCP4  192.0.2.9 10.0.0.1 4711 80\r\n",
        "PROXY UDP4 192.0.2.9 10.0.0.1 4711 80\r\n",
    ] {
        assert_eq!(
            read_of(bad.as_bytes()).0,
            Err(ProxyLineError::Malformed),
            "{bad}"
        );
    }
}

#[test]
fn neither_version_is_read_for_ever() {
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
    let (read, left) = read_of(long.as_bytes());
    assert_eq!(read, Err(ProxyLineError::Malformed));
    assert_eq!(left.len(), long.len() - LONGEST_LINE);
    let huge = v2(1, 0x11, &[0; LONGEST_BLOCK + 1]);
    assert_eq!(read_of(&huge).0, Err(ProxyLineError::Malformed));
}

#[test]
fn a_version_2_block_that_is_too_short_for_its_addresses_is_malformed() {
    assert_eq!(
        read_of(&v2(1, 0x11, &FOUR[..11])).0,
        Err(ProxyLineError::Malformed)
    );
    assert_eq!(
        read_of(&v2(7, 0x11, &FOUR)).0,
        Err(ProxyLineError::Malformed)
    );
}

#[test]
fn ports_of_version_1_have_one_spelling() {
    for ports in ["0 0", "1 65535", "4711 80"] {
        let line = format!("PROXY TCP4 192.0.2.9 10.0.0.1 {ports}\r\n");
        assert_eq!(read_of(line.as_bytes()).0, named("192.0.2.9"), "{line}");
    }
    for ports in [
        "+1 80",
        "1 +80",
        "-1 80",
        "01 80",
        "1 080",
        "00 80",
        "65536 80",
        "1 65536",
        "0x10 80",
        "1e2 80",
        " 1 80",
        "1  80",
        "1 80 ",
        "1\t80",
        "1 80 443",
        "1",
        "",
        "\u{ff11} 80",
    ] {
        let line = format!("PROXY TCP4 192.0.2.9 10.0.0.1 {ports}\r\n");
        assert_eq!(
            read_of(line.as_bytes()).0,
            Err(ProxyLineError::Malformed),
            "{line}"
        );
    }
}

#[test]
fn addresses_of_version_1_have_one_reading() {
    for addresses in [
        "TCP4 010.0.0.1 10.0.0.1",
        "TCP4 10.0.0.1 10.0.0.01",
        "TCP4 10.1 10.0.0.1",
        "TCP4 0x0a000001 10.0.0.1",
        "TCP4 167772161 10.0.0.1",
        "TCP4 10.0.0.1/32 10.0.0.1",
        "TCP4 ::1 ::1",
        "TCP4 localhost 10.0.0.1",
        "TCP6 10.0.0.1 10.0.0.1",
        "TCP6 ::1%lo ::1",
        "TCP6 [::1] ::1",
        "TCP6 1::2::3 ::1",
        "TCP6 00001::1 ::1",
        "TCP6 ::ffff:010.0.0.1 ::1",
        "tcp4 10.0.0.1 10.0.0.1",
        "TCP5 10.0.0.1 10.0.0.1",
    ] {
        let line = format!("PROXY {addresses} 1 2\r\n");
        assert_eq!(
            read_of(line.as_bytes()).0,
            Err(ProxyLineError::Malformed),
            "{line}"
        );
    }
}

#[test]
fn a_line_of_version_1_is_text_with_one_end() {
    for line in [
        &b"PROXY UNKNOWN\0\r\n"[..],
        b"PROXY UNKNOWN a\0b\r\n",
        b"PROXY UNKNOWN a\nb\r\n",
        b"PROXY UNKNOWN a\rb\r\n",
        b"PROXY UNKNOWN \xff\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.1 1 2\n\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.1 1 2\r\r\n",
        b"PROXY TCP4\t10.0.0.1 10.0.0.1 1 2\r\n",
    ] {
        let read = read_of(line).0;
        assert_eq!(
            read,
            Err(ProxyLineError::Malformed),
            "{}",
            line.escape_ascii()
        );
    }
}

#[test]
fn version_2_names_a_stream_of_a_known_family_or_is_refused() {
    for family in [0x00, 0x11, 0x21, 0x31] {
        let block = [0; 216];
        let length = match family {
            0x00 => 0,
            0x11 => 12,
            0x21 => 36,
            _ => 216,
        };
        assert!(
            read_of(&v2(1, family, &block[..length])).0.is_ok(),
            "{family:#x}"
        );
    }
    let known = [0x00, 0x11, 0x21, 0x31];
    for family in (0..=255).filter(|family| !known.contains(family)) {
        let read = read_of(&v2(1, family, &[0; 216])).0;
        assert_eq!(read, Err(ProxyLineError::Malformed), "{family:#x}");
    }
    for command in 2..16 {
        assert_eq!(
            read_of(&v2(command, 0x11, &FOUR)).0,
            Err(ProxyLineError::Malformed)
        );
    }
    // Another version.
    for version in [0x01, 0x11, 0x31, 0xf1] {
        let mut bytes = v2(1, 0x11, &FOUR);
        bytes[12] = version;
        assert_eq!(
            read_of(&bytes).0,
            Err(ProxyLineError::Malformed),
            "{version:#x}"
        );
    }
}

/// The addresses and what is added to them, each with its type.
fn with(added: &[(u8, &[u8])]) -> Vec<u8> {
    let mut block = FOUR.to_vec();
    for (kind, value) in added {
        block.push(*kind);
        block.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        block.extend(*value);
    }
    v2(1, 0x11, &block)
}

#[test]
fn what_is_added_to_version_2_fills_its_block_exactly() {
    for added in [
        &[][..],
        &[(0x04, &b""[..])],
        &[(0x01, b"h2"), (0x02, b"example.com")],
        &[(0xea, &[1; 20])],
    ] {
        assert_eq!(read_of(&with(added)).0, named("192.0.2.9"));
    }
    for bad in [
        &[0x05][..],
        &[0x05, 0],
        &[0x05, 0, 1],
        &[0x05, 0, 4, 1, 2, 3],
        &[0x05, 0xff, 0xff, 1],
        &[0x04, 0, 0, 0x05],
        &[0x04, 0, 1, 7, 0x05, 0, 9],
    ] {
        let block = [&FOUR[..], bad].concat();
        assert_eq!(
            read_of(&v2(1, 0x11, &block)).0,
            Err(ProxyLineError::Malformed),
            "{bad:?}"
        );
    }
}

#[test]
fn a_checksum_is_right_or_the_line_is_refused() {
    assert_eq!(crc32c(*b"123456789"), 0xe306_9283);
    let mut good = with(&[(0x02, b"example.com"), (CRC32C, &[0; 4]), (0x04, b"x")]);
    let sum = crc32c(good.iter().copied()).to_be_bytes();
    let at = good.len() - 4 - 4;
    good[at..at + 4].copy_from_slice(&sum);
    assert_eq!(read_of(&good).0, named("192.0.2.9"));
    // The checksum covers every byte except its own type.
    for byte in (13..good.len()).filter(|byte| ![14, 15, at - 3].contains(byte)) {
        let mut changed = good.clone();
        changed[byte] ^= 1;
        assert_eq!(
            read_of(&changed).0,
            Err(ProxyLineError::Malformed),
            "byte {byte}"
        );
    }
    for length in [0, 3, 5, 8] {
        let added = with(&[(CRC32C, &vec![0; length])]);
        assert_eq!(
            read_of(&added).0,
            Err(ProxyLineError::Malformed),
            "{length}"
        );
    }
    let twice = with(&[(CRC32C, &[0; 4]), (CRC32C, &[0; 4])]);
    assert_eq!(read_of(&twice).0, Err(ProxyLineError::Malformed));
}

#[test]
fn a_proxy_that_speaks_for_itself_may_add_what_it_likes() {
    for block in [&[][..], &FOUR, &[1, 2, 3]] {
        let family = if block.len() == FOUR.len() {
            0x11
        } else {
            0x00
        };
        assert_eq!(read_of(&v2(0, family, block)).0, Ok(None), "{block:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_of(&bytes);
        let _ = read_of(&[b"PROXY ", &bytes[..]].concat());
        let _ = read_of(&[&SIGNATURE[..], &bytes[..]].concat());
    }
}
