//! A certificate for the test gateway.

use std::fs;
use std::path::Path;

/// Writes `cert.pem` and `key.pem`, self-signed for `localhost`.
pub fn write_certificate(folder: &Path) {
    write_as(folder, "");
}

/// The same, with a prefix before their names.
pub fn write_as(folder: &Path, prefix: &str) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |name: &str, pem: String| fs::write(folder.join(format!("{prefix}{name}")), pem);
    write("cert.pem", made.cert.pem()).unwrap();
    write("key.pem", made.signing_key.serialize_pem()).unwrap();
}
