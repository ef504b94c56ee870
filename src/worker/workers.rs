//! The background workers that this process has started: to ask whether they have ended, and to end
//! them. They end with this process, so that none is left waiting in a slot that nobody looks after.

use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::Relaxed;

use pgrx::bgworkers::BackgroundWorkerBuilder;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::prelude::*;

use super::orders::SWEEPERS;

type Handle = pg_sys::BackgroundWorkerHandle;

/// NULL where none runs.
static STARTED: [AtomicPtr<Handle>; SWEEPERS] = [const { AtomicPtr::new(null_mut()) }; SWEEPERS];

/// Starts a worker in a place where none runs; false when the server has no slot free for it.
pub fn start(at: usize, worker: BackgroundWorkerBuilder) -> bool {
    static WITH_US: Once = Once::new();
    // SAFETY: the callback needs nothing but what is static.
    WITH_US.call_once(|| unsafe { pg_sys::before_shmem_exit(Some(end_all), 0.into()) });
    // SAFETY: this process's id, so that the worker's start and end set our latch.
    let mut worker = (&worker.set_notify_pid(unsafe { pg_sys::MyProcPid })).into();
    let mut handle = null_mut();
    // SAFETY: both outlive the call. The handle is to live until `has_ended` frees it.
    let started = unsafe {
        PgMemoryContexts::TopMemoryContext
            .switch_to(|_| pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle))
    };
    if started {
        STARTED[at].store(handle, Relaxed);
    }
    started
}

/// Whether the worker that was started there has ended; then the place is free.
pub fn has_ended(at: usize) -> bool {
    let handle = STARTED[at].load(Relaxed);
    if handle.is_null() {
        return true;
    }
    let mut pid = 0;
    // SAFETY: a handle that the server gave us and that nobody has freed.
    let status = unsafe { pg_sys::GetBackgroundWorkerPid(handle, &mut pid) };
    let ended = status == pg_sys::BgwHandleStatus::BGWH_STOPPED;
    if ended {
        STARTED[at].store(null_mut(), Relaxed);
        // SAFETY: allocated by `start`; nobody else has it.
        unsafe { pg_sys::pfree(handle.cast()) };
    }
    ended
}

/// Ends the worker that was started there, also one that the postmaster has not got to yet.
pub fn end(at: usize) {
    let handle = STARTED[at].load(Relaxed);
    if !handle.is_null() {
        // SAFETY: a handle that the server gave us and that nobody has freed.
        unsafe { pg_sys::TerminateBackgroundWorker(handle) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn end_all(_code: c_int, _argument: pg_sys::Datum) {
    (0..SWEEPERS).for_each(end);
}
