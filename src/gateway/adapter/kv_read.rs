//! A read of a KV engine, version 2. There are three kinds, and none of them writes.

use super::secret_path::SecretPath;

/// One request to the backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KvRead {
    kind: ReadKind,
    path: SecretPath,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ReadKind {
    /// The newest version of a secret.
    Data,
    /// The versions of a secret, without their values.
    Metadata,
    /// The names in a folder.
    Folder,
}

impl KvRead {
    pub(crate) fn new(kind: ReadKind, path: SecretPath) -> KvRead {
        KvRead { kind, path }
    }

    pub(crate) fn kind(&self) -> ReadKind {
        self.kind
    }

    pub(crate) fn path(&self) -> &SecretPath {
        &self.path
    }

    pub(crate) fn method(&self) -> &'static str {
        match self.kind {
            ReadKind::Data | ReadKind::Metadata => "GET",
            ReadKind::Folder => "LIST",
        }
    }

    /// The target at the backend. It lies below `/v1/{kv}/data/` or `/v1/{kv}/metadata/`, whatever
    /// the path holds: a [`SecretPath`] has no segment that leads out of them.
    pub(crate) fn target(&self, kv: &str) -> String {
        let path = &self.path;
        match self.kind {
            ReadKind::Data => format!("/v1/{kv}/data/{path}"),
            ReadKind::Metadata => format!("/v1/{kv}/metadata/{path}"),
            ReadKind::Folder if path.is_root() => format!("/v1/{kv}/metadata/"),
            ReadKind::Folder => format!("/v1/{kv}/metadata/{path}/"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_method_and_its_place() {
        let path = SecretPath::parse("app/a@b").unwrap();
        let asked = |kind, path: &SecretPath| {
            let read = KvRead::new(kind, path.clone());
            format!("{} {}", read.method(), read.target("team/kv"))
        };
        assert_eq!(
            asked(ReadKind::Data, &path),
            "GET /v1/team/kv/data/app/a%40b"
        );
        assert_eq!(
            asked(ReadKind::Metadata, &path),
            "GET /v1/team/kv/metadata/app/a%40b"
        );
        assert_eq!(
            asked(ReadKind::Folder, &path),
            "LIST /v1/team/kv/metadata/app/a%40b/"
        );
        assert_eq!(
            asked(ReadKind::Folder, &SecretPath::ROOT),
            "LIST /v1/team/kv/metadata/"
        );
    }
}
