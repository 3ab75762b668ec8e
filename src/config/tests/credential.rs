//! Credentials: where they come from, and that no message repeats them.

use super::*;

#[test]
fn a_credential_comes_from_the_environment() {
    let more = "credential: { header: Authorization, prefix: 'Bearer ', env: VAULT_TOKEN }";
    let config = good(&with_upstream(more));
    let credential = config.upstreams[0].credential.clone().unwrap();
    assert_eq!(credential.header, "authorization");
    assert_eq!(credential.value.unwrap(), format!("Bearer {SECRET}"));
}

#[test]
fn a_credential_is_never_printed() {
    let more = "credential: { header: X-Vault-Token, env: VAULT_TOKEN }";
    let config = good(&with_upstream(more));
    assert!(format!("{config:?}").contains("Sensitive"));
    assert!(!format!("{config:?}").contains(SECRET));
}

#[test]
fn a_credential_comes_from_a_file_whose_last_newline_is_cut() {
    for (name, end) in [("none", ""), ("lf", "\n"), ("crlf", "\r\n")] {
        let file = SecretFile::new(name, &format!("{SECRET}{end}"));
        let config = good(&with_upstream(&file.setting()));
        let credential = config.upstreams[0].credential.clone().unwrap();
        assert_eq!(credential.value.unwrap(), SECRET);
    }
}

#[test]
fn a_credential_file_that_no_header_can_carry_is_refused_without_repeating_it() {
    for (name, content) in [
        ("newline", "\n".to_owned()),
        ("two", format!("{SECRET}\n\n")),
        ("space", format!("{SECRET} ")),
        ("control", format!("{SECRET}\u{7}")),
        ("foreign", format!("{SECRET}é")),
        ("large", SECRET.repeat(1000)),
    ] {
        let file = SecretFile::new(name, &content);
        let text = only(&with_upstream(&file.setting()));
        assert!(text.contains("upstreams.secrets.credential.file"), "{text}");
        assert!(!text.contains(SECRET), "{name}: {text}");
    }
}

#[test]
fn a_credential_file_that_is_not_there_yet_is_a_warning() {
    let empty = SecretFile::new("empty", "");
    let missing = "credential: { header: X-Vault-Token, file: no/such/token }".to_owned();
    for setting in [missing, empty.setting()] {
        let Loaded { config, warnings } = read_text(&with_upstream(&setting)).unwrap();
        let credential = config.upstreams[0].credential.clone().unwrap();
        assert_eq!(credential.value, None);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let text = warnings[0].to_string();
        assert!(text.contains("upstreams.secrets.credential.file"), "{text}");
        assert!(text.contains("does not exist yet"), "{text}");
    }
}

#[test]
fn a_credential_file_that_is_no_file_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let more = format!("credential: {{ header: X-Vault-Token, file: '{path}' }}");
    assert!(only(&with_upstream(&more)).contains("upstreams.secrets.credential.file"));
}

/// A file with a secret, gone when the test is over.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str, content: &str) -> SecretFile {
        let name = format!("countersign-secret-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        SecretFile(path)
    }

    fn setting(&self) -> String {
        let path = self.0.display();
        format!("credential: {{ header: X-Vault-Token, file: '{path}' }}")
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_credential_variable_that_is_missing_or_odd_is_refused_without_repeating_it() {
    for name in [
        "MISSING",
        "EMPTY",
        "TWO_LINES",
        "'not a name'",
        "''",
        "1A",
        "hvs.CAESIJ",
    ] {
        let more = format!("credential: {{ header: X-Vault-Token, env: {name} }}");
        let text = only(&with_upstream(&more));
        assert!(
            text.contains("upstreams.secrets.credential.env"),
            "{name}: {text}"
        );
        assert!(!text.contains(SECRET) && !text.contains("hvs."), "{text}");
    }
}

#[test]
fn a_credential_has_exactly_one_source() {
    let both = "credential: { header: X-Vault-Token, env: VAULT_TOKEN, file: token }";
    assert!(only(&with_upstream(both)).contains("credential.env: is set together with `file`"));
    let neither = "credential: { header: X-Vault-Token }";
    assert!(only(&with_upstream(neither)).contains("credential.file: is missing"));
}

#[test]
fn a_credential_written_in_place_is_refused_and_not_repeated() {
    let text = only(&with_upstream(&format!("credential: {SECRET}")));
    assert!(!text.contains(SECRET));
}

#[test]
fn fixed_headers_and_forwarded_ones_cannot_be_the_credentials() {
    let credential = "credential: { header: X-Vault-Token, env: VAULT_TOKEN }";
    let set = with_upstream(&format!(
        "{credential}, set_headers: {{ x_vault_token: a }}"
    ));
    assert!(only(&set).contains("set_headers"));
    let forward = with_upstream(credential).replace(
        "upstream: secrets",
        "upstream: secrets, forward_headers: [X-Vault-Token]",
    );
    assert!(only(&forward).contains("routes[0].forward_headers[0]"));
}

#[test]
fn a_secret_too_short_for_the_echo_check_is_a_warning_that_does_not_tell_it() {
    let folder = tempfile::tempdir().unwrap();
    let warnings = |secret: &str| {
        let file = folder.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let file = file.display();
        let more = format!("credential: {{ header: X-Vault-Token, file: '{file}' }}");
        read_text(&with_upstream(&more)).unwrap().warnings
    };
    assert_eq!(warnings("rootkey8"), []);
    let short = warnings("rootkey");
    assert_eq!(short.len(), 1, "{short:?}");
    let text = short[0].to_string();
    assert!(
        text.contains("credential: holds a secret of fewer than 8 bytes"),
        "{text}"
    );
    assert!(!text.contains("rootkey"), "{text}");
}
