//! The rows of `softlock.policies`, read below SQL, and noticing when they have changed.
//!
//! The table's trigger has the server tell every session that the table has changed, as it does of DDL,
//! when the transaction that wrote it commits.

use std::cell::Cell;
use std::ffi::{CStr, c_int};

use pgrx::datum::{FromDatum, Interval};
use pgrx::pg_sys::{self, Datum, Oid};

use super::text_datum::text_from_datum;
use super::{altered, probe, relations};
use crate::error::Error;
use crate::names;
use crate::policy::{Policies, Policy};
use crate::text::Text;

thread_local! {
    /// Rises whenever the table may have changed.
    static STATE: Cell<u64> = const { Cell::new(0) };
    /// The table that was read last.
    static TABLE: Cell<Oid> = const { Cell::new(Oid::INVALID) };
}

/// The columns, in order.
const COLUMNS: [(&CStr, Oid); 5] = [
    (c"kind", pg_sys::TEXTOID),
    (c"default_ttl", pg_sys::INTERVALOID),
    (c"max_ttl", pg_sys::INTERVALOID),
    (c"max_hold", pg_sys::INTERVALOID),
    (c"max_per_owner", pg_sys::INT4OID),
];

/// A number that is another one whenever the table may have changed since.
pub fn state() -> u64 {
    relations::watch();
    // SAFETY: hears what other sessions have committed; inside a transaction.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    STATE.get()
}

/// Every policy, as committed now or written by this transaction. `TableLocked` while somebody else has
/// the table to himself.
pub fn read() -> Result<Policies, Error> {
    // SAFETY: a scan of a table that is locked for it, by a snapshot that lives as long; rows are copied
    // before the scan moves on.
    unsafe {
        let Some(oid) = relations::in_schema(c"policies") else {
            // The schema is another version's, which is told when the locks are looked at.
            return Ok(Policies::new());
        };
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        if !pg_sys::ConditionalLockRelationOid(oid, lock) {
            return Err(Error::TableLocked);
        }
        TABLE.set(oid);
        let table = pg_sys::table_open(oid, pg_sys::NoLock as pg_sys::LOCKMODE);
        let checked = check(table);
        let mut policies = Policies::new();
        if checked.is_ok() {
            let owner = pg_sys::CurrentResourceOwner;
            let snapshot = probe::latest_snapshot(owner);
            let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
            let scan = pg_sys::table_beginscan(table, snapshot, 0, std::ptr::null_mut());
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            while pg_sys::table_scan_getnextslot(scan, forward, slot) {
                pg_sys::slot_getsomeattrs_int(slot, COLUMNS.len() as c_int);
                let (kind, policy) = policy(slot);
                policies.insert(kind, policy);
            }
            pg_sys::table_endscan(scan);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::UnregisterSnapshotFromOwner(snapshot, owner);
        }
        pg_sys::table_close(table, lock);
        checked.map(|()| policies)
    }
}

/// To be run by the table's trigger: has every session hear of it, when this transaction commits.
pub fn changed(table: Oid) {
    // SAFETY: the table exists, as its trigger fires.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table) };
}

/// # Safety
/// The slot must hold a row of the table, taken apart.
unsafe fn policy(slot: *mut pg_sys::TupleTableSlot) -> (Box<[u8]>, Policy) {
    // SAFETY: as the caller says, and `check` has seen the types.
    unsafe {
        let value = |at: usize| -> (Datum, bool) {
            (*(*slot).tts_values.add(at), *(*slot).tts_isnull.add(at))
        };
        let micros = |at: usize| {
            let (datum, is_null) = value(at);
            let interval = Interval::from_datum(datum, is_null)?;
            let micros = names::interval_micros(&interval)?;
            // Constraints have kept out what is no time.
            i64::try_from(micros).ok()
        };
        let kind = text_from_datum(value(0).0);
        let (limit, has_none) = value(4);
        let policy = Policy {
            default_ttl: micros(1),
            max_ttl: micros(2),
            max_hold: micros(3),
            max_per_owner: i32::from_datum(limit, has_none),
        };
        (kind.as_bytes().into(), policy)
    }
}

/// # Safety
/// The table must be open.
unsafe fn check(table: pg_sys::Relation) -> Result<(), Error> {
    // SAFETY: reads the descriptor of an open relation, at positions that it has.
    unsafe {
        let descriptor = (*table).rd_att;
        let is_own = (*descriptor).natts as usize >= COLUMNS.len()
            && (*(*table).rd_rel).relkind == pg_sys::RELKIND_RELATION as std::ffi::c_char
            && COLUMNS.iter().enumerate().all(|(at, (name, oid))| {
                let column = &*altered::attribute(descriptor, at);
                let its_name = CStr::from_ptr(column.attname.data.as_ptr());
                its_name == *name && column.atttypid == *oid && !column.attisdropped
            });
        match is_own {
            true => Ok(()),
            false => Err(Error::TableAltered {
                table: "policies",
                what: Text::from("policies"),
                how: "has other columns than its own",
            }),
        }
    }
}

/// To be told what may have changed; the invalid one means everything.
pub(super) fn relation_changed(relation: Oid) {
    // Of a table that was not there when it was looked for nothing is known, not even its number.
    if relation == Oid::INVALID || TABLE.get() == Oid::INVALID || relation == TABLE.get() {
        STATE.set(STATE.get().wrapping_add(1));
    }
}
