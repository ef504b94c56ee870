//! `softlock_adopt` and `softlock_disown`: whether a table may be swept, asked before anything is written.

use pgrx::pg_sys::{self, Oid};

use crate::adopted::{self, ALIAS, Declaration, Table};
use crate::answer;
use crate::error::{Adoption, Error};
use crate::pg::{self, Json, condition, relations, sandbox};
use crate::text::Text;

/// What the caller asks for, as it is given.
pub struct Wish {
    pub expires: Text,
    pub clears: Vec<Text>,
    pub condition: Option<Text>,
    pub label: Option<Text>,
}

/// Has the sweeps clear what lapses in a table, as the caller says.
pub fn adopt(relation: Oid, wish: Wish) -> Result<Json, Error> {
    let table = own_table(relation)?;
    if !table.is_table || table.is_foreign {
        return Err(Adoption::NotTable { name: table.name }.into());
    }
    if table.is_temporary {
        return Err(Adoption::Temporary { name: table.name }.into());
    }
    if table.is_catalog {
        return Err(Adoption::Catalog { name: table.name }.into());
    }
    let kind = may_clear(relation, &wish.expires)?;
    let time_zone = match kind.base_type {
        pg_sys::TIMESTAMPTZOID => None,
        // The application's, which adopts it in a migration.
        pg_sys::TIMESTAMPOID => Some(sandbox::setting(c"TimeZone")),
        _ => {
            return Err(Adoption::NotTimestamp {
                column: wish.expires,
                r#type: kind.type_name,
            }
            .into());
        }
    };
    for column in &wish.clears {
        may_clear(relation, column)?;
    }
    let label = match wish.label {
        Some(column) => {
            its_column(relation, &column)?;
            Some(column)
        }
        None => adopted::key_column(relation)?,
    };
    let condition = wish
        .condition
        .map(|given| {
            let name = relations::name_of(relation);
            condition::canonical(relation, &given, &name, ALIAS).map_err(Adoption::condition)
        })
        .transpose()?;
    let declaration = Declaration {
        expires: wish.expires,
        clears: wish.clears,
        condition,
        label,
        time_zone,
    };
    let is_new = adopted::put(relation, &declaration, pg::current_role())?;
    let is_indexed = adopted::is_indexed(relation, &declaration.expires)?;
    if !is_indexed {
        Error::from(Adoption::NoIndex {
            table: table.name.clone(),
            column: declaration.expires.clone(),
        })
        .notice();
    }
    Ok(answer::adopted(
        &table.name,
        &declaration,
        is_new,
        is_indexed,
    ))
}

/// Leaves a table alone again.
pub fn disown(relation: Oid) -> Result<Json, Error> {
    let table = own_table(relation)?;
    let was_adopted = adopted::remove(relation)?;
    Ok(answer::disowned(&table.name, was_adopted))
}

/// The table, which stays as it is until the transaction ends, if the caller has its owner's privileges.
fn own_table(relation: Oid) -> Result<Table, Error> {
    relations::lock_to_read(relation);
    let table = adopted::table(relation)?.ok_or(Adoption::NoTable)?;
    match pg::has_privileges_of(pg::current_role(), table.owner) {
        true => Ok(table),
        false => Err(Adoption::NotOwner { name: table.name }.into()),
    }
}

fn its_column(relation: Oid, column: &Text) -> Result<adopted::Column, Error> {
    let found = adopted::column(relation, column)?;
    found.ok_or_else(|| {
        Adoption::NoColumn {
            column: column.clone(),
        }
        .into()
    })
}

/// The column, if it can be set to NULL.
fn may_clear(relation: Oid, column: &Text) -> Result<adopted::Column, Error> {
    let found = its_column(relation, column)?;
    let column = column.clone();
    if found.is_generated {
        return Err(Adoption::Generated { column }.into());
    }
    if found.is_not_null {
        return Err(Adoption::NotNull { column }.into());
    }
    Ok(found)
}
