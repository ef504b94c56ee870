//! Rows that logical replication brings: no call of softlock's writes them, so no account hears of them. Whenever
//! any have come, what has been counted before does not hold any more.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use pgrx::pg_sys::{self, XactEvent};

use crate::pg::shared::{self, Memory};

/// Has every process look at its transactions. To be called while the library is preloaded.
pub fn watch() {
    // SAFETY: registered once, in the postmaster, from which all processes have it.
    unsafe { pg_sys::RegisterXactCallback(Some(before_end), null_mut()) };
}

/// The number of the last count, or opening, that rows may have come in after.
pub fn last_void(memory: &Memory) -> u64 {
    memory.last_void.load(SeqCst)
}

/// Before the rows can be seen: who counts from now on sees at least that somebody is writing them.
unsafe extern "C-unwind" fn before_end(event: XactEvent::Type, _: *mut c_void) {
    use XactEvent::{XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE};
    if !matches!(event, XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE) {
        return;
    }
    // SAFETY: reads backend-local state. The first is said by whoever applies what another server has
    // written, the server's own workers or an extension's; by those that copy a table, only the second.
    let brings_rows = unsafe {
        pg_sys::replorigin_session_origin != pg_sys::InvalidRepOriginId as pg_sys::RepOriginId
            || pg_sys::IsLogicalWorker()
    };
    // Where nothing has been counted yet, nothing has to be counted again.
    let is_used = |memory: &&Memory| memory.last_count.load(Relaxed) != 0;
    if let Some(memory) = shared::memory().filter(|memory| brings_rows && is_used(memory)) {
        let number = memory.last_count.fetch_add(1, Relaxed) + 1;
        memory.last_void.fetch_max(number, SeqCst);
    }
}
