//! Every mistake of a file, collected while it is read and reported together.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

/// Most mistakes listed for one file; further ones are only counted. A person does not fix more
/// line by line.
const MAX_LISTED: usize = 100;

/// One remark on a file: a mistake or a warning. Prints as
/// `countersign.yaml:12: routes[0].max_body: the mistake; the next step`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    /// The key's path, such as `routes[1].max_body` or `"web-1": public_keys[0]`; empty where the
    /// file as a whole is meant.
    pub key: String,
    /// The mistake and the next step. Never holds a credential or a key.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.text)
    }
}

/// Every mistake of a file, or of the files that are read together, in the order of their lines; at
/// least one, and at most a hundred listed. Prints one line each. Nothing of a file with a mistake
/// takes effect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// The mistakes listed.
    pub list: Vec<Finding>,
    /// How many more there are.
    pub unlisted: usize,
    /// A file could not be read, so another attempt may succeed: see
    /// [`FileFault::may_pass`](countersign_client::file::FileFault::may_pass).
    pub may_pass: bool,
}

impl Mistakes {
    /// A single mistake that leaves nothing else to look at.
    pub(crate) fn only(file: &Path, line: Option<usize>, text: impl Into<String>) -> Mistakes {
        let mistake = Finding {
            file: file.to_path_buf(),
            line,
            key: String::new(),
            text: text.into(),
        };
        Mistakes {
            list: vec![mistake],
            unlisted: 0,
            may_pass: false,
        }
    }

    /// The mistakes of several files; `None` if there are none.
    pub(crate) fn together(files: impl IntoIterator<Item = Mistakes>) -> Option<Mistakes> {
        let mut files = files.into_iter();
        let mut all = files.next()?;
        for more in files {
            all.list.extend(more.list);
            all.unlisted += more.unlisted + all.list.len().saturating_sub(MAX_LISTED);
            all.list.truncate(MAX_LISTED);
            all.may_pass |= more.may_pass;
        }
        Some(all)
    }

    /// The first file, as it was named.
    pub fn file(&self) -> &Path {
        self.list.first().map_or(Path::new(""), |first| &first.file)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        if self.unlisted > 0 {
            write!(f, "\nand {} more", self.unlisted)?;
        }
        Ok(())
    }
}

/// The mistakes and warnings found so far in one file.
pub(crate) struct Notes {
    file: PathBuf,
    mistakes: RefCell<Vec<Finding>>,
    unlisted: RefCell<usize>,
    warnings: RefCell<Vec<Finding>>,
    /// The first optional keys that the file leaves out: the reference file leaves out none.
    #[cfg(test)]
    absent: RefCell<Vec<String>>,
}

impl Notes {
    pub(crate) fn new(file: &Path) -> Notes {
        Notes {
            file: file.to_path_buf(),
            mistakes: RefCell::default(),
            unlisted: RefCell::default(),
            warnings: RefCell::default(),
            #[cfg(test)]
            absent: RefCell::default(),
        }
    }

    pub(crate) fn mistake(&self, line: Option<usize>, key: &str, text: impl Into<String>) {
        let mut mistakes = self.mistakes.borrow_mut();
        if mistakes.len() < MAX_LISTED {
            mistakes.push(self.finding(line, key, text.into()));
        } else {
            *self.unlisted.borrow_mut() += 1;
        }
    }

    pub(crate) fn warning(&self, line: Option<usize>, key: &str, text: impl Into<String>) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MAX_LISTED {
            warnings.push(self.finding(line, key, text.into()));
        }
    }

    /// Notes an optional key that the file leaves out.
    #[cfg(test)]
    pub(crate) fn absent(&self, path: String) {
        let mut absent = self.absent.borrow_mut();
        if absent.len() < 1000 {
            absent.push(path);
        }
    }

    /// The optional keys that the file leaves out.
    #[cfg(test)]
    pub(crate) fn absent_keys(&self) -> Vec<String> {
        self.absent.borrow().clone()
    }

    /// The value with the warnings if there was no mistake, else the mistakes: a value read
    /// beside a mistake never gets out.
    pub(crate) fn conclude<T>(self, value: Option<T>) -> Result<(T, Vec<Finding>), Mistakes> {
        let mut mistakes = self.mistakes.into_inner();
        match value {
            Some(value) if mistakes.is_empty() => Ok((value, self.warnings.into_inner())),
            _ if mistakes.is_empty() => Err(Mistakes::only(
                &self.file,
                None,
                "cannot be read, and the cause was not noted; please report this bug",
            )),
            _ => {
                mistakes.sort_by_key(|mistake| mistake.line);
                Err(Mistakes {
                    list: mistakes,
                    unlisted: self.unlisted.into_inner(),
                    may_pass: false,
                })
            }
        }
    }

    /// The value if none of the files has a mistake, else the mistakes of all.
    pub(crate) fn conclude_all<T>(files: Vec<Notes>, value: Option<T>) -> Result<T, Mistakes> {
        let first = files
            .first()
            .map_or(PathBuf::new(), |notes| notes.file.clone());
        let found = files.into_iter().map(|notes| notes.conclude(Some(())));
        let unexplained = || {
            Notes::new(&first)
                .conclude(None::<T>)
                .map(|(value, _)| value)
        };
        match Mistakes::together(found.filter_map(Result::err)) {
            Some(mistakes) => Err(mistakes),
            None => value.map_or_else(unexplained, Ok),
        }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    fn finding(&self, line: Option<usize>, key: &str, text: String) -> Finding {
        Finding {
            file: self.file.clone(),
            line,
            key: key.to_owned(),
            text,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn notes() -> Notes {
        Notes::new(Path::new("conf/x.yaml"))
    }

    #[test]
    fn a_finding_prints_its_file_line_key_and_text() {
        let notes = notes();
        notes.mistake(Some(12), "routes[0].max_body", "is odd");
        let mistakes = notes.conclude(Some(())).unwrap_err();
        assert_eq!(
            mistakes.to_string(),
            "conf/x.yaml:12: routes[0].max_body: is odd"
        );
    }

    #[test]
    fn a_finding_about_the_whole_file_prints_neither_line_nor_key() {
        let mistakes = Mistakes::only(Path::new("x.yaml"), None, "is empty");
        assert_eq!(mistakes.to_string(), "x.yaml: is empty");
    }

    #[test]
    fn mistakes_come_in_the_order_of_the_lines() {
        let notes = notes();
        notes.mistake(Some(9), "b", "second");
        notes.mistake(Some(2), "a", "first");
        let mistakes = notes.conclude(Some(())).unwrap_err();
        assert_eq!(mistakes.list[0].text, "first");
    }

    #[test]
    fn a_value_beside_a_mistake_does_not_get_out() {
        let notes = notes();
        notes.mistake(None, "a", "wrong");
        assert!(notes.conclude(Some(1)).is_err());
    }

    #[test]
    fn a_missing_value_is_refused_even_without_a_mistake() {
        assert!(notes().conclude(None::<()>).is_err());
    }

    #[test]
    fn the_mistakes_of_several_files_are_reported_together() {
        let files = ["a.yaml", "b.yaml"].map(|file| {
            let notes = Notes::new(Path::new(file));
            notes.mistake(Some(1), "", "wrong");
            notes
        });
        let told = Notes::conclude_all(files.into(), Some(())).unwrap_err();
        assert_eq!(told.to_string(), "a.yaml:1: wrong\nb.yaml:1: wrong");
    }

    #[test]
    fn of_several_files_no_more_mistakes_are_listed_than_of_one() {
        let files = ["a", "b", "c"].map(|file| {
            let notes = Notes::new(Path::new(file));
            (0..60).for_each(|line| notes.mistake(Some(line), "", "wrong"));
            notes
        });
        let told = Notes::conclude_all(files.into(), Some(())).unwrap_err();
        assert_eq!((told.list.len(), told.unlisted), (MAX_LISTED, 80));
    }

    #[test]
    fn mistakes_beyond_the_bound_are_counted() {
        let notes = notes();
        for line in 0..MAX_LISTED + 7 {
            notes.mistake(Some(line), "a", "wrong");
        }
        let mistakes = notes.conclude(Some(())).unwrap_err();
        assert_eq!(mistakes.list.len(), MAX_LISTED);
        assert!(mistakes.to_string().ends_with("and 7 more"));
    }
}
