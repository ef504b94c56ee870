//! The per-key lock: a heavyweight lock of the transaction that decides about a resource.
//!
//! It lives in softlock's own part of the advisory locks' space (`field4` is neither 1 nor 2, the
//! values of pg_advisory_lock), so that it never meets an application's own advisory locks. It is
//! owned by the transaction or savepoint: a rollback of either frees it, a commit frees it after
//! the row is visible. Two resources whose 64-bit hashes are equal share a lock, which can only
//! make one of them answer `contended` once too often.

use std::ffi::c_int;

use pgrx::pg_sys;

unsafe extern "C-unwind" {
    /// The server's hash of a byte string; not in pgrx's bindings.
    fn hash_bytes_extended(bytes: *const u8, length: c_int, seed: u64) -> u64;
}

/// Whoever decides about a key.
const DECIDE: u16 = 0x510C;

/// Takes the lock on `resource` if nobody else has it; `false`, at once, if somebody has.
pub fn try_lock(resource: &str) -> bool {
    acquire(&tag(resource, DECIDE), true)
}

/// Takes the lock on `resource`, waiting for the transaction that has it. Subject to
/// `lock_timeout`, cancellation and the deadlock detector, as any lock of the server.
pub fn lock(resource: &str) {
    acquire(&tag(resource, DECIDE), false);
}

/// Gives back one `try_lock` or `lock` of this call, so that a refused call leaves nothing. Where
/// the transaction had the lock before the call, it keeps it: the server counts.
pub fn unlock(resource: &str) {
    release(&tag(resource, DECIDE));
}

fn acquire(tag: &pg_sys::LOCKTAG, dont_wait: bool) -> bool {
    // SAFETY: the tag is fully initialised and outlives the call; sessionLock is false, so the lock
    // belongs to the current resource owner and goes with it.
    let result = unsafe {
        pg_sys::LockAcquire(
            tag,
            pg_sys::ExclusiveLock as pg_sys::LOCKMODE,
            false,
            dont_wait,
        )
    };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

fn release(tag: &pg_sys::LOCKTAG) {
    // SAFETY: as in `acquire`. The lock was taken in this call, hence by this resource owner.
    unsafe { pg_sys::LockRelease(tag, pg_sys::ExclusiveLock as pg_sys::LOCKMODE, false) };
}

fn tag(resource: &str, kind: u16) -> pg_sys::LOCKTAG {
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
        locktag_field4: kind,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}
