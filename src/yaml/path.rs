//! The path of a value, as a message names it: `routes[0].max_body`, `"web-1": public_keys[0]`.

/// The place of a value in its file.
#[derive(Clone, Debug)]
pub(crate) struct KeyPath {
    text: String,
    /// Between this path and a key below it.
    separator: &'static str,
}

impl KeyPath {
    /// An entry of a list, by its own name; the document, where the name is empty.
    pub(crate) fn entry(name: String) -> KeyPath {
        KeyPath {
            separator: if name.is_empty() { "" } else { ": " },
            text: name,
        }
    }

    /// A key of the mapping here.
    pub(crate) fn key(&self, key: &str) -> KeyPath {
        KeyPath {
            text: [&self.text, self.separator, key].concat(),
            separator: ".",
        }
    }

    /// An item of the list here.
    pub(crate) fn item(&self, index: usize) -> KeyPath {
        KeyPath {
            text: format!("{}[{index}]", self.text),
            separator: ".",
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<KeyPath> for String {
    fn from(path: KeyPath) -> String {
        path.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_keys_items_and_entries() {
        let root = KeyPath::entry(String::new());
        assert_eq!(
            root.key("routes").item(0).key("path").as_str(),
            "routes[0].path"
        );
        let entry = KeyPath::entry("\"web-1\"".to_owned());
        let key = entry.key("public_keys").item(1).key("key");
        assert_eq!(key.as_str(), "\"web-1\": public_keys[1].key");
    }
}
