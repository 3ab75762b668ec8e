//! Reads a private key from PKCS#8 PEM (RFC 8410, RFC 7468). The parser tolerates damaged line
//! breaks, because editors, terminals and secret stores damage them. For any other file the error
//! names the kind of content.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use memchr::memmem;
use zeroize::Zeroizing;

/// Why a text holds no usable key. The error repeats nothing of the text, which may be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    /// A known kind of content, but not this kind of key.
    #[error(
        "holds {0}, not an Ed25519 private key in PKCS#8 PEM; make one with `countersign keygen`"
    )]
    OtherKind(&'static str),
    /// An Ed25519 key in a damaged or ambiguous file.
    #[error("{0}")]
    Mangled(&'static str),
    /// An unknown kind of content.
    #[error("not an Ed25519 private key in PKCS#8 PEM; make one with `countersign keygen`")]
    Unknown,
}

const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";
const LABEL: &[u8] = b"PRIVATE KEY";
const END: &[u8] = b"-----END PRIVATE KEY-----";

/// Reads the one private key in `text`. Any text may surround its PEM block. Within the block, the
/// base64 may have line breaks anywhere or nowhere. A break may also be the two characters `\n`, as
/// JSON and `.env` files write it.
///
/// # Errors
///
/// [`NotAKey`]. It fails closed: a text with two private keys is ambiguous, and so an error.
pub fn parse(text: &[u8]) -> Result<SigningKey, NotAKey> {
    let mut found = None;
    let mut other = None;
    for at in memmem::find_iter(text, BEGIN) {
        let rest = &text[at + BEGIN.len()..];
        let Some(end) = memmem::find(rest, DASHES) else {
            continue;
        };
        let (label, body) = (&rest[..end], &rest[end + DASHES.len()..]);
        if label == LABEL {
            if found.replace(body).is_some() {
                return Err(NotAKey::Mangled(
                    "holds two private keys; remove the wrong one",
                ));
            }
        } else if other.is_none() {
            other = by_label(label);
        }
    }
    let Some(body) = found else {
        let kind = other.or_else(|| without_block(text));
        return Err(kind.map_or(NotAKey::Unknown, NotAKey::OtherKind));
    };
    let Some(end) = memmem::find(body, END) else {
        return Err(NotAKey::Mangled(
            "is cut off: the line -----END PRIVATE KEY----- is missing; copy the whole file again",
        ));
    };
    let der = decode(&body[..end]).ok_or(NotAKey::Mangled(
        "holds a private key that is damaged: the text between its BEGIN and END lines is not base64; \
         copy the whole file again",
    ))?;
    SigningKey::from_pkcs8_der(&der)
        .map_err(|_| by_algorithm(&der).map_or(NotAKey::Unknown, NotAKey::OtherKind))
}

/// Decodes base64, and ignores line breaks.
fn decode(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut rest = body;
    while let [first, more @ ..] = rest {
        rest = match (first, more) {
            (b'\\', [b'n' | b'r', more @ ..]) => more,
            (byte, more) if byte.is_ascii_whitespace() => more,
            (byte, more) => {
                base64.push(*byte);
                more
            }
        };
    }
    let mut der = Zeroizing::new(vec![0; base64.len() / 4 * 3 + 3]);
    let length = STANDARD.decode_slice(&**base64, &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

/// The kind of a PEM block, by its label. Several keys often lie side by side, so a wrong file is
/// likely.
fn by_label(label: &[u8]) -> Option<&'static str> {
    const LABELS: [(&[u8], &str); 11] = [
        (b"RSA PRIVATE KEY", "an RSA key"),
        (b"EC PRIVATE KEY", "an elliptic curve key (ECDSA)"),
        (b"DSA PRIVATE KEY", "a DSA key"),
        (b"OPENSSH PRIVATE KEY", "a key in OpenSSH's format"),
        (
            b"ENCRYPTED PRIVATE KEY",
            "a key encrypted with a passphrase",
        ),
        (b"PGP PRIVATE KEY BLOCK", "a PGP key"),
        (b"AGE ENCRYPTED FILE", "a file that age has encrypted"),
        (b"PUBLIC KEY", "a public key"),
        (b"CERTIFICATE", "a certificate"),
        (b"CERTIFICATE REQUEST", "a certificate request"),
        (b"NEW CERTIFICATE REQUEST", "a certificate request"),
    ];
    let found = LABELS.iter().find(|(known, _)| *known == label);
    found.map(|(_, kind)| *kind)
}

/// The kind of a PKCS#8 key, by the algorithm identifier in its first bytes.
fn by_algorithm(der: &[u8]) -> Option<&'static str> {
    /// In DER: RSA (RFC 8017), elliptic curves (RFC 5480), Ed448 and X25519 (RFC 8410).
    const ALGORITHMS: [(&[u8], &str); 4] = [
        (
            &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01],
            "an RSA key",
        ),
        (
            &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01],
            "an elliptic curve key (ECDSA)",
        ),
        (&[0x06, 0x03, 0x2b, 0x65, 0x71], "an Ed448 key"),
        (
            &[0x06, 0x03, 0x2b, 0x65, 0x6e],
            "an X25519 key, which cannot sign",
        ),
    ];
    let head = &der[..der.len().min(24)];
    let holds = |id: &[u8]| head.windows(id.len()).any(|window| window == id);
    let found = ALGORITHMS.iter().find(|(id, _)| holds(id));
    found.map(|(_, kind)| *kind)
}

/// The kind of a text without a PEM block.
fn without_block(text: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 9] = [
        (
            b"AGE-SECRET-KEY-",
            "an age key, which encrypts and cannot sign",
        ),
        (b"age-encryption.org/", "a file that age has encrypted"),
        (b"PuTTY-User-Key-File", "a key in PuTTY's format"),
        (b"---- BEGIN SSH2 ", "a key in SSH2's format"),
        (b"ssh-", "an SSH public key"),
        (b"untrusted comment:", "a key of signify or minisign"),
        (
            b"\xff\xfe",
            "text in UTF-16, as Windows PowerShell's > writes it; save it as UTF-8",
        ),
        (b"\xfe\xff", "text in UTF-16; save it as UTF-8"),
        (b"{", "JSON, perhaps a JWK"),
    ];
    /// PKCS#8 of an Ed25519 key in DER.
    const PKCS8: &[u8] = &[
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70,
    ];
    // `age-keygen` writes comments before the key.
    let mut lines = text
        .split(|byte| *byte == b'\n')
        .map(|line| line.trim_ascii());
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#"));
    let first = first?.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first?);
    if let Some((_, kind)) = STARTS.iter().find(|(start, _)| first.starts_with(start)) {
        return Some(kind);
    }
    if text.starts_with(PKCS8) {
        return Some("a key in DER; `openssl pkey -inform DER -in FILE` writes it as PEM");
    }
    match decode(text)? {
        der if der.starts_with(PKCS8) => Some(
            "a key in base64 without its lines -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY-----",
        ),
        raw if raw.len() == 32 => Some("32 bytes in base64, perhaps a raw key"),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// As `openssl genpkey` writes it.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
        -----END PRIVATE KEY-----\n";
    const BASE64: &str = "MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";

    #[track_caller]
    fn is_taken(text: &[u8]) {
        let key = parse(text).map(|key| key.to_bytes());
        assert_eq!(key, Ok([7; 32]), "{}", String::from_utf8_lossy(text));
    }

    fn told(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_key_is_taken_however_its_lines_are_cut() {
        is_taken(KEY.as_bytes());
        for text in [
            KEY.trim_end().to_owned(),
            format!("{KEY}\n\n"),
            format!("\n\n{KEY}"),
            KEY.replace('\n', "\r\n"),
            KEY.replace('\n', "\r"),
            KEY.replace('\n', " "),
            KEY.replace('\n', ""),
            KEY.replace('\n', "\\n"),
            KEY.replace('\n', "\\r\\n"),
            KEY.replace('\n', "\n    "),
            KEY.replace('\n', " \t\n"),
            KEY.replace("BwcH", "Bwc\nH"),
            KEY.replace("\n-----END", "\n\n-----END"),
        ] {
            is_taken(text.as_bytes());
        }
    }

    #[test]
    fn a_key_is_taken_whatever_stands_around_it() {
        for text in [
            format!("\u{feff}{KEY}"),
            format!("{KEY}# the key of web-1\n"),
            format!("Bag Attributes\n    friendlyName: web-1\n{KEY}"),
            format!("PRIVATE_KEY=\"{}\"\n", KEY.replace('\n', "\\n")),
            format!("{KEY}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            format!("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n{KEY}"),
        ] {
            is_taken(text.as_bytes());
        }
        is_taken(&[b"caf\xe9\n", KEY.as_bytes()].concat());
    }

    #[test]
    fn two_private_keys_are_none() {
        assert!(told(&format!("{KEY}{KEY}")).contains("two private keys"));
    }

    #[test]
    fn what_is_wrong_with_a_key_is_told() {
        let cut = KEY.split("-----END").next().unwrap();
        assert!(told(cut).contains("is cut off"));
        for text in [
            KEY.replace("BwcH", "Bw!H"),
            KEY.replace("\n-----END", "=\n-----END"),
        ] {
            assert!(told(&text).contains("is damaged"), "{text}");
        }
    }

    #[test]
    fn other_files_are_called_by_their_name() {
        let der = STANDARD.decode(BASE64).unwrap();
        let public =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
        for (text, word) in [
            (
                "# created: 2027-01-15\n# public key: age1x\nAGE-SECRET-KEY-1QQ\n",
                "an age key",
            ),
            ("age-encryption.org/v1\n", "age has encrypted"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n", "OpenSSH"),
            ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n", "PGP"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA\n", "passphrase"),
            (
                "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n",
                "a public key",
            ),
            ("PuTTY-User-Key-File-3: ssh-ed25519\n", "PuTTY"),
            ("untrusted comment: minisign\n", "minisign"),
            (public, "an SSH public key"),
            ("{\"kty\":\"OKP\"}", "JWK"),
            (BASE64, "without its lines"),
            ("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n", "32 bytes"),
        ] {
            let told = told(text);
            assert!(told.contains(word), "{told}");
            assert!(told.contains("countersign keygen"), "{told}");
        }
        let of_bytes = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
        assert!(of_bytes(&der).contains("DER"));
        assert!(of_bytes(b"\xff\xfe-\0-\0").contains("UTF-16"));
    }

    #[test]
    fn no_fault_shows_anything_of_the_content() {
        for text in ["s3cret", "-----BEGIN s3cret-----\ns3cret\n", "\u{0}", ""] {
            assert_eq!(
                parse(text.as_bytes()).unwrap_err(),
                NotAKey::Unknown,
                "{text}"
            );
        }
        let damaged = "-----BEGIN PRIVATE KEY-----\ns3cret!\n-----END PRIVATE KEY-----\n";
        assert!(!told(damaged).contains("s3cret"));
    }
}
