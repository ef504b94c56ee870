//! What is written down about adopted tables, and what the catalogs say of them: all of the SQL that runs
//! as the extension's owner.

use std::ffi::CStr;

use pgrx::pg_sys::Oid;

use super::{Adopted, Declaration};
use crate::error::Error;
use crate::pg::spi::{self, Parameter, Row};
use crate::pg::{self, relations, sandbox};
use crate::text::Text;

/// softlock's own list.
const LIST: &CStr = c"adopted";

/// Runs a statement as the owner of the list.
fn run(statement: &str, parameters: &[Parameter]) -> Result<Vec<Row>, Error> {
    let (_, owner) = relations::named(LIST).ok_or(Error::NotInstalled)?;
    Ok(sandbox::run_as(owner, || {
        spi::run(statement.as_bytes(), parameters)
    }))
}

/// A relation as the catalogs have it.
pub struct Table {
    pub name: Text,
    pub owner: Oid,
    pub is_table: bool,
    pub is_temporary: bool,
    pub is_catalog: bool,
    /// It, or a part of it, is elsewhere.
    pub is_foreign: bool,
}

pub fn table(relation: Oid) -> Result<Option<Table>, Error> {
    const LOOK: &str = "
        WITH RECURSIVE tree (oid) AS (
            SELECT $1 UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON i.inhparent = tree.oid
        )
        SELECT c.oid::regclass::text, c.relowner, c.relkind IN ('r', 'p'), c.relpersistence = 't',
               c.oid < 16384 OR n.nspname = 'information_schema',
               EXISTS (SELECT FROM pg_class AS part JOIN tree ON part.oid = tree.oid WHERE part.relkind = 'f')
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = $1";
    let rows = run(LOOK, &[Parameter::Oid(relation)])?;
    Ok(rows.first().map(|row| Table {
        name: text(row, 0),
        owner: row.oid(1),
        is_table: row.is_true(2),
        is_temporary: row.is_true(3),
        is_catalog: row.is_true(4),
        is_foreign: row.is_true(5),
    }))
}

/// A column as the catalogs have it.
pub struct Column {
    /// Of a domain, what it is based on.
    pub base_type: Oid,
    pub type_name: Text,
    pub is_generated: bool,
    /// In the table, a part of it, or by its type.
    pub is_not_null: bool,
}

pub fn column(relation: Oid, name: &Text) -> Result<Option<Column>, Error> {
    const LOOK: &str = "
        WITH RECURSIVE its AS (
            SELECT * FROM pg_attribute WHERE attrelid = $1 AND attname = $2 AND attnum > 0 AND NOT attisdropped
        ), tree (oid) AS (
            SELECT $1 UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON i.inhparent = tree.oid
        ), type (oid, base, not_null) AS (
            SELECT t.oid, t.typbasetype, t.typnotnull FROM pg_type AS t JOIN its ON its.atttypid = t.oid
            UNION
            SELECT t.oid, t.typbasetype, t.typnotnull FROM pg_type AS t JOIN type ON type.base = t.oid
        )
        SELECT (SELECT oid FROM type WHERE base = 0), format_type(its.atttypid, its.atttypmod),
               its.attgenerated <> '' OR its.attidentity <> '',
               EXISTS (SELECT FROM type WHERE not_null)
               OR EXISTS (SELECT FROM pg_attribute AS part JOIN tree ON tree.oid = part.attrelid
                          WHERE part.attname = its.attname AND part.attnotnull)
        FROM its";
    let rows = run(
        LOOK,
        &[Parameter::Oid(relation), Parameter::Text(Some(name))],
    )?;
    Ok(rows.first().map(|row| Column {
        base_type: row.oid(0),
        type_name: text(row, 1),
        is_generated: row.is_true(2),
        is_not_null: row.is_true(3),
    }))
}

/// Whether an index finds the oldest values of a column.
pub fn is_indexed(relation: Oid, column: &Text) -> Result<bool, Error> {
    const LOOK: &str = "
        SELECT EXISTS (
            SELECT FROM pg_index AS i
            JOIN pg_class AS c ON c.oid = i.indexrelid
            JOIN pg_am AS m ON m.oid = c.relam AND m.amname = 'btree'
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = $1 AND i.indisvalid AND a.attname = $2)";
    let rows = run(
        LOOK,
        &[Parameter::Oid(relation), Parameter::Text(Some(column))],
    )?;
    Ok(rows.first().is_some_and(|row| row.is_true(0)))
}

/// The column that is the table's primary key, if it is one.
pub fn key_column(relation: Oid) -> Result<Option<Text>, Error> {
    const LOOK: &str = "
        SELECT a.attname::text FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = $1 AND i.indisprimary AND i.indnkeyatts = 1";
    let rows = run(LOOK, &[Parameter::Oid(relation)])?;
    Ok(rows.first().and_then(|row| row.text(0).cloned()))
}

/// Writes down that a role has adopted a table, or has it changed. Answers whether it is new.
pub fn put(relation: Oid, declaration: &Declaration, by: Oid) -> Result<bool, Error> {
    // The list's own trigger notes on INSERT who writes, and that is the extension's owner here.
    const ADD: &str = "
        INSERT INTO softlock.adopted (relation, expires_column, clears, row_type, adopted_by, adopted_at)
        VALUES ($1::regclass, '', '{}', 0, 0, clock_timestamp())
        ON CONFLICT (relation) DO NOTHING RETURNING true";
    const SET: &str = "
        UPDATE softlock.adopted
        SET expires_column = $2, clears = $3, condition = $4, label = $5, time_zone = $6, adopted_by = $7,
            row_type = (SELECT reltype FROM pg_class WHERE oid = $1), adopted_at = clock_timestamp(),
            failed_at = NULL, last_error = NULL
        WHERE relation = $1::regclass";
    let is_new = !run(ADD, &[Parameter::Oid(relation)])?.is_empty();
    let Declaration {
        expires,
        clears,
        condition,
        label,
        time_zone,
    } = declaration;
    let parameters = [
        Parameter::Oid(relation),
        Parameter::Text(Some(expires)),
        Parameter::Texts(clears),
        Parameter::Text(condition.as_ref()),
        Parameter::Text(label.as_ref()),
        Parameter::Text(time_zone.as_ref()),
        Parameter::Oid(by),
    ];
    run(SET, &parameters)?;
    Ok(is_new)
}

/// Forgets a table. Answers whether it was adopted.
pub fn remove(relation: Oid) -> Result<bool, Error> {
    const REMOVE: &str =
        "DELETE FROM softlock.adopted WHERE relation = $1::regclass RETURNING true";
    Ok(!run(REMOVE, &[Parameter::Oid(relation)])?.is_empty())
}

/// The adopted tables, those that fail last. Those that are gone are forgotten. Waits for nobody: none
/// while somebody has the list to himself, nor where the schema is an older one.
pub fn all() -> Result<Vec<Adopted>, Error> {
    const FORGET: &str = "
        DELETE FROM softlock.adopted WHERE relation IN (
            SELECT a.relation FROM softlock.adopted AS a
            WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = a.relation AND c.reltype = a.row_type)
            FOR UPDATE SKIP LOCKED)";
    const ALL: &str = "
        SELECT a.relation::oid, a.relation::text, a.failed_at IS NOT NULL FROM softlock.adopted AS a
        ORDER BY a.failed_at NULLS FIRST, a.relation";
    let Some((list, _)) = relations::named(LIST) else {
        return Ok(Vec::new());
    };
    if relations::try_lock_for_writing(list).is_err() {
        return Ok(Vec::new());
    }
    run(FORGET, &[])?;
    let adopted = |row: &Row| Adopted {
        relation: row.oid(0),
        name: text(row, 1),
        is_failing: row.is_true(2),
    };
    Ok(run(ALL, &[])?.iter().map(adopted).collect())
}

/// What the sweep of a table needs to know; names and columns as SQL has them.
pub struct Plan {
    pub name: Text,
    pub owner: Oid,
    pub adopted_by: Oid,
    /// Of the expiry; none where there is no such column any more.
    pub expires_type: Oid,
    pub expires_column: Text,
    pub expires: Text,
    /// `column = NULL, …`
    pub cleared: Text,
    pub condition: Option<Text>,
    pub label: Option<Text>,
    pub time_zone: Option<Text>,
    /// It is partitioned, or inherited from.
    pub has_parts: bool,
    /// The constraints that can be deferred, and of them those that are.
    pub deferrable: Option<Text>,
    pub deferred: Option<Text>,
}

/// How to sweep a table; `None` where it is not adopted, or gone.
pub fn plan(relation: Oid) -> Result<Option<Plan>, Error> {
    const LOOK: &str = "
        SELECT format('%I.%I', n.nspname, c.relname), c.relowner, a.adopted_by, a.expires_column,
               format('adopted.%I', a.expires_column),
               (SELECT string_agg(DISTINCT format('%I = NULL', cleared), ', ')
                FROM unnest(a.clears || a.expires_column) AS cleared),
               a.condition, 'adopted.' || quote_ident(a.label), a.time_zone,
               (SELECT e.atttypid FROM pg_attribute AS e
                WHERE e.attrelid = c.oid AND e.attname = a.expires_column AND NOT e.attisdropped),
               EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid), k.deferrable, k.deferred
        FROM softlock.adopted AS a
        JOIN pg_class AS c ON c.oid = a.relation AND c.reltype = a.row_type
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (
            SELECT string_agg(format('%I.%I', s.nspname, k.conname), ', ') AS deferrable,
                   string_agg(format('%I.%I', s.nspname, k.conname), ', ') FILTER (WHERE k.condeferred) AS deferred
            FROM pg_constraint AS k JOIN pg_namespace AS s ON s.oid = k.connamespace
            WHERE c.oid IN (k.conrelid, k.confrelid) AND k.condeferrable AND has_schema_privilege($2, s.oid, 'USAGE')
        ) AS k
        WHERE a.relation = $1::regclass";
    let role = pg::current_role();
    let rows = run(LOOK, &[Parameter::Oid(relation), Parameter::Oid(role)])?;
    Ok(rows.first().map(|row| Plan {
        name: text(row, 0),
        owner: row.oid(1),
        adopted_by: row.oid(2),
        expires_column: text(row, 3),
        expires: text(row, 4),
        cleared: text(row, 5),
        condition: row.text(6).cloned(),
        label: row.text(7).cloned(),
        time_zone: row.text(8).cloned(),
        expires_type: row.oid(9),
        has_parts: row.is_true(10),
        deferrable: row.text(11).cloned(),
        deferred: row.text(12).cloned(),
    }))
}

/// Notes that a table could not be swept. Answers whether that begins a streak; not where somebody is
/// changing the adoption.
pub fn note_failure(relation: Oid, said: &Text) -> Result<bool, Error> {
    const NOTE: &str = "
        UPDATE softlock.adopted SET failed_at = clock_timestamp(), last_error = $2
        WHERE relation IN (SELECT relation FROM softlock.adopted
                           WHERE relation = $1::regclass AND failed_at IS NULL FOR UPDATE SKIP LOCKED)
        RETURNING true";
    let parameters = [Parameter::Oid(relation), Parameter::Text(Some(said))];
    Ok(!run(NOTE, &parameters)?.is_empty())
}

/// Notes that a table that could not be swept has been. Answers whether that ends a streak.
pub fn note_recovery(relation: Oid) -> Result<bool, Error> {
    const NOTE: &str = "
        UPDATE softlock.adopted SET failed_at = NULL, last_error = NULL
        WHERE relation IN (SELECT relation FROM softlock.adopted
                           WHERE relation = $1::regclass AND failed_at IS NOT NULL FOR UPDATE SKIP LOCKED)
        RETURNING true";
    Ok(!run(NOTE, &[Parameter::Oid(relation)])?.is_empty())
}

fn text(row: &Row, at: usize) -> Text {
    row.text(at).cloned().unwrap_or_else(|| Text::from(""))
}
