//! Writing single lock rows without an executor, which would cost as much again as the write itself:
//! the same calls of the table and index access methods that it makes in the end.
//!
//! Who writes has looked (`probe`), and says which version of the row it has seen; that one is written
//! over, or nothing is. The server's own row-level machinery serializes writers.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::pg_sys::TM_Result::{self, TM_Ok};

use super::Timestamp;
use super::probe::Probe;
use super::relations::{self, Patience};
use super::row::{self, Place, Texts};
use crate::error::Error;
use crate::lock::Lock;
use crate::names::Resource;

/// The lock rows, open for writing within one call.
pub struct Writer {
    table: pg_sys::Relation,
    indexes: pg_sys::CatalogIndexState,
    slot: *mut pg_sys::TupleTableSlot,
    /// The command that what is written here belongs to; the same until the writer is closed.
    command: Cell<Option<pg_sys::CommandId>>,
}

/// What came of writing a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Another transaction, which has not ended, has locked or written it.
    Busy,
    /// It has been written or deleted since, or this transaction's snapshot does not see it.
    Gone,
}

impl From<TM_Result::Type> for Written {
    fn from(result: TM_Result::Type) -> Self {
        match result {
            TM_Result::TM_Ok => Written::Done,
            TM_Result::TM_BeingModified | TM_Result::TM_WouldBlock => Written::Busy,
            _ => Written::Gone,
        }
    }
}

/// Whether to wait for another transaction that is writing the row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Yes,
    No,
}

/// The indexes that a written row has to be put into: of an update, not those in which its old place
/// leads to the new one.
#[derive(Clone, Copy)]
pub(super) enum Indexes {
    All,
    #[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
    Summarizing,
    None,
}

impl Writer {
    /// Opens what the probe has open, for writing.
    pub fn open(probe: &Probe, patience: Patience) -> Result<Writer, Error> {
        relations::lock_for_writing(&probe.oids, patience)?;
        // SAFETY: plain opens inside a transaction of a table that has been locked for it.
        unsafe {
            let table = pg_sys::table_open(probe.oids.table, pg_sys::NoLock as pg_sys::LOCKMODE);
            Ok(Writer {
                table,
                indexes: pg_sys::CatalogOpenIndexes(table),
                slot: pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &pg_sys::TTSOpsVirtual),
                command: Cell::new(None),
            })
        }
    }

    /// Closes it; what was written is there for the next look.
    pub fn close(self) {
        // SAFETY: all were opened by `open` and are used no more. The relation's lock stays, as with
        // any statement, until the transaction ends.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::CatalogCloseIndexes(self.indexes);
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
            if self.command.get().is_some() {
                pg_sys::CommandCounterIncrement();
            }
        }
    }

    /// Inserts a row for a resource that nothing live is to be seen of. The caller is inside the
    /// resource's mutex, so that nobody else can be doing the same.
    pub fn insert(&self, resource: &[u8], lock: &Lock) {
        let texts = Texts::of(resource, lock);
        self.fill(&texts, lock);
        // SAFETY: the slot holds a row of the table's shape.
        unsafe {
            pg_sys::table_tuple_insert(
                self.table,
                self.slot,
                self.command(),
                0,
                std::ptr::null_mut(),
            );
            #[cfg(feature = "broken_early_unlock")]
            super::mutex::broken::before_index();
            self.index(Indexes::All, false);
        }
    }

    /// Writes `lock` over the live lock `seen`, without waiting. One that lapses before its row shows that it
    /// is being written must not come back: who takes units beside it counts it as gone from then on, and
    /// touches no row of its.
    pub fn replace(
        &self,
        probe: &Probe,
        resource: &Resource,
        seen: &Lock,
        lock: &Lock,
    ) -> Result<Written, Error> {
        let place = seen.place();
        let lapses_soon = !seen.is_live(Timestamp::now().plus_micros(SOON));
        // A write draws a transaction id even in vain, a lock does not; so what somebody has touched is
        // locked first, and what this transaction has locked is written with leave to wait.
        let lock_first = lapses_soon || !place.untouched;
        if lock_first {
            let locked = self.lock(probe, place, KEY_WRITE, Wait::No);
            if locked != Written::Done {
                return Ok(locked);
            }
            if !seen.is_live(Timestamp::now()) {
                return Ok(Written::Gone);
            }
        }
        let texts = Texts::of(resource.as_bytes(), lock);
        self.fill(&texts, lock);
        let (result, which) = self.update(probe, place, lock_first);
        if result == TM_Ok {
            if !lock_first && !seen.is_live(Timestamp::now()) {
                let resource = resource.as_text().clone();
                return Err(Error::Serialization { resource });
            }
            // SAFETY: the update has left the row's new place in the slot.
            unsafe { self.index(which, true) };
        }
        Ok(result.into())
    }

    /// Updates the version at `place` to what is in the slot.
    fn update(&self, probe: &Probe, place: Place, wait: bool) -> (TM_Result::Type, Indexes) {
        let mut failure = pg_sys::TM_FailureData::default();
        let mut mode = KEY_WRITE;
        let mut which = Default::default();
        // SAFETY: the slot holds a row of the table's shape; the place is that of a version that the
        // probe's snapshot sees, so it has not been given to another row.
        let result = unsafe {
            pg_sys::table_tuple_update(
                self.table,
                &mut place.pointer(),
                self.slot,
                self.command(),
                probe.snapshot(),
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

    /// Keeps the version at `seen` as it is until this transaction ends, whoever would write it.
    pub fn keep(&self, probe: &Probe, seen: Place, wait: Wait) -> Written {
        self.lock(probe, seen, pg_sys::LockTupleMode::LockTupleKeyShare, wait)
    }

    /// Waits until nobody else is writing the version at `seen`, and keeps others from writing it.
    pub fn wait(&self, probe: &Probe, seen: Place) -> Written {
        self.lock(probe, seen, KEY_WRITE, Wait::Yes)
    }

    fn lock(
        &self,
        probe: &Probe,
        place: Place,
        mode: pg_sys::LockTupleMode::Type,
        wait: Wait,
    ) -> Written {
        let mut failure = pg_sys::TM_FailureData::default();
        let policy = match wait {
            Wait::Yes => pg_sys::LockWaitPolicy::LockWaitBlock,
            Wait::No => pg_sys::LockWaitPolicy::LockWaitSkip,
        };
        // SAFETY: as for `update`; the probe's slot is of the table's own kind.
        let result = unsafe {
            pg_sys::table_tuple_lock(
                self.table,
                &mut place.pointer(),
                probe.snapshot(),
                probe.slot,
                self.command(),
                mode,
                policy,
                0,
                &mut failure,
            )
        };
        // SAFETY: the slot lets go of the page, which a subtransaction may not keep.
        unsafe { pg_sys::ExecClearTuple(probe.slot) };
        result.into()
    }

    /// Deletes the version at `seen`.
    pub fn delete(&self, probe: &Probe, seen: Place, wait: Wait) -> Written {
        if wait == Wait::No && !seen.untouched {
            let locked = self.lock(probe, seen, KEY_WRITE, Wait::No);
            if locked != Written::Done {
                return locked;
            }
        }
        let wait = wait == Wait::Yes || !seen.untouched;
        self.delete_at(probe, seen, wait).into()
    }

    fn delete_at(&self, probe: &Probe, place: Place, wait: bool) -> TM_Result::Type {
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: as for `update`.
        unsafe {
            pg_sys::table_tuple_delete(
                self.table,
                &mut place.pointer(),
                self.command(),
                probe.snapshot(),
                transaction_snapshot(),
                wait,
                &mut failure,
                false,
            )
        }
    }

    fn command(&self) -> pg_sys::CommandId {
        // SAFETY: inside a transaction that may write.
        let command = self
            .command
            .get()
            .unwrap_or_else(|| unsafe { pg_sys::GetCurrentCommandId(true) });
        self.command.set(Some(command));
        command
    }

    /// Puts a row into the slot, which is of use for as long as the texts live.
    fn fill(&self, texts: &Texts, lock: &Lock) {
        // SAFETY: the slot is of the table's shape, which has these columns.
        unsafe { fill(self.slot, self.table, &row::values(texts, lock)) };
    }

    /// Puts the row in the slot, which has been written, into the indexes.
    ///
    /// # Safety
    /// The slot must know the place of the row.
    unsafe fn index(&self, which: Indexes, is_newer_version: bool) {
        // SAFETY: as the caller says; the indexes are open.
        unsafe { index(self.slot, self.table, self.indexes, which, is_newer_version) };
    }
}

/// Puts a row into a virtual slot.
///
/// # Safety
/// The slot must be of the table's shape, whose first columns are those of the values. What they point to
/// must live as long as the row is used.
pub(super) unsafe fn fill(
    slot: *mut pg_sys::TupleTableSlot,
    table: pg_sys::Relation,
    values: &[Option<pg_sys::Datum>],
) {
    // SAFETY: the slot's arrays have room for every column. Columns beyond softlock's own have been
    // dropped.
    unsafe {
        pg_sys::ExecClearTuple(slot);
        for at in 0..(*(*table).rd_att).natts as usize {
            let value = values.get(at).copied().flatten();
            *(*slot).tts_isnull.add(at) = value.is_none();
            *(*slot).tts_values.add(at) = value.unwrap_or(pg_sys::Datum::from(0));
        }
        pg_sys::ExecStoreVirtualTuple(slot);
    }
}

/// Puts the row in the slot, which has been written, into the indexes; where it is a newer version of
/// one that is there, a full page gets rid of dead ones before it is split.
///
/// # Safety
/// The slot must know the place of the row; table and indexes must be open, and have been checked.
pub(super) unsafe fn index(
    slot: *mut pg_sys::TupleTableSlot,
    table: pg_sys::Relation,
    indexes: pg_sys::CatalogIndexState,
    which: Indexes,
    is_newer_version: bool,
) {
    let mut values = [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
    let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
    // SAFETY: the arrays have room for the columns of any index, of which each is one of the table's, as there
    // are no expressions and predicates (see `altered`).
    unsafe {
        for at in 0..(*indexes).ri_NumIndices as usize {
            let index = *(*indexes).ri_IndexRelationDescs.add(at);
            let info = *(*indexes).ri_IndexRelationInfo.add(at);
            let wanted = match which {
                Indexes::All => true,
                Indexes::None => false,
                #[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
                Indexes::Summarizing => (*info).ii_Summarizing,
            };
            if !wanted || !(*info).ii_ReadyForInserts {
                continue;
            }
            let info = &mut *info;
            let columns = info.ii_IndexAttrNumbers.iter();
            for (at, &column) in columns.take(info.ii_NumIndexAttrs as usize).enumerate() {
                let column = column as usize - 1;
                values[at] = *(*slot).tts_values.add(column);
                nulls[at] = *(*slot).tts_isnull.add(column);
            }
            pg_sys::index_insert(
                index,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
                &mut (*slot).tts_tid,
                table,
                match (*(*index).rd_index).indisunique {
                    true => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES,
                    false => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                },
                #[cfg(not(feature = "pg13"))]
                is_newer_version,
                info,
            );
        }
    }
    #[cfg(feature = "pg13")]
    let _ = is_newer_version;
}

/// What lapses within so many microseconds is locked before it is written. No process pauses for longer
/// between two steps, and if one does its write fails.
const SOON: i64 = 5_000_000;

/// Every write changes the version, a column of the primary key.
const KEY_WRITE: pg_sys::LockTupleMode::Type = pg_sys::LockTupleMode::LockTupleExclusive;

/// The snapshot that a written row must be visible to: the transaction's, if it keeps one.
fn transaction_snapshot() -> pg_sys::Snapshot {
    match super::uses_transaction_snapshot() {
        // SAFETY: inside a transaction.
        true => unsafe { pg_sys::GetTransactionSnapshot() },
        false => std::ptr::null_mut(),
    }
}
