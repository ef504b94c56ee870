//! Adopted tables, as SQL calls them.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::require_writable;
use crate::error::Error;
use crate::names;
use crate::pg::{Answer, RawArray, RawText};
use crate::text::Text;
use crate::verbs::adopt::{self, Wish};

/// A condition has at most so many bytes.
const MAX_CONDITION: usize = 8192;
/// A table has at most so many columns.
const MAX_COLUMNS: usize = 1600;

/// Has the sweeps clear the lapsed holds in a table's own lock columns: each sets `expires_column` and those
/// of `clears` to NULL where the expiry is at or before `clock_timestamp()` and the condition holds.
///
/// * `relation`: a table, partitioned or not, of the caller's
/// * `expires_column`: of type timestamp with or without time zone; without, it is read in the time zone
///   that the session has now
/// * `clears`: the other columns to be set to NULL; they and the expiry must allow it
/// * `condition`: an expression about a row, without volatile functions; NULL for all rows
/// * `label`: the column that names a row in answers and in the log; NULL means the primary key, where that
///   is one column
///
/// Answers `{"adopted": true, "outcome": "adopted" | "changed", "table", "expires_column", "clears",
/// "condition", "label", "time_zone", "indexed"}`. Errors: 22004, 22021, 22023 and 54000 for bad arguments
/// and conditions, 42P01, 42809, 42703, 42804, 42501 and 55000 for tables and columns that won't do, 25006 in
/// a read-only transaction or on a standby. A NOTICE says when no index helps.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock_adopt(
    "relation" regclass, "expires_column" text, "clears" text[] DEFAULT '{}', "condition" text DEFAULT NULL, "label" text DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn softlock_adopt_v2(
    relation: Option<pg_sys::Oid>,
    expires_column: Option<RawText>,
    clears: Option<RawArray<RawText>>,
    condition: Option<RawText>,
    label: Option<RawText>,
) -> Answer {
    Answer::of(move || {
        let null = |argument| Error::Null { argument };
        let relation = relation.ok_or(null("relation"))?;
        let expires = column(
            "expires_column",
            expires_column.ok_or(null("expires_column"))?,
        )?;
        let clears = clears.ok_or(null("clears"))?;
        let (given, max) = (clears.len(), MAX_COLUMNS);
        if given > max {
            return Err(Error::TooManyElements {
                argument: "clears",
                given,
                max,
            });
        }
        let clears = clears
            .elements()
            .into_iter()
            .map(|element| column("clears", element.ok_or(null("clears"))?))
            .collect::<Result<_, _>>()?;
        let condition = condition
            .map(|text| names::bounded("condition", &text, MAX_CONDITION))
            .transpose()?;
        let label = label.map(|text| column("label", text)).transpose()?;
        require_writable("softlock_adopt")?;
        adopt::adopt(
            relation,
            Wish {
                expires,
                clears,
                condition,
                label,
            },
        )
    })
}

/// Leaves a table's own columns alone again.
///
/// Answers `{"disowned": true | false, "table"}`: false where it was not adopted. Errors: 22004, 42P01,
/// 42501, 25006.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock_disown(
    "relation" regclass
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn softlock_disown_v2(relation: Option<pg_sys::Oid>) -> Answer {
    Answer::of(move || {
        let relation = relation.ok_or(Error::Null {
            argument: "relation",
        })?;
        require_writable("softlock_disown")?;
        adopt::disown(relation)
    })
}

/// The name of a column, as the catalogs have it: not quoted, and not folded.
fn column(argument: &'static str, name: RawText) -> Result<Text, Error> {
    names::bounded(argument, &name, 63)
}
