//! Adopted tables: shops that keep their lock columns, and have softlock do what their beat task did. Unlike
//! locks they are read and written by SQL, as the owner of each table.

mod failure;
mod registry;
mod statement;
mod sweep;

use pgrx::pg_sys::Oid;

use crate::text::Text;

pub use failure::{end as note_end, note as note_failure};
pub use registry::{
    Column, Table, all, column, is_indexed, key_column, note_recovery, put, remove, table,
};
pub use sweep::{Report, sweep_once};

/// What a table's owner has said about it.
pub struct Declaration {
    pub expires: Text,
    /// The other columns to be cleared.
    pub clears: Vec<Text>,
    /// As `pg::condition` writes it.
    pub condition: Option<Text>,
    pub label: Option<Text>,
    /// Of an expiry without time zone.
    pub time_zone: Option<Text>,
}

/// A table that is to be swept.
pub struct Adopted {
    pub relation: Oid,
    /// As SQL has it, with its schema.
    pub name: Text,
    /// Its last sweep failed, and the log has been told.
    pub is_failing: bool,
}

/// What the table is called in its condition, as it is kept, and in the statement that sweeps it.
pub const ALIAS: &std::ffi::CStr = c"adopted";
