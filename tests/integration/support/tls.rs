//! A certificate for the test gateway.

use std::fs;
use std::path::Path;

/// Writes `cert.pem` and `key.pem`, self-signed for `localhost`.
pub fn write_certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}
