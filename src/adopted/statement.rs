//! The statement that sweeps a table.

use super::registry::Plan;
use crate::text::{Text, text};

/// A batch of a sweep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// How many rows at most: written out, as the plan depends on it.
    pub max_rows: i32,
    /// Whether it begins where an earlier one has ended.
    pub goes_on: bool,
    /// Whether any of its rows are to be named.
    pub is_naming: bool,
}

/// Clears a batch of lapsed rows, oldest first, without those that others have locked. Parameters: `$1` up
/// to when, `$2` from when on, where it goes on, `$3` how many of the rows to name, `$4` the zone of an expiry
/// without one.
///
/// Answers at least one row, each with the number of rows that are free, of those that were looked at, the
/// last expiry of these, and, where rows are to be named, the expiry and the label of one that is free. A
/// trigger of the table's may have kept some.
///
/// Rows are found again by their place. One that has changed since the statement began is locked as it is
/// now, where the statement does not see it, or it is locked by somebody else: the next sweep's.
pub fn sweep(plan: &Plan, condition: Option<&Text>, batch: Batch) -> Vec<u8> {
    let expires = &plan.expires;
    // Without parts that it may get meanwhile: a place in one of them would be taken for one of its own.
    let table = match plan.has_parts {
        true => text![plan.name],
        false => text!["ONLY ", plan.name],
    };
    let (kind, until, at) = match plan.time_zone {
        None => ("timestamptz", "$1", text![expires, "::timestamptz"]),
        Some(_) => (
            "timestamp",
            "timezone($4, $1)",
            text!["timezone($4, ", expires, "::timestamp)"],
        ),
    };
    let named = match (&plan.label, batch.is_naming) {
        // However long it is: this is to be read by people.
        (Some(label), true) => text![", ", at, " AS at, left(", label, "::text, 1024) AS label"],
        (None, true) => text![", ", at, " AS at, NULL::text AS label"],
        (_, false) => Vec::new(),
    };
    let condition = match condition {
        Some(condition) => text![" AND (", condition, ")"],
        None => Vec::new(),
    };
    let lapsed = text![
        "SELECT adopted.tableoid AS part, adopted.ctid AS place, ",
        text![expires, "::", kind, " AS expired", named],
        text![" FROM ", table, " AS adopted"],
        text![" WHERE ", expires, " <= ", until],
        match batch.goes_on {
            true => text![" AND ", expires, " >= $2"],
            false => Vec::new(),
        },
        condition,
        text![" ORDER BY ", expires, " LIMIT ", batch.max_rows.to_string()],
        " FOR UPDATE SKIP LOCKED"
    ];
    let update = text!["UPDATE ", table, " AS adopted SET ", plan.cleared];
    let returning = text![" RETURNING ", expires, " IS NULL AS is_free"];
    let freed = "(SELECT count(*) FROM freed WHERE is_free)";
    match batch.is_naming {
        true => text![
            text![
                "WITH lapsed AS MATERIALIZED (",
                lapsed,
                "), freed AS (",
                update
            ],
            " FROM lapsed WHERE adopted.ctid = lapsed.place AND adopted.tableoid = lapsed.part",
            text![
                returning,
                ", lapsed.expired, lapsed.at, lapsed.label) SELECT "
            ],
            text![freed, ", seen.count, seen.max, named.at, named.label"],
            " FROM (SELECT count(*), max(expired) FROM lapsed) AS seen \
             LEFT JOIN (SELECT * FROM freed WHERE is_free ORDER BY expired LIMIT $3) AS named ON true \
             ORDER BY named.expired"
        ],
        // With the places in an array the server never reads the whole table, however many they are.
        false => text![
            text![
                "WITH lapsed AS MATERIALIZED (SELECT count(*), max(expired), array_agg(place) AS places",
                match plan.has_parts {
                    true => ", array_agg(part) AS parts",
                    false => "",
                },
                " FROM (",
                lapsed
            ],
            text![") AS lapsed), freed AS (", update],
            " WHERE adopted.ctid = ANY ((SELECT places FROM lapsed)::tid[])",
            match plan.has_parts {
                true =>
                    " AND (adopted.tableoid, adopted.ctid) IN \
                     (SELECT there.* FROM lapsed, unnest(lapsed.parts, lapsed.places) AS there)",
                false => "",
            },
            text![returning, ") SELECT ", freed, ", count, max FROM lapsed"]
        ],
    }
}
