//! What has become of the version of a row that an index leads to, as of one snapshot.
//!
//! A scan by `SnapshotAny` brings every version, newest first; the snapshot judges each. That one
//! snapshot judges all of them is what makes the first verdict final: judged one by one "as it is now", a
//! renewal that commits between two versions would make a held resource look free.

use pgrx::pg_sys::{self, TransactionId};

/// What a version is as of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The snapshot sees it.
    Visible,
    /// Written by a transaction that had committed, or by this one, and deleted since.
    Deleted,
    /// Written by a transaction, or a savepoint, that was rolled back.
    Aborted,
    /// Written by a transaction that had not ended.
    Uncommitted(TransactionId),
}

/// Whose view it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Eyes {
    /// This transaction's, for which what it has written itself is done.
    Own,
    /// Everybody else's, who can't tell yet how this transaction ends.
    Others,
}

/// What the version in the slot is to these eyes.
///
/// # Safety
/// As for `judge`.
pub unsafe fn judge_as(
    eyes: Eyes,
    table: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: pg_sys::Snapshot,
) -> Verdict {
    // SAFETY: as the caller says; both look at this transaction only.
    unsafe {
        let is_own = |xid: &TransactionId| pg_sys::TransactionIdIsCurrentTransactionId(*xid);
        if eyes == Eyes::Others {
            let header = &*header(slot);
            let hints = u32::from(header.t_infomask) & pg_sys::HEAP_XMIN_FROZEN;
            let inserter = header.t_choice.t_heap.t_xmin;
            if hints == 0 && is_own(&inserter) {
                return Verdict::Uncommitted(inserter);
            }
        }
        match judge(table, slot, snapshot) {
            // It was there to be deleted.
            Verdict::Deleted if eyes == Eyes::Others && toucher(slot, is_own).is_some() => {
                Verdict::Visible
            }
            verdict => verdict,
        }
    }
}

/// What the version in the slot is to this transaction.
///
/// # Safety
/// The slot must hold a row of `table`, a heap; the snapshot must be registered.
pub unsafe fn judge(
    table: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: pg_sys::Snapshot,
) -> Verdict {
    // SAFETY: as the caller says. The inserter of a row that is pinned does not change.
    unsafe {
        if pg_sys::table_tuple_satisfies_snapshot(table, slot, snapshot) {
            return Verdict::Visible;
        }
        let header = &*header(slot);
        let mask = u32::from(header.t_infomask) & pg_sys::HEAP_XMIN_FROZEN;
        // First, since the inserter of a frozen row may be older than what the server remembers.
        if mask == pg_sys::HEAP_XMIN_FROZEN {
            return Verdict::Deleted;
        }
        if mask == pg_sys::HEAP_XMIN_INVALID {
            return Verdict::Aborted;
        }
        let inserter = header.t_choice.t_heap.t_xmin;
        if pg_sys::TransactionIdIsCurrentTransactionId(inserter) {
            return Verdict::Deleted;
        }
        if pg_sys::XidInMVCCSnapshot(inserter, snapshot) {
            // The snapshot can't tell a rolled-back savepoint of a transaction that goes on.
            return match has_ended(inserter) && !pg_sys::TransactionIdDidCommit(inserter) {
                true => Verdict::Aborted,
                false => Verdict::Uncommitted(inserter),
            };
        }
        // Only now does "committed" mean "as of the snapshot".
        match mask == pg_sys::HEAP_XMIN_COMMITTED || pg_sys::TransactionIdDidCommit(inserter) {
            true => Verdict::Deleted,
            false => Verdict::Aborted,
        }
    }
}

/// Whether a transaction is not in progress any more.
pub fn has_ended(transaction: TransactionId) -> bool {
    // SAFETY: looks through the running transactions.
    unsafe { !pg_sys::TransactionIdIsInProgress(transaction) }
}

/// Whether nobody can see a deleted version any more, so that the index may forget it.
///
/// # Safety
/// The slot must hold a row of `table`.
pub unsafe fn is_dead_to_all(table: pg_sys::Relation, slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: as the caller says; reads hints, which are only ever added.
    unsafe {
        let tuple = (*slot.cast::<pg_sys::HeapTupleTableSlot>()).tuple;
        #[cfg(feature = "pg13")]
        {
            let _ = table;
            pg_sys::HeapTupleIsSurelyDead(tuple, pg_sys::RecentGlobalXmin)
        }
        #[cfg(not(feature = "pg13"))]
        pg_sys::HeapTupleIsSurelyDead(tuple, pg_sys::GlobalVisTestFor(table))
    }
}

/// Another transaction than whose view it is, still running, that is deleting, updating or locking the visible
/// row in `slot`.
///
/// # Safety
/// The slot must hold a row in a buffer.
pub unsafe fn ender(eyes: Eyes, slot: *mut pg_sys::TupleTableSlot) -> Option<TransactionId> {
    // SAFETY: looks at this transaction, and through the running ones.
    let others = |&xid: &TransactionId| unsafe {
        (eyes == Eyes::Others || !pg_sys::TransactionIdIsCurrentTransactionId(xid))
            && !has_ended(xid)
    };
    // SAFETY: as the caller says.
    unsafe { toucher(slot, others) }
}

/// One of these transactions that is, or was, deleting, updating or locking the row in `slot`.
///
/// # Safety
/// The slot must hold a row in a buffer.
unsafe fn toucher(
    slot: *mut pg_sys::TupleTableSlot,
    is_wanted: impl Fn(&TransactionId) -> bool,
) -> Option<TransactionId> {
    // SAFETY: as the caller says; the buffer's lock keeps writers out while the two fields are read.
    let (mask, xmax) = unsafe {
        let header = header(slot);
        if u32::from((*header).t_infomask) & pg_sys::HEAP_XMAX_INVALID != 0 {
            return None;
        }
        let buffer = (*slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).buffer;
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let read = (
            u32::from((*header).t_infomask),
            (*header).t_choice.t_heap.t_xmax,
        );
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
        read
    };
    if mask & pg_sys::HEAP_XMAX_INVALID != 0 {
        return None;
    }
    if mask & pg_sys::HEAP_XMAX_IS_MULTI == 0 {
        return Some(xmax).filter(is_wanted);
    }
    let only_locked = mask & pg_sys::HEAP_XMAX_LOCK_ONLY != 0;
    // SAFETY: the members come palloc'd, as many as it says, -1 for none.
    unsafe {
        let mut members = std::ptr::null_mut();
        let count = pg_sys::GetMultiXactIdMembers(xmax, &mut members, false, only_locked);
        let toucher = (0..count.max(0) as usize)
            .map(|at| (*members.add(at)).xid)
            .find(is_wanted);
        if count > 0 {
            pg_sys::pfree(members.cast());
        }
        toucher
    }
}

/// Whether nobody has locked or begun to write the row in `slot`, as far as one can tell without its
/// buffer's lock.
///
/// # Safety
/// The slot must hold a row in a buffer.
pub unsafe fn is_untouched(slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: as the caller says.
    unsafe { u32::from((*header(slot)).t_infomask) & pg_sys::HEAP_XMAX_INVALID != 0 }
}

/// The process of a running transaction or savepoint; `None` for a prepared one.
pub fn pid_of(transaction: TransactionId) -> Option<i32> {
    // SAFETY: the transaction was running when a registered snapshot was taken, or later.
    let pid = unsafe { pg_sys::BackendXidGetPid(top_of(transaction)) };
    (pid != 0).then_some(pid)
}

/// The transaction that a savepoint belongs to.
pub fn top_of(transaction: TransactionId) -> TransactionId {
    // SAFETY: as for pid_of.
    unsafe { pg_sys::SubTransGetTopmostTransaction(transaction) }
}

unsafe fn header(slot: *mut pg_sys::TupleTableSlot) -> pg_sys::HeapTupleHeader {
    // SAFETY: the caller vouches for a row of a heap.
    unsafe { (*(*slot.cast::<pg_sys::HeapTupleTableSlot>()).tuple).t_data }
}
