//! Writing single lock rows without an executor, which would cost as much again as the write itself:
//! the same calls of the table and index access methods that it makes in the end.
//!
//! Who writes has looked (`probe`), and says which version of the row it has seen; that one is written
//! over, or nothing is. The server's own row-level machinery serializes writers.

use std::cell::OnceCell;

use pgrx::pg_sys::TM_Result::{self, TM_BeingModified, TM_Ok};
use pgrx::{IntoDatum, direct_function_call, pg_sys};

use super::probe::Probe;
use super::row::{self, COLUMNS, Place};
use crate::lock::Lock;

/// The lock rows, open for writing within one call.
pub struct Writer<'a> {
    probe: &'a Probe,
    table: pg_sys::Relation,
    indexes: pg_sys::CatalogIndexState,
    slot: *mut pg_sys::TupleTableSlot,
    token: pg_sys::Oid,
    command: OnceCell<pg_sys::CommandId>,
}

/// The indexes that a written row has to be put into: of an update, not those in which its old place
/// leads to the new one.
#[derive(Clone, Copy)]
enum Indexes {
    All,
    #[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
    Summarizing,
    None,
}

impl Writer<'_> {
    /// Opens the table, runs `write` and closes it; what was written is there for the next look. An
    /// ERROR inside leaves the closing to the transaction's abort.
    pub fn with<R>(probe: &Probe, write: impl FnOnce(&Writer) -> R) -> R {
        let writer = Writer::open(probe);
        let written = write(&writer);
        writer.close();
        written
    }

    fn open(probe: &Probe) -> Writer<'_> {
        // SAFETY: plain opens inside a transaction of a table that the probe has open, so that it
        // exists; locked as any writer locks it.
        unsafe {
            let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
            let table = pg_sys::table_open((*probe.table).rd_id, lock);
            let schema = (*(*table).rd_rel).relnamespace;
            Writer {
                probe,
                table,
                indexes: pg_sys::CatalogOpenIndexes(table),
                slot: pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &pg_sys::TTSOpsVirtual),
                token: pg_sys::get_relname_relid(c"token".as_ptr(), schema),
                command: OnceCell::new(),
            }
        }
    }

    fn close(self) {
        // SAFETY: all were opened by `open` and are used no more. The relation's lock stays, as with
        // any statement, until the transaction ends.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::CatalogCloseIndexes(self.indexes);
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
            pg_sys::CommandCounterIncrement();
        }
    }

    /// Whether the table is as the extension has made it. What an executor would do beyond writing
    /// row and indexes, nobody does here.
    pub fn is_plain(&self) -> bool {
        // SAFETY: reads the descriptors of open relations.
        unsafe {
            let constraints = (*(*self.table).rd_att).constr;
            (*self.table).trigdesc.is_null()
                && (constraints.is_null() || (*constraints).num_check == 0)
                && self.each_index().all(|(_, info)| {
                    (*info).ii_Expressions.is_null()
                        && (*info).ii_Predicate.is_null()
                        && (*info).ii_ExclusionOps.is_null()
                })
        }
    }

    /// A token larger than all before.
    pub fn draw_token(&self) -> i64 {
        // SAFETY: called with the one argument of its type, the sequence's oid.
        let token =
            unsafe { direct_function_call::<i64>(pg_sys::nextval_oid, &[self.token.into_datum()]) };
        token.expect("nextval answers")
    }

    /// Inserts the row of a resource that has none. The caller has the key's lock, so that nobody
    /// else can be inserting it.
    pub fn insert(&self, resource: &str, lock: &Lock) {
        self.fill(resource, lock);
        // SAFETY: the slot holds a row of the table's shape.
        unsafe {
            pg_sys::table_tuple_insert(
                self.table,
                self.slot,
                self.command(),
                0,
                std::ptr::null_mut(),
            );
            self.index(Indexes::All, |_| false);
        }
    }

    /// Writes `lock` over the version `seen`, without waiting; `false`, with nothing written, when
    /// another transaction is writing the row or has written it since, and when this transaction's
    /// snapshot does not see it.
    pub fn replace(&self, resource: &str, seen: &Lock, lock: &Lock) -> bool {
        self.fill(resource, lock);
        let Some(wait) = self.may_write(place(seen)) else {
            return false;
        };
        let (result, which) = self.update(place(seen), wait);
        if result != TM_Ok {
            return false;
        }
        // SAFETY: the update has left the row's new place in the slot.
        unsafe { self.index(which, |column| row::is_unchanged(column, seen, lock)) };
        true
    }

    /// Updates the version at `place` to what is in the slot.
    fn update(&self, mut place: Place, wait: bool) -> (TM_Result::Type, Indexes) {
        let mut failure = pg_sys::TM_FailureData::default();
        let mut mode = pg_sys::LockTupleMode::LockTupleNoKeyExclusive;
        let mut which = Default::default();
        // SAFETY: the slot holds a row of the table's shape; the place is that of a version that the
        // probe's snapshot sees, so it has not been given to another row.
        let result = unsafe {
            pg_sys::table_tuple_update(
                self.table,
                &mut place.pointer,
                self.slot,
                self.command(),
                self.probe.snapshot,
                transaction_snapshot(),
                wait,
                &mut failure,
                &mut mode,
                &mut which,
            )
        };
        #[cfg(any(feature = "pg13", feature = "pg14", feature = "pg15"))]
        let which = if which { Indexes::All } else { Indexes::None };
        #[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
        let which = match which {
            pg_sys::TU_UpdateIndexes::TU_All => Indexes::All,
            pg_sys::TU_UpdateIndexes::TU_Summarizing => Indexes::Summarizing,
            _ => Indexes::None,
        };
        (result, which)
    }

    /// Whether the version at `place` can be written without waiting; then, whether to allow the write
    /// to wait, which it does not do. A write draws a transaction id even in vain, a lock does not, so
    /// what somebody has touched is locked first; and what this transaction has locked is written only
    /// with leave to wait.
    fn may_write(&self, place: Place) -> Option<bool> {
        match place.untouched {
            true => Some(false),
            false => self.lock(place).then_some(true),
        }
    }

    /// Locks the version at `place`, if that takes no waiting.
    fn lock(&self, mut place: Place) -> bool {
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: as for `update`; the probe's slot is of the table's own kind.
        let result = unsafe {
            pg_sys::table_tuple_lock(
                self.table,
                &mut place.pointer,
                self.probe.snapshot,
                self.probe.slot,
                self.command(),
                pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                pg_sys::LockWaitPolicy::LockWaitSkip,
                0,
                &mut failure,
            )
        };
        // SAFETY: the slot lets go of the page, which a subtransaction may not keep.
        unsafe { pg_sys::ExecClearTuple(self.probe.slot) };
        result == TM_Ok
    }

    /// Deletes the version `seen`, waiting for another transaction that is writing the row; `false`
    /// when that one has changed it, or when this transaction's snapshot does not see it.
    pub fn delete(&self, seen: &Lock) -> bool {
        self.delete_at(place(seen), true) == TM_Ok
    }

    /// Deletes the version at `place`; `false`, without waiting, when another transaction is writing
    /// the row or has written it since, and when this transaction's snapshot does not see it.
    pub fn delete_if_free(&self, place: Place) -> bool {
        let result = self.delete_at(place, false);
        if result == TM_BeingModified {
            return self.lock(place) && self.delete_at(place, true) == TM_Ok;
        }
        result == TM_Ok
    }

    fn delete_at(&self, mut place: Place, wait: bool) -> TM_Result::Type {
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: as for `update`.
        unsafe {
            pg_sys::table_tuple_delete(
                self.table,
                &mut place.pointer,
                self.command(),
                self.probe.snapshot,
                transaction_snapshot(),
                wait,
                &mut failure,
                false,
            )
        }
    }

    /// The command that what is written here belongs to; the same until the writer is closed.
    fn command(&self) -> pg_sys::CommandId {
        // SAFETY: inside a transaction that may write.
        *self
            .command
            .get_or_init(|| unsafe { pg_sys::GetCurrentCommandId(true) })
    }

    /// Puts a row into the slot.
    fn fill(&self, resource: &str, lock: &Lock) {
        // SAFETY: the slot's arrays have room for every column; what the values point to lives in
        // the call's memory context.
        unsafe {
            pg_sys::ExecClearTuple(self.slot);
            for (at, value) in row::values(resource, lock).into_iter().enumerate() {
                *(*self.slot).tts_isnull.add(at) = value.is_none();
                *(*self.slot).tts_values.add(at) = value.unwrap_or(pg_sys::Datum::from(0));
            }
            for at in COLUMNS..(*(*self.table).rd_att).natts as usize {
                *(*self.slot).tts_isnull.add(at) = true;
            }
            pg_sys::ExecStoreVirtualTuple(self.slot);
        }
    }

    /// Puts the row in the slot, which has been written, into the indexes; `unchanged` says of a
    /// column whether the older version has the same value.
    ///
    /// # Safety
    /// The slot must know the place of the row.
    unsafe fn index(&self, which: Indexes, unchanged: impl Fn(i32) -> bool) {
        let mut values = [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
        // SAFETY: the arrays have room for the columns of any index; without expressions and
        // predicates (see `is_plain`) an executor's state is not asked for.
        unsafe {
            for (index, info) in self.each_index() {
                let wanted = match which {
                    Indexes::All => true,
                    Indexes::None => false,
                    #[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
                    Indexes::Summarizing => (*info).ii_Summarizing,
                };
                if !wanted || !(*info).ii_ReadyForInserts {
                    continue;
                }
                let unique = (*(*index).rd_index).indisunique;
                pg_sys::FormIndexDatum(
                    info,
                    self.slot,
                    std::ptr::null_mut(),
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                );
                pg_sys::index_insert(
                    index,
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                    &mut (*self.slot).tts_tid,
                    self.table,
                    match unique {
                        true => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES,
                        false => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                    },
                    #[cfg(not(feature = "pg13"))]
                    unchanged((*info).ii_IndexAttrNumbers[0].into()),
                    info,
                );
            }
        }
        #[cfg(feature = "pg13")]
        let _ = unchanged;
    }

    fn each_index(&self) -> impl Iterator<Item = (pg_sys::Relation, *mut pg_sys::IndexInfo)> {
        // SAFETY: the arrays have an element per index, and live as long as the writer.
        unsafe {
            let state = self.indexes;
            (0..(*state).ri_NumIndices as usize).map(move |at| {
                (
                    *(*state).ri_IndexRelationDescs.add(at),
                    *(*state).ri_IndexRelationInfo.add(at),
                )
            })
        }
    }
}

fn place(seen: &Lock) -> Place {
    seen.place.expect("the row was looked up alone")
}

/// The snapshot that a written row must be visible to: the transaction's, if it keeps one.
fn transaction_snapshot() -> pg_sys::Snapshot {
    match super::uses_transaction_snapshot() {
        // SAFETY: inside a transaction.
        true => unsafe { pg_sys::GetTransactionSnapshot() },
        false => std::ptr::null_mut(),
    }
}
