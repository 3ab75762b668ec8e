//! What is wrong with a registry file, all of it at once, told to the person who can mend it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Everything found wrong with one registry file. None of the file takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: PathBuf,
    list: Vec<Mistake>,
    omitted: usize,
    may_pass: bool,
}

/// One thing that is wrong. It never quotes a value under a key: somebody may have pasted a private
/// key there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line in the file, counted from 1, where it is known.
    pub line: Option<usize>,
    /// The machine or group, by its id or, where it has none, by its position: `"web-1"`, `machine no. 3`.
    pub entry: Option<String>,
    /// The key, as written in the file: `public_keys[1]`.
    pub key: Option<String>,
    /// The fault and the next step, in words.
    pub text: String,
}

impl Mistakes {
    /// Most mistakes listed. Who has a thousand has made one of them a thousand times; the rest is
    /// counted, not kept.
    pub const MAX_LISTED: usize = 100;

    pub(super) fn none_yet(file: &Path) -> Mistakes {
        Mistakes {
            file: file.to_owned(),
            list: Vec::new(),
            omitted: 0,
            may_pass: false,
        }
    }

    /// The one mistake that leaves nothing else to look at.
    pub(super) fn only(file: &Path, line: Option<usize>, text: impl Into<String>) -> Mistakes {
        let mut mistakes = Mistakes::none_yet(file);
        mistakes.push(Mistake {
            line,
            entry: None,
            key: None,
            text: text.into(),
        });
        mistakes
    }

    /// The file could not be read; `may_pass` as in [`crate::file::FileFault::may_pass`].
    pub(super) fn of_reading(file: &Path, text: String, may_pass: bool) -> Mistakes {
        Mistakes {
            may_pass,
            ..Mistakes::only(file, None, text)
        }
    }

    /// Whether the file could not be read, so that nothing is known of its content: another attempt may succeed.
    pub fn may_pass(&self) -> bool {
        self.may_pass
    }

    pub(super) fn push(&mut self, mistake: Mistake) {
        if self.list.len() < Self::MAX_LISTED {
            self.list.push(mistake);
        } else {
            self.omitted += 1;
        }
    }

    /// Those without a line come first: they are about the file.
    pub(super) fn sort_by_line(&mut self) {
        self.list.sort_by_key(|mistake| mistake.line);
    }

    /// The file they are in.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The first [`Mistakes::MAX_LISTED`] of them.
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// How many there are, also those that are not listed.
    pub fn count(&self) -> usize {
        self.list.len() + self.omitted
    }
}

/// One line a mistake: `machines.yaml:12: "web-1": public_keys[0]: what is wrong; what to do`.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(line) = mistake.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {mistake}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n{}: and {} more", self.file.display(), self.omitted)?;
        }
        Ok(())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in [&self.entry, &self.key].into_iter().flatten() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.text)
    }
}

impl std::error::Error for Mistakes {}

/// A name from the file, fit to be printed: escaped, so that it cannot forge a log line, and cut,
/// so that it cannot fill one.
pub(super) fn quoted(name: &str) -> String {
    const LONGEST: usize = 64;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}..", &name[..end]),
        None => format!("{name:?}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn mistake(text: &str) -> Mistake {
        Mistake {
            line: Some(7),
            entry: Some(quoted("web-1")),
            key: Some("public_keys[0]".into()),
            text: text.into(),
        }
    }

    #[test]
    fn a_mistake_is_one_line_with_file_line_machine_and_key() {
        let mut mistakes = Mistakes::none_yet(Path::new("m.yaml"));
        mistakes.push(mistake("it is a weak key"));
        assert_eq!(
            mistakes.to_string(),
            r#"m.yaml:7: "web-1": public_keys[0]: it is a weak key"#
        );
    }

    #[test]
    fn a_mistake_without_a_place_names_the_file_alone() {
        let mistakes = Mistakes::only(Path::new("m.yaml"), None, "the file is empty");
        assert_eq!(mistakes.to_string(), "m.yaml: the file is empty");
    }

    #[test]
    fn several_mistakes_are_as_many_lines() {
        let mut mistakes = Mistakes::none_yet(Path::new("m.yaml"));
        mistakes.push(mistake("a"));
        mistakes.push(mistake("b"));
        assert_eq!(mistakes.to_string().lines().count(), 2);
    }

    #[test]
    fn mistakes_over_the_limit_are_counted_and_not_kept() {
        let mut mistakes = Mistakes::none_yet(Path::new("m.yaml"));
        for _ in 0..Mistakes::MAX_LISTED + 5 {
            mistakes.push(mistake("a"));
        }
        assert_eq!(mistakes.list().len(), Mistakes::MAX_LISTED);
        assert_eq!(mistakes.count(), Mistakes::MAX_LISTED + 5);
        assert!(mistakes.to_string().ends_with("m.yaml: and 5 more"));
    }

    #[test]
    fn a_quoted_name_cannot_start_a_new_line() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
    }

    #[test]
    fn a_quoted_name_is_cut_on_a_character() {
        let long = "ü".repeat(100);
        assert_eq!(quoted(&long).chars().count(), 64 + 2 + 2);
    }
}
