//! Rows that are brought into the table otherwise than by softlock's calls, by logical replication or by a superuser's
//! SQL: no account hears of them. Whenever any have come, what has been counted before does not hold any
//! more.
//!
//! All transactions and statements of the server pass through here, so nothing else is looked at, and nothing is
//! caught: errors go by as if this were not there.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use pgrx::pg_sys::{self, XactEvent};
use pgrx::prelude::*;

use super::is_used;
use crate::pg::relations;
use crate::pg::shared::{self, Memory};

unsafe extern "C-unwind" {
    /// Raises no error, and every transaction asks: without pgrx's guard, which costs more than the call.
    safe fn IsLogicalWorker() -> bool;
}

thread_local! {
    /// Whether a statement of this transaction may have written to the table.
    static BY_SQL: Cell<bool> = const { Cell::new(false) };
}

static mut PREVIOUS: pg_sys::ExecutorCheckPerms_hook_type = None;

/// Has every process look at its transactions. To be called while the library is preloaded.
pub fn watch() {
    // SAFETY: in the postmaster, which has one thread, and from which all processes have both; each hook
    // calls the one before it.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_end), null_mut());
        PREVIOUS = pg_sys::ExecutorCheckPerms_hook;
        pg_sys::ExecutorCheckPerms_hook = Some(check);
    }
}

/// The number of the last count, or opening, that rows may have come in after.
pub fn last_void(memory: &Memory) -> u64 {
    memory.last_void.load(SeqCst)
}

/// From now on who wants units counts anew.
fn void(memory: &Memory) {
    let number = memory.last_count.fetch_add(1, Relaxed) + 1;
    memory.last_void.fetch_max(number, SeqCst);
}

unsafe extern "C-unwind" fn at_end(event: XactEvent::Type, _: *mut c_void) {
    use XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    use XactEvent::{XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE};
    match event {
        // Before the rows can be seen: who counts from now on sees at least that somebody is writing them.
        // Where nothing has been counted yet, nothing has to be counted again.
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            if is_used()
                && (BY_SQL.get() || replicates())
                && let Some(memory) = shared::memory()
            {
                void(memory);
            }
        }
        XACT_EVENT_COMMIT | XACT_EVENT_PREPARE | XACT_EVENT_ABORT => BY_SQL.set(false),
        _ => (),
    }
}

/// Whether this process applies what another server has written.
fn replicates() -> bool {
    // SAFETY: reads backend-local state.
    let origin = unsafe { pg_sys::replorigin_session_origin };
    // The server's own workers and an extension's say where it is from; those that copy a table don't.
    origin != pg_sys::InvalidRepOriginId as pg_sys::RepOriginId || IsLogicalWorker()
}

/// The hook, with the arguments that it has in this version; the last of the lists has relations, and what is
/// about to be done to them.
macro_rules! hook {
    ($entry:ident, $($list:ident),*) => {
        unsafe extern "C-unwind" fn check($($list: *mut pg_sys::List,)* raises: bool) -> bool {
            // SAFETY: the server's lists; nothing here has a destructor that an error would pass over.
            unsafe {
                if is_used() {
                    let [.., entries] = [$($list),*];
                    for at in 0..pg_sys::list_length(entries) {
                        let entry: *mut pg_sys::$entry = pg_sys::list_nth(entries, at).cast();
                        if u64::from((*entry).requiredPerms) & WRITES != 0 {
                            note_write((*entry).relid);
                        }
                    }
                }
                PREVIOUS.is_none_or(|previous| previous($($list,)* raises))
            }
        }
    };
}

const WRITES: u64 = (pg_sys::ACL_INSERT | pg_sys::ACL_UPDATE) as u64;

#[cfg(any(feature = "pg13", feature = "pg14", feature = "pg15"))]
hook!(RangeTblEntry, entries);
#[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
hook!(RTEPermissionInfo, range_table, entries);

/// Voids all accounts if the relation, which is about to be written to, is the table of locks; what this
/// transaction counts after it sees the rows.
#[pg_guard]
unsafe extern "C-unwind" fn note_write(relation: pg_sys::Oid) {
    if relations::in_schema(c"locks") == Some(relation)
        && let Some(memory) = shared::memory()
    {
        void(memory);
        BY_SQL.set(true);
    }
}
