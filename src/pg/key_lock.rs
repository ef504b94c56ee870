//! The key's lock: who decides about a resource that has no live lock.
//!
//! A row can be locked; a row that is not there can't. So whoever would be granted a resource first
//! takes this heavyweight lock on its name, and keeps it until the end of the transaction, when the
//! new row is visible (or gone). It is also the queue of `wait`: the first who waits has it, the
//! others stand in line for it, in the order in which they came.
//!
//! It lives in softlock's own part of the advisory locks' space (`field4` is neither 1 nor 2, the
//! values of pg_advisory_lock), so that it never meets an application's own advisory locks. Two
//! resources whose 64-bit hashes are equal share a lock, which can only make one of them answer
//! `contended` once too often.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};

use super::subtransaction;

unsafe extern "C-unwind" {
    /// The server's hash of a byte string; not in pgrx's bindings.
    fn hash_bytes_extended(bytes: *const u8, length: c_int, seed: u64) -> u64;
}

/// Takes the lock on `resource` if nobody else has it or waits for it; `false`, at once, otherwise.
pub fn try_lock(resource: &str) -> bool {
    acquire(resource, true)
}

/// Takes the lock on `resource`, standing in line for it until `deadline`; `false` when the time is
/// up. Can be cancelled; `lock_timeout` and the deadlock detector apply as to any lock.
pub fn lock_until(resource: &str, deadline: Instant) -> bool {
    if try_lock(resource) {
        return true;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left < Duration::from_millis(1) {
        return false;
    }
    // SAFETY: reads and writes a backend-local setting, put back on every path.
    let users = unsafe { pg_sys::LockTimeout };
    let ours = left.as_millis().min(i32::MAX as u128) as c_int;
    let timed_by_us = users == 0 || ours < users;
    // The server raises an error when a lock's time is up. It is caught in a subtransaction, which
    // is rolled back; the locks that the transaction has already are not touched.
    PgTryBuilder::new(|| {
        subtransaction::attempt(|| {
            if timed_by_us {
                unsafe { pg_sys::LockTimeout = ours };
            }
            acquire(resource, false);
            unsafe { pg_sys::LockTimeout = users };
            Ok::<_, ()>(true)
        })
        .unwrap_or(false)
    })
    .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, move |error| {
        unsafe { pg_sys::LockTimeout = users };
        if timed_by_us { false } else { error.rethrow() }
    })
    .catch_others(move |error| {
        unsafe { pg_sys::LockTimeout = users };
        error.rethrow()
    })
    .execute()
}

/// Gives back one lock of this call, so that a refused call leaves nothing. Where the transaction
/// had the lock before the call, it keeps it: the server counts.
pub fn unlock(resource: &str) {
    as_transaction(|| {
        // SAFETY: the tag is fully initialised; the lock was taken by this resource owner.
        unsafe { pg_sys::LockRelease(&tag(resource), MODE, false) };
    });
}

const MODE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;

fn acquire(resource: &str, dont_wait: bool) -> bool {
    as_transaction(|| {
        // SAFETY: the tag is fully initialised and outlives the call; sessionLock is false, so that
        // a rollback of the transaction or savepoint frees the lock.
        let result = unsafe { pg_sys::LockAcquire(&tag(resource), MODE, false, dont_wait) };
        result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    })
}

/// Runs `work` with the transaction's (or savepoint's) resource owner instead of the running
/// query's: a lock that came out of an inner subtransaction belongs to it, too, so that `unlock`
/// finds either.
fn as_transaction<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: both owners are those of the running transaction; if `work` raises an error, the
    // abort that follows sets the current one itself.
    unsafe {
        let current = pg_sys::CurrentResourceOwner;
        pg_sys::CurrentResourceOwner = pg_sys::CurTransactionResourceOwner;
        let result = work();
        pg_sys::CurrentResourceOwner = current;
        result
    }
}

fn tag(resource: &str) -> pg_sys::LOCKTAG {
    // SAFETY: hashes the bytes of a live slice; MyDatabaseId is set in every backend that runs SQL.
    let (hash, database) = unsafe {
        (
            hash_bytes_extended(resource.as_ptr(), resource.len() as c_int, 0),
            pg_sys::MyDatabaseId,
        )
    };
    pg_sys::LOCKTAG {
        locktag_field1: u32::from(database),
        locktag_field2: (hash >> 32) as u32,
        locktag_field3: hash as u32,
        locktag_field4: 0x510C,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}
