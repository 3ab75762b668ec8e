//! The queries of the two calls that take one. A query is signed with its path.

use countersign_client::quoted::quoted;
use countersign_core::identity::MachineId;

/// Machines of a page, where the query does not say.
const DEFAULT_LIMIT: u32 = 100;

/// Most machines of a page: some megabytes at the longest entries.
pub const MAX_LIMIT: u32 = 1000;

/// Longest text to search for, in bytes: the longest id or name.
const MAX_TEXT: usize = 128;

/// The page of machines that a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachinesQuery {
    /// The page begins after this id.
    pub after: Option<MachineId>,
    /// Most machines of the page.
    pub limit: u32,
    /// Only machines whose entry has this text.
    pub text: Option<String>,
}

impl Default for MachinesQuery {
    fn default() -> MachinesQuery {
        MachinesQuery {
            after: None,
            limit: DEFAULT_LIMIT,
            text: None,
        }
    }
}

impl MachinesQuery {
    /// The names of its parameters.
    pub const PARAMETERS: [&'static str; 3] = ["after", "limit", "text"];

    /// Reads the query behind the `?`.
    ///
    /// # Errors
    ///
    /// Every mistake.
    pub fn parse(query: Option<&str>) -> Result<MachinesQuery, Vec<String>> {
        let mut read = MachinesQuery::default();
        let [after, limit, text] = parameters(query, Self::PARAMETERS)?;
        let mut mistakes = Vec::new();
        if let Some(after) = after {
            read.after = MachineId::parse(&after);
            if read.after.is_none() {
                mistakes.push(format!("after: {} is no machine id.", quoted(&after)));
            }
        }
        if let Some(limit) = limit {
            match limit.parse::<u32>() {
                Ok(number) if is_plain(&limit) && (1..=MAX_LIMIT).contains(&number) => {
                    read.limit = number;
                }
                _ => mistakes.push(format!("limit: it must be between 1 and {MAX_LIMIT}.")),
            }
        }
        if let Some(text) = text {
            match text.len() {
                // No entry has one, and PostgreSQL takes no text with a NUL.
                1..=MAX_TEXT if text.contains(char::is_control) => {
                    mistakes.push("text: it must have no control characters.".to_owned());
                }
                1..=MAX_TEXT => read.text = Some(text),
                _ => mistakes.push(format!("text: it must have 1 to {MAX_TEXT} bytes.")),
            }
        }
        match mistakes.is_empty() {
            true => Ok(read),
            false => Err(mistakes),
        }
    }
}

/// The changes that a call asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangesQuery {
    /// Changes after this revision.
    pub after: u64,
}

impl ChangesQuery {
    /// The names of its parameters.
    pub const PARAMETERS: [&'static str; 1] = ["after"];

    /// Reads the query behind the `?`.
    ///
    /// # Errors
    ///
    /// Every mistake.
    pub fn parse(query: Option<&str>) -> Result<ChangesQuery, Vec<String>> {
        let [after] = parameters(query, Self::PARAMETERS)?;
        let Some(after) = after else {
            return Ok(ChangesQuery::default());
        };
        match after.parse::<u64>() {
            // The databases count to the greatest signed number.
            Ok(number) if is_plain(&after) && i64::try_from(number).is_ok() => {
                Ok(ChangesQuery { after: number })
            }
            _ => Err(vec!["after: it must be the number of a revision.".into()]),
        }
    }
}

/// Refuses a query where the call takes none.
///
/// # Errors
///
/// That there is one.
pub fn none(query: Option<&str>) -> Result<(), Vec<String>> {
    match query {
        None => Ok(()),
        Some(_) => Err(vec![
            "This call takes no query: send the path without '?'.".into(),
        ]),
    }
}

/// A number in one spelling: `parse` takes a sign and leading zeros.
fn is_plain(number: &str) -> bool {
    number.bytes().all(|byte| byte.is_ascii_digit()) && (number == "0" || !number.starts_with('0'))
}

/// The values of the named parameters, decoded as HTML forms encode them.
fn parameters<const N: usize>(
    query: Option<&str>,
    names: [&'static str; N],
) -> Result<[Option<String>; N], Vec<String>> {
    let mut values = [const { None }; N];
    let mut mistakes = Vec::new();
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    for (name, value) in pairs {
        let Some(at) = names.iter().position(|known| *known == name) else {
            mistakes.push(format!(
                "{} is no parameter of this call; it takes: {}.",
                quoted(&name),
                names.join(", ")
            ));
            continue;
        };
        if values[at].is_some() {
            mistakes.push(format!("{name}: it is there twice."));
        }
        // What the decoder puts in place of bytes that are no UTF-8.
        if value.contains('\u{fffd}') {
            mistakes.push(format!("{name}: it is not UTF-8."));
        }
        values[at] = Some(value.into_owned());
    }
    match mistakes.is_empty() {
        true => Ok(values),
        false => Err(mistakes),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn machines(query: &str) -> Result<MachinesQuery, Vec<String>> {
        MachinesQuery::parse(Some(query))
    }

    #[test]
    fn without_a_query_the_first_page_is_asked_for() {
        assert_eq!(MachinesQuery::parse(None), Ok(MachinesQuery::default()));
        assert_eq!(machines(""), Ok(MachinesQuery::default()));
        assert_eq!(ChangesQuery::parse(None), Ok(ChangesQuery { after: 0 }));
    }

    #[test]
    fn every_parameter_is_read_in_any_order() {
        let read = machines("text=prod&limit=5&after=web-1").unwrap();
        assert_eq!(read.after.unwrap().as_str(), "web-1");
        assert_eq!((read.limit, read.text.as_deref()), (5, Some("prod")));
    }

    #[test]
    fn a_text_is_decoded_as_forms_encode_it() {
        for (query, text) in [
            ("text=a+b", "a b"),
            ("text=a%20b", "a b"),
            ("text=a%2Bb", "a+b"),
            ("text=%C3%A9", "é"),
            ("text=a%26limit%3D1", "a&limit=1"),
        ] {
            assert_eq!(machines(query).unwrap().text.as_deref(), Some(text));
        }
    }

    #[test]
    fn a_limit_is_a_plain_number_within_its_bounds() {
        for limit in ["1", "1000"] {
            assert!(machines(&format!("limit={limit}")).is_ok(), "{limit}");
        }
        for limit in [
            "",
            "0",
            "1001",
            "-1",
            "+1",
            "01",
            "1.0",
            "1e2",
            " 1",
            "99999999999",
        ] {
            let told = machines(&format!("limit={limit}")).unwrap_err();
            assert_eq!(told, ["limit: it must be between 1 and 1000."], "{limit}");
        }
    }

    #[test]
    fn an_after_that_is_no_id_is_a_mistake() {
        for after in ["", "a/b", "a%20b", "%00"] {
            assert!(machines(&format!("after={after}")).is_err(), "{after}");
        }
    }

    #[test]
    fn a_text_has_a_bound() {
        assert!(machines(&format!("text={}", "a".repeat(128))).is_ok());
        assert!(machines(&format!("text={}", "a".repeat(129))).is_err());
        assert!(machines("text=").is_err());
    }

    #[test]
    fn a_text_has_no_control_characters() {
        for text in ["%00", "web%00", "a%0Ab", "%1F", "%7F", "%C2%85"] {
            let told = machines(&format!("text={text}")).unwrap_err();
            assert_eq!(
                told,
                ["text: it must have no control characters."],
                "{text}"
            );
        }
    }

    #[test]
    fn an_unknown_or_repeated_parameter_is_a_mistake() {
        for query in ["offset=1", "Limit=1", "limit=1&limit=1", "after=a&&x", "x"] {
            assert!(machines(query).is_err(), "{query}");
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let told = machines("limit=0&after=a/b").unwrap_err();
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn bytes_that_are_no_text_are_a_mistake() {
        assert_eq!(
            machines("text=%FF").unwrap_err(),
            ["text: it is not UTF-8."]
        );
    }

    #[test]
    fn changes_are_asked_for_after_a_revision() {
        let parse = |query| ChangesQuery::parse(Some(query));
        assert_eq!(parse("after=41"), Ok(ChangesQuery { after: 41 }));
        for query in [
            "after=",
            "after=-1",
            "after=x",
            "after=9223372036854775808",
            "limit=1",
        ] {
            assert!(parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_call_without_parameters_takes_no_query() {
        assert_eq!(none(None), Ok(()));
        assert!(none(Some("")).is_err());
    }
}
