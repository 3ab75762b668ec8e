//! Signing headers that are nearly right. Most of this is shown for the pure core; here it is shown
//! for what a socket makes of it.

use super::{Field, GET};
use crate::support::gateway::machine;
use crate::support::signer::Signed;

/// A GET with these signing headers.
fn raw(signed: &Signed) -> String {
    format!("GET /a HTTP/1.1\r\nHost: gw\r\n{}\r\n", signed.lines())
}

fn refuses(field: &Field, change: impl Fn(&mut Signed)) {
    let mut signed = field.gateway.sign(&machine(), "GET", "/a", b"");
    change(&mut signed);
    field.refuses(GET, raw(&signed), 401);
}

#[test]
fn base64_with_a_second_spelling_is_refused() {
    let field = Field::start();
    let changes: [fn(&str) -> String; 6] = [
        |text| text.trim_end_matches('=').to_owned(),
        |text| text.replace('+', "-").replace('/', "_") + "=",
        |text| format!("{text}="),
        |text| format!("{} {}", &text[..10], &text[10..]),
        // The last character before the padding holds four bits that nobody reads.
        |text| {
            let (rest, last) = text.trim_end_matches('=').split_at(85);
            let next = char::from(last.as_bytes()[0] + 1);
            format!("{rest}{next}==")
        },
        |text| text[..84].to_owned(),
    ];
    for change in changes {
        refuses(&field, |signed| {
            signed.signature = change(&signed.signature)
        });
    }
}

#[test]
fn timestamps_with_a_second_spelling_are_refused() {
    let field = Field::start();
    for change in [
        |text: &str| format!("+{text}"),
        |text: &str| format!("0{text}"),
        |text: &str| format!("{text}.0"),
        |text: &str| format!("{text}000"),
        |text: &str| format!("{text}e0"),
        |text: &str| format!("-{text}"),
        |_: &str| "18446744073709551616".to_owned(),
        |_: &str| "9999999999999999999999".to_owned(),
    ] {
        refuses(&field, |signed| {
            signed.timestamp = change(&signed.timestamp)
        });
    }
}

#[test]
fn ids_that_look_alike_are_others() {
    let field = Field::start();
    for id in [
        "Machine-1",
        "machine-1.",
        "machine_1",
        "machine-01",
        "machine-l",
        "machine-1/",
        "m\u{e4}chine-1",
    ] {
        refuses(&field, |signed| signed.machine_id = id.to_owned());
    }
}

#[test]
fn a_signature_over_anything_else_is_refused() {
    let field = Field::start();
    for (method, path, body) in [
        ("get", "/a", &b""[..]),
        ("POST", "/a", b""),
        ("GET", "/a/", b""),
        ("GET", "/A", b""),
        ("GET", "/a?", b""),
        ("GET", "/a", b"x"),
    ] {
        let signed = field.gateway.sign(&machine(), method, path, body);
        field.refuses(GET, raw(&signed), 401);
    }
    field.goes_on();
}

#[test]
fn a_signature_whose_s_is_not_reduced_is_refused() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    /// The order of the group, little-endian (RFC 8032, section 5.1).
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let field = Field::start();
    refuses(&field, |signed| {
        let mut bytes = STANDARD.decode(&signed.signature).unwrap();
        let mut carry = 0;
        for (byte, l) in bytes[32..].iter_mut().zip(L) {
            let sum = u16::from(*byte) + u16::from(l) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        signed.signature = STANDARD.encode(bytes);
    });
}
