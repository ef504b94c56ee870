//! What can be wrong with a table that is to be swept, when it is adopted and later.

use super::Error;
use crate::pg::condition::Unfit;
use crate::text::{Text, text};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption {
    NoTable,
    /// A view, a foreign table, an index: what has no rows of its own to clear.
    NotTable {
        name: Text,
    },
    Temporary {
        name: Text,
    },
    Catalog {
        name: Text,
    },
    NotOwner {
        name: Text,
    },
    NoColumn {
        column: Text,
    },
    NotNull {
        column: Text,
    },
    Generated {
        column: Text,
    },
    NotTimestamp {
        column: Text,
        r#type: Text,
    },
    /// An expression that is none, or not about the table; with what the server says.
    Condition {
        said: Text,
    },
    ConditionNotAlone,
    ConditionVolatile,
    /// The table has passed to another owner, or the role has lost its privileges.
    NotEntitled,
    /// With or without time zone, other than when it was adopted.
    TypeChanged {
        column: Text,
    },
    /// Somebody has the table to himself.
    Locked,
    /// No error: each batch of a sweep reads the whole table.
    NoIndex {
        table: Text,
        column: Text,
    },
}

impl From<Adoption> for Error {
    fn from(adoption: Adoption) -> Error {
        Error::Adoption(adoption)
    }
}

impl Adoption {
    pub fn condition(unfit: Unfit) -> Error {
        Error::Adoption(match unfit {
            Unfit::Wrong(said) => Adoption::Condition { said },
            Unfit::NotAlone => Adoption::ConditionNotAlone,
            Unfit::Volatile => Adoption::ConditionVolatile,
        })
    }

    pub(super) fn sqlstate(&self) -> &'static str {
        match self {
            Adoption::NoTable => "42P01",
            Adoption::NotTable { .. } | Adoption::Temporary { .. } | Adoption::Catalog { .. } => {
                "42809"
            }
            Adoption::NotOwner { .. } | Adoption::NotEntitled => "42501",
            Adoption::NoColumn { .. } => "42703",
            Adoption::NotNull { .. } | Adoption::Generated { .. } => "55000",
            Adoption::NotTimestamp { .. } | Adoption::TypeChanged { .. } => "42804",
            Adoption::Condition { .. }
            | Adoption::ConditionNotAlone
            | Adoption::ConditionVolatile => "22023",
            Adoption::Locked => "55P03",
            Adoption::NoIndex { .. } => "00000",
        }
    }

    pub(super) fn message(&self) -> Vec<u8> {
        match self {
            Adoption::NoTable => text!["there is no such table"],
            Adoption::NotTable { name } => text![name, " is not a table that can be adopted"],
            Adoption::Temporary { name } => text![name, " is a temporary table"],
            Adoption::Catalog { name } => text![name, " is a system catalog"],
            Adoption::NotOwner { name } => text!["must be owner of table ", name],
            Adoption::NoColumn { column } => text!["column \"", column, "\" does not exist"],
            Adoption::NotNull { column } => text!["column \"", column, "\" can't be set to NULL"],
            Adoption::Generated { column } => {
                text![
                    "column \"",
                    column,
                    "\" can't be set: its values are generated"
                ]
            }
            Adoption::NotTimestamp { column, .. } => {
                text!["column \"", column, "\" is not a timestamp"]
            }
            Adoption::Condition { .. } => text!["condition can't be used"],
            Adoption::ConditionNotAlone => text!["condition must be a single expression"],
            Adoption::ConditionVolatile => text!["condition must not have volatile functions"],
            Adoption::NotEntitled => {
                text!["who adopted it has not the privileges of the table's owner"]
            }
            Adoption::TypeChanged { column } => {
                text!["the type of column \"", column, "\" has changed"]
            }
            Adoption::Locked => text!["the table is locked by another transaction"],
            Adoption::NoIndex { table, column } => {
                text![
                    "no index on ",
                    table,
                    " helps to find what has lapsed by \"",
                    column,
                    "\""
                ]
            }
        }
    }

    pub(super) fn detail(&self) -> Option<Vec<u8>> {
        match self {
            Adoption::NotTable { .. } => Some(text![
                "Views, foreign tables and tables with foreign parts can't be swept."
            ]),
            Adoption::NotNull { .. } => Some(text![
                "It is declared NOT NULL, in the table, in a part of it, or by its type."
            ]),
            Adoption::NotTimestamp { r#type, .. } => Some(text!["It is of type ", r#type, "."]),
            Adoption::Condition { said } => Some(text!["The server says: ", said, "."]),
            Adoption::NoIndex { .. } => {
                Some(text!["Each batch of a sweep will read the whole table."])
            }
            Adoption::ConditionVolatile => Some(text![
                "A sweep must be able to ask without changing anything."
            ]),
            _ => None,
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Adoption::NotNull { .. } => Some("ALTER TABLE ... ALTER COLUMN ... DROP NOT NULL;"),
            Adoption::NotTimestamp { .. } => {
                Some("The expiry must be of type timestamp with or without time zone.")
            }
            Adoption::Condition { .. } | Adoption::ConditionNotAlone => {
                Some("Pass what could stand behind WHERE, for example $$status = 'reserved'$$.")
            }
            Adoption::NoIndex { .. } => {
                Some("CREATE INDEX CONCURRENTLY ... ON ... (column) WHERE column IS NOT NULL;")
            }
            Adoption::ConditionVolatile => Some(
                "Use functions that are declared STABLE or IMMUTABLE, as now() instead of clock_timestamp().",
            ),
            _ => None,
        }
    }
}
