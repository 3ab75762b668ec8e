//! A clock that stands before this version was made is wrong beyond doubt: a board without a
//! battery wakes in 1970, a snapshot in its own past.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::now::Now;

/// Unix seconds of 2026-01-01T00:00:00Z. No later than the date of this version. At a release it
/// is set to the date in the changelog; a test compares the two.
const RELEASE: u64 = 1_767_225_600;

/// The clock stands before this version's release. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the system clock says {now}, but this version was made after {release}. With such a clock \
     every honest request would be refused. Set it (timedatectl, chronyc makestep), then start again"
)]
pub struct BeforeRelease {
    now: String,
    release: String,
}

/// Refuses a clock that cannot be right. Fails closed: a gateway must not start on it.
///
/// # Errors
///
/// [`BeforeRelease`].
pub fn check_after_release(now: Now) -> Result<(), BeforeRelease> {
    if now.unix_seconds() >= RELEASE {
        return Ok(());
    }
    Err(BeforeRelease {
        now: date(now.unix_seconds()),
        release: date(RELEASE),
    })
}

fn date(unix_seconds: u64) -> String {
    i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{unix_seconds} s after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn check(unix_seconds: u64) -> Result<(), BeforeRelease> {
        check_after_release(Clock::manual(unix_seconds * 1000).0.now())
    }

    #[test]
    fn a_clock_at_the_release_or_after_it_will_do() {
        assert_eq!(check(RELEASE), Ok(()));
        assert_eq!(check(RELEASE + 1_000_000_000), Ok(()));
    }

    #[test]
    fn a_clock_before_the_release_will_not() {
        assert!(check(RELEASE - 1).is_err());
        assert!(check(0).is_err());
    }

    #[test]
    fn the_operator_reads_both_dates_and_what_to_do() {
        let text = check(12).err().map(|error| error.to_string());
        let text = text.unwrap_or_default();
        for words in [
            "1970-01-01T00:00:12Z",
            &date(RELEASE),
            "timedatectl",
            "start again",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn the_clock_of_whoever_runs_this_will_do() {
        assert_eq!(check_after_release(Clock::system().now()), Ok(()));
    }

    /// Headings of releases read `## [0.1.0] - 2026-12-01`, the latest first.
    #[test]
    fn the_date_is_that_of_the_latest_release_in_the_changelog() {
        let latest = include_str!("../../../../CHANGELOG.md")
            .lines()
            .filter(|line| line.starts_with("## ["))
            .find_map(|line| line.split_once("] - "));
        if let Some((_, day)) = latest {
            assert_eq!(date(RELEASE), format!("{}T00:00:00Z", day.trim()));
        }
    }
}
