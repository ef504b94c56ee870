//! An internal savepoint: work that is undone when it does not come off.

use std::panic::AssertUnwindSafe;

use pgrx::PgTryBuilder;
use pgrx::pg_sys;

/// Runs `work` in a subtransaction that is rolled back when it answers `Err` or raises an error;
/// the error goes on. A subtransaction draws a transaction id only if it writes.
pub fn attempt<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // SAFETY: begin and end are paired on every path below; the memory context and the resource
    // owner are put back as they were, as PL/pgSQL does around a block with EXCEPTION.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        let restore = || {
            pg_sys::CurrentMemoryContext = context;
            pg_sys::CurrentResourceOwner = owner;
        };
        let undo = || {
            pg_sys::CurrentMemoryContext = context;
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            restore();
        };
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = context;
        let result = PgTryBuilder::new(AssertUnwindSafe(work))
            .catch_others(|error| {
                undo();
                error.rethrow()
            })
            .catch_rust_panic(|error| {
                undo();
                error.rethrow()
            })
            .execute();
        match result {
            Ok(_) => {
                pg_sys::ReleaseCurrentSubTransaction();
                restore();
            }
            Err(_) => undo(),
        }
        result
    }
}
