//! Instants in entries.

use crate::config::instant;
use crate::yaml::{Field, Table};

/// The instant under `key`, in Unix seconds; `None` where the key is absent, or with a mistake.
pub(super) fn instant(table: &mut Table<'_>, key: &'static str) -> Option<u64> {
    at(&table.field(key)?)
}

/// The instant here, in Unix seconds.
pub(super) fn at(field: &Field<'_>) -> Option<u64> {
    field.parse_text(|text| {
        instant::to_unix_seconds(text).ok_or_else(|| format!("must be {}", instant::EXPECTED))
    })
}
