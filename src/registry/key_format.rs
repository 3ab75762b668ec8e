//! The four formats of an Ed25519 public key that a registry accepts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// `SubjectPublicKeyInfo` of an Ed25519 key up to the key itself (RFC 8410, sections 3 and 4). DER
/// has one encoding for it, so comparing bytes is parsing.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// `PrivateKeyInfo` of an Ed25519 key after its length byte (RFC 8410, section 7): it recognises a
/// private key in the place of a public one.
const PKCS8_INFIX: [u8; 8] = [0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b];

/// The two strings' lengths and the name in an SSH key blob (RFC 8709, section 4).
const SSH_PREFIX: &[u8; 19] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";

/// Longest text taken for a key, in bytes: a PEM block is 115; the rest is for the comment of an
/// SSH key.
pub const MAX_LEN: usize = 1024;

/// The reason why a text is not a public key in one of the four formats. It repeats nothing of the
/// text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Longer than [`MAX_LEN`].
    #[error("it is longer than {MAX_LEN} bytes, so it is not an Ed25519 public key")]
    TooLong,
    /// A private key, in a file that other users may read.
    #[error(
        "it is a PRIVATE key, and is no longer secret here: generate a new key (countersign \
         keygen), and put its public key here"
    )]
    Private,
    /// Neither base64, nor PEM, nor an SSH line.
    #[error(
        "it is not a public key in one of the four formats: base64 of the 32 bytes, base64 or PEM \
         of the SubjectPublicKeyInfo, or \"ssh-ed25519 AAAA..\""
    )]
    NotAKey,
    /// A key of another algorithm, or base64 of something else.
    #[error(
        "it is base64, but not of an Ed25519 public key (32 bytes, or 44 bytes as \
         SubjectPublicKeyInfo)"
    )]
    OtherContent,
    /// An SSH key of another algorithm.
    #[error("it is an SSH key, but not of type ssh-ed25519")]
    OtherSshKey,
    /// A PEM block of another kind.
    #[error(
        "it is not a PEM block that starts with -----BEGIN PUBLIC KEY----- and ends with \
         -----END PUBLIC KEY-----"
    )]
    OtherPem,
}

/// Parses a key as raw base64 (44 characters), as SPKI in base64 or PEM (RFC 8410), or as an SSH
/// line. Each format has one encoding: base64 is standard, padded and canonical, and only an SSH
/// key may have a comment.
///
/// [`PublicKey::from_bytes`] checks that the bytes are a strong key.
///
/// [`PublicKey::from_bytes`]: countersign_core::identity::PublicKey::from_bytes
///
/// # Errors
///
/// [`KeyTextError`] for any other text. It fails closed.
pub fn parse(text: &str) -> Result<[u8; 32], KeyTextError> {
    if text.len() > MAX_LEN {
        return Err(KeyTextError::TooLong);
    }
    if text.contains("PRIVATE KEY-----") {
        return Err(KeyTextError::Private);
    }
    if text.starts_with("-----BEGIN") {
        return from_pem(text);
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") || text.starts_with("sk-") {
        return from_ssh(text);
    }
    from_base64(text)
}

/// The text of a key for a registry: base64 of the 32 bytes, the shortest format.
pub fn to_base64(key: &[u8; 32]) -> String {
    STANDARD.encode(key)
}

fn from_base64(text: &str) -> Result<[u8; 32], KeyTextError> {
    let bytes = STANDARD.decode(text).map_err(|_| KeyTextError::NotAKey)?;
    match <[u8; 32]>::try_from(&bytes[..]) {
        Ok(raw) => Ok(raw),
        Err(_) => from_spki(&bytes),
    }
}

fn from_spki(der: &[u8]) -> Result<[u8; 32], KeyTextError> {
    if der.get(2..10) == Some(&PKCS8_INFIX) {
        return Err(KeyTextError::Private);
    }
    key_after(&SPKI_PREFIX, der)
}

/// Parses RFC 7468, section 2, strictly, but with lines of any length.
fn from_pem(text: &str) -> Result<[u8; 32], KeyTextError> {
    let mut lines = text.lines();
    if lines.next() != Some("-----BEGIN PUBLIC KEY-----")
        || lines.next_back() != Some("-----END PUBLIC KEY-----")
    {
        return Err(KeyTextError::OtherPem);
    }
    let body: String = lines.collect();
    let der = STANDARD.decode(body).map_err(|_| KeyTextError::OtherPem)?;
    from_spki(&der)
}

fn from_ssh(text: &str) -> Result<[u8; 32], KeyTextError> {
    let mut fields = text.splitn(3, ' ');
    if fields.next() != Some("ssh-ed25519") {
        return Err(KeyTextError::OtherSshKey);
    }
    let comment_has_one_line = !text.contains(['\n', '\r']);
    let blob = fields.next().and_then(|blob| STANDARD.decode(blob).ok());
    match blob {
        Some(blob) if comment_has_one_line => key_after(SSH_PREFIX, &blob),
        _ => Err(KeyTextError::NotAKey),
    }
}

fn key_after(prefix: &[u8], bytes: &[u8]) -> Result<[u8; 32], KeyTextError> {
    bytes
        .strip_prefix(prefix)
        .and_then(|key| key.try_into().ok())
        .ok_or(KeyTextError::OtherContent)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// The public key of RFC 8032, section 7.1, test 1, in the spellings that openssl and
    /// ssh-keygen give.
    const KEY: [u8; 32] = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07,
        0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07,
        0x51, 0x1a,
    ];
    const RAW: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const SPKI: &str = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
                       MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
                       -----END PUBLIC KEY-----\n";
    const SSH: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";

    #[test]
    fn raw_base64_is_a_key() {
        assert_eq!(parse(RAW), Ok(KEY));
    }

    #[test]
    fn spki_in_base64_is_a_key() {
        assert_eq!(parse(SPKI), Ok(KEY));
    }

    #[test]
    fn spki_in_pem_is_a_key() {
        assert_eq!(parse(PEM), Ok(KEY));
    }

    #[test]
    fn pem_needs_no_last_newline() {
        assert_eq!(parse(PEM.trim_end()), Ok(KEY));
    }

    #[test]
    fn pem_may_have_windows_line_ends() {
        assert_eq!(parse(&PEM.replace('\n', "\r\n")), Ok(KEY));
    }

    #[test]
    fn an_ssh_line_is_a_key() {
        assert_eq!(parse(SSH), Ok(KEY));
    }

    #[test]
    fn an_ssh_line_may_have_a_comment_of_several_words() {
        assert_eq!(parse(&format!("{SSH} root@web 1")), Ok(KEY));
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(to_base64(&KEY), RAW);
        assert_eq!(parse(&to_base64(&KEY)), Ok(KEY));
    }

    #[test]
    fn base64_with_trailing_bits_is_refused() {
        assert_eq!(
            parse(&RAW.replace("Ro=", "Rp=")),
            Err(KeyTextError::NotAKey)
        );
    }

    #[test]
    fn base64_without_padding_is_refused() {
        assert_eq!(parse(RAW.trim_end_matches('=')), Err(KeyTextError::NotAKey));
    }

    #[test]
    fn url_safe_base64_is_refused() {
        assert_eq!(parse(&RAW.replace('/', "_")), Err(KeyTextError::NotAKey));
    }

    #[test]
    fn white_space_around_base64_is_refused() {
        for text in [format!(" {RAW}"), format!("{RAW}\n"), format!("{RAW} ")] {
            assert_eq!(parse(&text), Err(KeyTextError::NotAKey), "{text:?}");
        }
    }

    #[test]
    fn hex_is_refused() {
        let hex: String = KEY.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(parse(&hex), Err(KeyTextError::OtherContent));
    }

    #[test]
    fn empty_text_is_refused() {
        assert_eq!(parse(""), Err(KeyTextError::OtherContent));
    }

    #[test]
    fn a_key_of_31_or_33_bytes_is_refused() {
        for bytes in [&[7u8; 31][..], &[7u8; 33]] {
            let text = STANDARD.encode(bytes);
            assert_eq!(parse(&text), Err(KeyTextError::OtherContent));
        }
    }

    #[test]
    fn bytes_after_the_spki_are_refused() {
        let mut der = STANDARD.decode(SPKI).unwrap();
        der.push(0);
        assert_eq!(
            parse(&STANDARD.encode(der)),
            Err(KeyTextError::OtherContent)
        );
    }

    #[test]
    fn an_x25519_spki_is_refused() {
        let mut der = STANDARD.decode(SPKI).unwrap();
        der[8] = 0x6e;
        assert_eq!(
            parse(&STANDARD.encode(der)),
            Err(KeyTextError::OtherContent)
        );
    }

    #[test]
    fn text_around_a_pem_block_is_refused() {
        assert_eq!(parse(&format!("{PEM}x")), Err(KeyTextError::OtherPem));
        assert!(parse(&format!("x\n{PEM}")).is_err());
    }

    #[test]
    fn a_pem_block_folded_into_one_line_is_refused() {
        assert_eq!(
            parse(&PEM.trim_end().replace('\n', " ")),
            Err(KeyTextError::OtherPem)
        );
    }

    #[test]
    fn a_certificate_is_refused() {
        let text = PEM.replace("PUBLIC KEY", "CERTIFICATE");
        assert_eq!(parse(&text), Err(KeyTextError::OtherPem));
    }

    #[test]
    fn an_ssh_key_of_another_type_is_refused() {
        for text in [
            "ssh-rsa AAAA",
            "ecdsa-sha2-nistp256 AAAA",
            "ssh-ed25519-cert-v01 A",
        ] {
            assert_eq!(parse(text), Err(KeyTextError::OtherSshKey), "{text}");
        }
    }

    #[test]
    fn an_ssh_blob_of_another_type_is_refused() {
        let text = SSH.replace("NzaC1lZDI1NTE5", "NzaC1lZDI1NTE4");
        assert_eq!(parse(&text), Err(KeyTextError::OtherContent));
    }

    #[test]
    fn an_ssh_line_with_two_spaces_is_refused() {
        let text = SSH.replacen(' ', "  ", 1);
        assert_eq!(parse(&text), Err(KeyTextError::OtherContent));
    }

    #[test]
    fn a_second_ssh_line_is_refused() {
        assert_eq!(
            parse(&format!("{SSH} a\n{SSH} b")),
            Err(KeyTextError::NotAKey)
        );
    }

    #[test]
    fn a_private_key_in_pem_is_called_one() {
        for kind in ["PRIVATE KEY", "OPENSSH PRIVATE KEY"] {
            let text = PEM.replace("PUBLIC KEY", kind);
            assert_eq!(parse(&text), Err(KeyTextError::Private));
        }
    }

    #[test]
    fn a_private_key_in_base64_is_called_one() {
        let mut der = vec![0x30, 0x2e];
        der.extend(PKCS8_INFIX);
        der.extend([0x65, 0x70, 0x04, 0x22, 0x04, 0x20]);
        der.extend([7; 32]);
        assert_eq!(parse(&STANDARD.encode(der)), Err(KeyTextError::Private));
    }

    #[test]
    fn an_endless_text_is_refused_unread() {
        assert_eq!(parse(&"A".repeat(1 << 20)), Err(KeyTextError::TooLong));
    }
}
