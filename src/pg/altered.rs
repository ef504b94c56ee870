//! Whether a table is exactly as the extension made it. Rows are written without an executor, so
//! whatever an executor would do besides (triggers, rules, constraints, defaults, row security, other
//! indexes) would be passed over; and rows are read by position, so the columns must be these.

use std::ffi::{CStr, c_int};

use pgrx::pg_sys::{self, Oid};

use super::relations::{self, Oids, Patience};
use crate::error::Error;
use crate::text::Text;

unsafe extern "C-unwind" {
    /// The tables that inherit from a table; not in pgrx's bindings.
    fn find_inheritance_children(parent: Oid, lock: pg_sys::LOCKMODE) -> *mut pg_sys::List;
    /// Whether a table inherits from another; not in pgrx's bindings.
    fn has_superclass(table: Oid) -> bool;
}

/// A column: name, type and whether it is NOT NULL.
pub type Column = (&'static CStr, Oid, bool);

/// An index: its name, itself, the positions of its columns, and whether it is the primary key.
pub type Index = (&'static str, Oid, &'static [i16], bool);

/// What a table of softlock's has to be like.
pub struct Shape<'a> {
    pub name: &'static str,
    pub table: Oid,
    /// The role that owns it.
    pub owner: Oid,
    pub columns: &'static [Column],
    pub indexes: &'a [Index],
}

/// The columns of `softlock.locks`.
const LOCKS: [Column; 11] = [
    (c"resource", pg_sys::TEXTOID, true),
    (c"owner", pg_sys::TEXTOID, true),
    (c"session", pg_sys::TEXTOID, false),
    (c"token", pg_sys::INT8OID, true),
    (c"role", pg_sys::REGROLEOID, true),
    (c"metadata", pg_sys::JSONBOID, false),
    (c"acquired_at", pg_sys::TIMESTAMPTZOID, true),
    (c"expires_at", pg_sys::TIMESTAMPTZOID, true),
    (c"slot", pg_sys::INT4OID, true),
    (c"version", pg_sys::INT8OID, true),
    (c"units", pg_sys::INT4OID, true),
];

/// The version of the library, which the schema's must be.
const VERSION: &str = env!("CARGO_PKG_VERSION");

type Check = Result<(), Error>;

impl Shape<'_> {
    fn altered(&self, what: impl Into<Text>, how: &'static str) -> Check {
        Err(Error::TableAltered {
            table: self.name,
            what: what.into(),
            how,
        })
    }
}

/// # Safety
/// The pointer must be that of a NUL-terminated text.
unsafe fn text(name: *const std::ffi::c_char) -> Text {
    // SAFETY: as the caller says.
    Text::from(unsafe { CStr::from_ptr(name) }.to_bytes())
}

/// Compares the version of the schema with the library's.
pub fn check_version() -> Check {
    match schema_version() {
        Some(schema) if schema == VERSION => Ok(()),
        Some(schema) => Err(Error::VersionMismatch { schema }),
        None => Err(Error::NotInstalled),
    }
}

/// What is to be said to who calls a function of another version's schema.
pub fn version_mismatch() -> Error {
    match schema_version() {
        Some(schema) => Error::VersionMismatch { schema },
        None => Error::NotInstalled,
    }
}

/// `pg_extension.extversion` of softlock.
fn schema_version() -> Option<String> {
    // SAFETY: a scan of a catalog by its index; the value is copied while its row is the current one.
    unsafe {
        let oid = pg_sys::get_extension_oid(c"softlock".as_ptr(), true);
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let catalog = pg_sys::table_open(pg_sys::ExtensionRelationId, lock);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            1,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            Oid::from(pg_sys::F_OIDEQ),
            oid.into(),
        );
        let index = Oid::from(pg_sys::ExtensionOidIndexId);
        let scan =
            pg_sys::systable_beginscan(catalog, index, true, std::ptr::null_mut(), 1, &mut key);
        let row = pg_sys::systable_getnext(scan);
        let version = (!row.is_null()).then(|| {
            let mut is_null = false;
            let column = pg_sys::Anum_pg_extension_extversion as c_int;
            let value = pg_sys::heap_getattr(row, column, (*catalog).rd_att, &mut is_null);
            let text = pg_sys::text_to_cstring(value.cast_mut_ptr());
            CStr::from_ptr(text).to_string_lossy().into_owned()
        });
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, lock);
        version
    }
}

/// Checks the table of locks and its indexes, which the caller has locked for reading.
pub fn check(oids: &Oids) -> Check {
    check_shape(&Shape {
        name: "locks",
        table: oids.table,
        owner: oids.owner,
        columns: &LOCKS,
        // Position of resource, slot and version; and of what the other two are on.
        indexes: &[
            ("locks_pkey", oids.primary_key, &[1, 9, 10], true),
            ("locks_expires_at_idx", oids.by_expiry, &[8], false),
            ("locks_owner_idx", oids.by_owner, &[2, 8], false),
        ],
    })
}

/// Checks a table and its indexes, which the caller has locked for reading.
pub fn check_shape(shape: &Shape) -> Check {
    // SAFETY: opened and closed here, and only read; after an ERROR the transaction's abort closes.
    unsafe {
        let table = pg_sys::table_open(shape.table, pg_sys::NoLock as pg_sys::LOCKMODE);
        let checked = check_table(table, shape)
            .and_then(|()| check_columns(table, shape))
            .and_then(|()| check_indexes(table, shape));
        pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        checked
    }
}

/// # Safety
/// The table must be open.
unsafe fn check_table(table: pg_sys::Relation, shape: &Shape) -> Check {
    // SAFETY: reads the descriptor of an open relation.
    unsafe {
        let class = &*(*table).rd_rel;
        let extension = pg_sys::get_extension_oid(c"softlock".as_ptr(), true);
        if pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, shape.table) != extension {
            return shape.altered(shape.name, "is not the extension's own table");
        }
        if class.relowner != shape.owner {
            return shape.altered(
                shape.name,
                "has another owner than the extension's sequences",
            );
        }
        // A crash would empty it.
        if class.relpersistence != pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char {
            return shape.altered(shape.name, "is not logged");
        }
        if class.relkind != pg_sys::RELKIND_RELATION as std::ffi::c_char
            || class.relam != pg_sys::HEAP_TABLE_AM_OID
        {
            return shape.altered(shape.name, "is not a plain table of the access method heap");
        }
        // The flag stays after the last inheriting table is gone.
        let has_children = class.relhassubclass
            && !find_inheritance_children(shape.table, pg_sys::NoLock as pg_sys::LOCKMODE)
                .is_null();
        if has_children || has_superclass(shape.table) {
            return shape.altered(shape.name, "is or has a partition or an inheriting table");
        }
        if !(*table).rd_rules.is_null() {
            return shape.altered(shape.name, "has a rule");
        }
        let policies = match (*table).rd_rsdesc.is_null() {
            true => 0,
            false => pg_sys::list_length((*(*table).rd_rsdesc).policies),
        };
        if !class.relrowsecurity || class.relforcerowsecurity || policies != 1 {
            return shape.altered(shape.name, "has other row security than its own");
        }
        if let Some(triggers) = (*table).trigdesc.as_ref() {
            for at in 0..triggers.numtriggers as usize {
                let trigger = &*triggers.triggers.add(at);
                if trigger.tgenabled != pg_sys::TRIGGER_DISABLED as std::ffi::c_char {
                    return shape.altered(text(trigger.tgname), "is a trigger");
                }
            }
        }
        Ok(())
    }
}

/// # Safety
/// The table must be open.
unsafe fn check_columns(table: pg_sys::Relation, shape: &Shape) -> Check {
    // SAFETY: reads the descriptor of an open relation, at positions that it has.
    unsafe {
        let descriptor = (*table).rd_att;
        let count = (*descriptor).natts as usize;
        for at in 0..count {
            let column = &*attribute(descriptor, at);
            let name = text(column.attname.data.as_ptr());
            let Some(&(own_name, own_type, not_null)) = shape.columns.get(at) else {
                match column.attisdropped {
                    true => continue,
                    false => return shape.altered(name, "is an added column"),
                }
            };
            let collation = match own_type == pg_sys::TEXTOID {
                true => pg_sys::C_COLLATION_OID,
                false => pg_sys::InvalidOid,
            };
            if column.attisdropped {
                return shape.altered(own_name.to_bytes(), "is a dropped column");
            }
            if name.as_bytes() != own_name.to_bytes() {
                return shape.altered(name, "is a renamed column");
            }
            if column.atttypid != own_type || column.attcollation != collation {
                return shape.altered(name, "is a column of another type");
            }
            if column.attnotnull != not_null {
                return shape.altered(name, "is a column with another NOT NULL");
            }
            if column.atthasdef || column.attidentity != 0 || column.attgenerated != 0 {
                return shape.altered(name, "is a column with a default");
            }
        }
        if count < shape.columns.len() {
            return shape.altered(shape.name, "lacks a column");
        }
        match (*descriptor).constr.as_ref() {
            Some(constraints) if constraints.num_check > 0 => {
                shape.altered(text((*constraints.check).ccname), "is a check constraint")
            }
            _ => Ok(()),
        }
    }
}

/// A column of a table's.
///
/// # Safety
/// The descriptor must have a column at this position.
#[cfg(not(feature = "pg18"))]
pub unsafe fn attribute(
    descriptor: pg_sys::TupleDesc,
    at: usize,
) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: as the caller says.
    unsafe { (*descriptor).attrs.as_ptr().add(at) }
}

/// A column of a table's.
///
/// # Safety
/// The descriptor must have a column at this position.
#[cfg(feature = "pg18")]
pub unsafe fn attribute(
    descriptor: pg_sys::TupleDesc,
    at: usize,
) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: as the caller says.
    unsafe { pg_sys::TupleDescAttr(descriptor, at as c_int) }
}

/// # Safety
/// The table must be open.
unsafe fn check_indexes(table: pg_sys::Relation, shape: &Shape) -> Check {
    // SAFETY: the list has the table's indexes, which can't go while it is locked; each is opened,
    // read and closed.
    unsafe {
        let indexes = pg_sys::RelationGetIndexList(table);
        for at in 0..pg_sys::list_length(indexes) {
            let oid = pg_sys::list_nth_oid(indexes, at);
            relations::lock_index(oid, Patience::None)?;
            let index = pg_sys::index_open(oid, pg_sys::NoLock as pg_sys::LOCKMODE);
            let checked = check_index(index, shape);
            pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            checked?;
        }
        let is_there = |oid: Oid| pg_sys::list_member_oid(indexes, oid);
        for &(name, oid, ..) in shape.indexes {
            if !is_there(oid) {
                return shape.altered(name, "is no index of the table");
            }
        }
        Ok(())
    }
}

/// An index of softlock's own must have its columns; any other is kept up as well, if it is a plain
/// one that can't refuse a row.
///
/// # Safety
/// The index must be open.
unsafe fn check_index(index: pg_sys::Relation, shape: &Shape) -> Check {
    // SAFETY: reads the descriptor of an open index.
    unsafe {
        let name = text((*(*index).rd_rel).relname.data.as_ptr());
        let form = &*(*index).rd_index;
        let keys: Vec<i16> = (0..form.indnatts as usize)
            .map(|at| *form.indkey.values.as_ptr().add(at))
            .collect();
        if (*(*index).rd_rel).relam != pg_sys::BTREE_AM_OID
            || keys.contains(&0)
            || !pg_sys::RelationGetIndexPredicate(index).is_null()
            || form.indisexclusion
        {
            return shape.altered(
                name,
                "is an index with an expression, a predicate or of another kind",
            );
        }
        let mut indexes = shape.indexes.iter();
        let own = indexes.find(|(_, oid, ..)| *oid == form.indexrelid);
        // A copy of the primary key is one that is being rebuilt.
        let mut unique = shape.indexes.iter().filter(|(.., is_unique)| *is_unique);
        if form.indisunique && !unique.any(|(_, _, columns, _)| keys == *columns) {
            return shape.altered(name, "is a unique index");
        }
        let Some(&(_, _, columns, is_unique)) = own else {
            return Ok(());
        };
        let collations_are_own = keys.iter().enumerate().all(|(at, &key)| {
            let own = match shape.columns[key as usize - 1].1 == pg_sys::TEXTOID {
                true => pg_sys::C_COLLATION_OID,
                false => pg_sys::InvalidOid,
            };
            *(*index).rd_indcollation.add(at) == own && *(*index).rd_indoption.add(at) == 0
        });
        if keys != columns || !collations_are_own || form.indnkeyatts != form.indnatts {
            return shape.altered(name, "is an index on other columns or in another order");
        }
        if !form.indisvalid || !form.indisready || form.indisunique != is_unique {
            return shape.altered(name, "is not a usable index");
        }
        Ok(())
    }
}
