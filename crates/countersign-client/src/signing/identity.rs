//! A SikkerKey identity on disk: a directory with `identity.json` and `private.pem`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::file;

/// Largest `identity.json`, in bytes; SikkerKey's have some hundred. A larger file is an error.
const MAX_FILE: usize = 64 * 1024;

/// A machine's id, key file and gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The machine's id in the registry.
    pub machine_id: String,
    /// The `apiUrl`: the gateway, without a trailing slash.
    pub api_url: Option<String>,
    /// The key file: always `private.pem` beside `identity.json`, as SikkerKey's clients store it.
    /// `privateKeyPath` is ignored, because a copied directory still names another machine's file.
    pub key: PathBuf,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "machineId")]
    machine_id: String,
    #[serde(rename = "apiUrl")]
    api_url: Option<String>,
}

/// The identity of a vault in the home of SikkerKey's clients: `vaults/{vault}`.
pub fn of_vault(home: &Path, vault: &str) -> PathBuf {
    home.join("vaults").join(vault)
}

/// The one identity in the home of SikkerKey's clients.
///
/// # Errors
///
/// There is none, or there are several; the text names them.
pub fn only_one_in(home: &Path) -> Result<PathBuf, String> {
    let vaults = home.join("vaults");
    let fail = |why: &dyn std::fmt::Display| format!("{}: {why}", vaults.display());
    let entries = std::fs::read_dir(&vaults).map_err(|error| fail(&error))?;
    let folders = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut found: Vec<PathBuf> = folders
        .filter(|folder| folder.join("identity.json").is_file())
        .collect();
    found.sort();
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => Err(fail(
            &"holds no identity; make one with `countersign enrol`",
        )),
        several => {
            let names = several.iter().filter_map(|folder| folder.file_name());
            let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
            Err(fail(&format!(
                "holds several identities: {}; name one with --identity DIR",
                names.join(", ")
            )))
        }
    }
}

/// Reads the identity in `folder`, which may also be the path of an `identity.json`.
///
/// # Errors
///
/// The path and the cause.
pub fn read(folder: &Path) -> Result<Identity, String> {
    let (folder, path) = match folder.extension().is_some_and(|it| it == "json") {
        true => (
            folder.parent().unwrap_or(Path::new("")).to_path_buf(),
            folder.to_path_buf(),
        ),
        false => (folder.to_path_buf(), folder.join("identity.json")),
    };
    let fail = |what: String| format!("{}: {what}", path.display());
    let text = file::read(&path, MAX_FILE).map_err(|fault| fail(fault.to_string()))?;
    let content: Content = serde_json::from_slice(&text)
        .map_err(|error| fail(format!("is not a SikkerKey identity: {error}")))?;
    Ok(Identity {
        machine_id: content.machine_id,
        api_url: content
            .api_url
            .map(|url| url.trim_end_matches('/').to_owned()),
        key: folder.join("private.pem"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const JSON: &str = r#"{"machineId":"web-1","machineName":"w","vaultId":"v",
        "apiUrl":"https://gw:8443/","privateKeyPath":"/elsewhere/private.pem"}"#;

    #[test]
    fn the_key_is_the_one_beside_the_file_whatever_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("identity.json");
        std::fs::write(&file, JSON).unwrap();
        let expected = Identity {
            machine_id: "web-1".into(),
            api_url: Some("https://gw:8443".into()),
            key: folder.path().join("private.pem"),
        };
        assert_eq!(read(folder.path()), Ok(expected.clone()));
        assert_eq!(read(&file), Ok(expected));
    }

    #[test]
    fn the_only_identity_of_a_home_is_found_and_several_are_named() {
        let home = tempfile::tempdir().unwrap();
        assert!(only_one_in(home.path()).unwrap_err().contains("vaults"));
        for (vault, is_only) in [("b", true), ("a", false)] {
            let folder = of_vault(home.path(), vault);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("identity.json"), JSON).unwrap();
            match only_one_in(home.path()) {
                Ok(found) => assert!(is_only && found == folder),
                Err(told) => assert!(!is_only && told.contains("a, b"), "{told}"),
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().contains("identity.json"));
        std::fs::write(folder.path().join("identity.json"), "{}").unwrap();
        assert!(read(folder.path()).unwrap_err().contains("machineId"));
    }
}
