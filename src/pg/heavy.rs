//! Heavyweight locks on hashed names, in softlock's own part of the advisory locks' space (`field4` is
//! neither 1 nor 2, the values of pg_advisory_lock), so that they never meet an application's own.
//! Two names whose hashes are equal share a lock, which costs time and nothing else.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};

use super::subtransaction;

unsafe extern "C-unwind" {
    /// The server's hash of a byte string; not in pgrx's bindings.
    fn hash_bytes_extended(bytes: *const u8, length: c_int, seed: u64) -> u64;
}

/// What a lock is for; each has names of its own.
#[derive(Clone, Copy)]
pub enum Space {
    /// Deciding about a resource, where the library is not preloaded.
    Mutex = 0x510C,
    /// Standing first in line for a resource.
    Queue = 0x510D,
    /// Lifting the clock's floor.
    Clock = 0x510E,
    /// Deciding about an owner's holds on a resource, or about its locks of a kind, where the library is
    /// not preloaded.
    Holder = 0x510F,
    Owner = 0x5110,
    /// Choosing among several resources, where others do.
    Any = 0x5111,
}

/// The hash of a name, which is another one in another database.
pub fn hash(name: &[u8]) -> u64 {
    hash_by(name, 0)
}

/// One of several hashes of a name.
pub fn hash_by(name: &[u8], which: u64) -> u64 {
    // SAFETY: hashes the bytes of a live slice; MyDatabaseId is set in every backend that runs SQL.
    unsafe {
        let seed = u64::from(u32::from(pg_sys::MyDatabaseId)) | which << 32;
        hash_bytes_extended(name.as_ptr(), name.len() as c_int, seed)
    }
}

/// A hash for what is stored: the same in every database, as a copy of one has another number.
pub fn stored_hash(name: &[u8]) -> u64 {
    // SAFETY: hashes the bytes of a live slice.
    unsafe { hash_bytes_extended(name.as_ptr(), name.len() as c_int, 0) }
}

/// Takes the lock if nobody else has it or waits for it; `false`, at once, otherwise.
pub fn try_lock(space: Space, hash: u64) -> bool {
    acquire(space, hash, true)
}

/// Takes the lock, waiting for as long as it takes: for locks that are held for moments. A
/// `lock_timeout` of the session does not apply.
pub fn lock_whatever_it_takes(space: Space, hash: u64) {
    if !try_lock(space, hash) {
        with_timeout(0, || acquire(space, hash, false));
    }
}

/// Takes the lock, standing in line for it until `deadline`; `false` when the time is up. Can be
/// cancelled; `lock_timeout` and the deadlock detector apply as to any lock.
pub fn lock_until(space: Space, hash: u64, deadline: Instant) -> bool {
    if try_lock(space, hash) {
        return true;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left < Duration::from_millis(1) {
        return false;
    }
    let ours = left.as_millis().min(i32::MAX as u128) as c_int;
    // SAFETY: reads a backend-local setting.
    let users = unsafe { pg_sys::LockTimeout };
    let timed_by_us = users == 0 || ours < users;
    // The server raises an error when a lock's time is up. It is caught in a subtransaction, which
    // is rolled back; the locks that the transaction has already are not touched.
    PgTryBuilder::new(|| {
        subtransaction::attempt(|| {
            let timeout = if timed_by_us { ours } else { users };
            Ok::<_, ()>(with_timeout(timeout, || acquire(space, hash, false)))
        })
        .unwrap_or(false)
    })
    .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, move |error| {
        if timed_by_us { false } else { error.rethrow() }
    })
    .execute()
}

/// Gives back one lock of this call, so that a refused call leaves nothing. Where the transaction
/// had the lock before the call, it keeps it: the server counts.
pub fn unlock(space: Space, hash: u64) {
    as_transaction(|| {
        // SAFETY: the tag is fully initialised; the lock was taken by this resource owner.
        unsafe { pg_sys::LockRelease(&tag(space, hash), MODE, false) };
    });
}

const MODE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;

fn acquire(space: Space, hash: u64, dont_wait: bool) -> bool {
    as_transaction(|| {
        // SAFETY: the tag is fully initialised and outlives the call; sessionLock is false, so that
        // a rollback of the transaction or savepoint frees the lock.
        let result = unsafe { pg_sys::LockAcquire(&tag(space, hash), MODE, false, dont_wait) };
        result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    })
}

/// Runs `wait` with another `lock_timeout`, which is put back also when it raises an error.
fn with_timeout<R>(timeout: c_int, wait: impl FnOnce() -> R) -> R {
    struct PutBack(c_int);
    impl Drop for PutBack {
        fn drop(&mut self) {
            // SAFETY: writes a backend-local setting.
            unsafe { pg_sys::LockTimeout = self.0 };
        }
    }
    // SAFETY: reads and writes a backend-local setting.
    let _put_back = unsafe {
        let users = PutBack(pg_sys::LockTimeout);
        pg_sys::LockTimeout = timeout;
        users
    };
    wait()
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

fn tag(space: Space, hash: u64) -> pg_sys::LOCKTAG {
    // SAFETY: MyDatabaseId is set in every backend that runs SQL.
    let database = unsafe { pg_sys::MyDatabaseId };
    pg_sys::LOCKTAG {
        locktag_field1: u32::from(database),
        locktag_field2: (hash >> 32) as u32,
        locktag_field3: hash as u32,
        locktag_field4: space as u16,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}
