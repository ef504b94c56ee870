//! `softlock.history`: its rows written and removed without an executor, as those of the locks are, and so
//! without any rights of the caller's; and never by waiting for anybody.

use std::cell::Cell;

use pgrx::datum::Interval;
use pgrx::pg_sys::{self, ScanDirection, TM_Result};
use pgrx::{FromDatum, IntoDatum};

use super::altered::{self, Column, Shape};
use super::probe::begin_scan;
use super::relations::{self, Patience};
use super::text_datum::text_datum;
use super::writer::{self, Indexes};
use super::{Timestamp, clock, scan_key};
use crate::error::Error;
use crate::history::Entry;

const COLUMNS: [Column; 12] = [
    (c"id", pg_sys::INT8OID, true),
    (c"at", pg_sys::TIMESTAMPTZOID, true),
    (c"event", pg_sys::TEXTOID, true),
    (c"resource", pg_sys::TEXTOID, true),
    (c"owner", pg_sys::TEXTOID, true),
    (c"session", pg_sys::TEXTOID, false),
    (c"token", pg_sys::INT8OID, true),
    (c"role", pg_sys::REGROLEOID, true),
    (c"actor", pg_sys::TEXTOID, true),
    (c"reason", pg_sys::TEXTOID, false),
    (c"held", pg_sys::INTERVALOID, false),
    (c"units", pg_sys::INT4OID, true),
];
const ID: usize = 0;
const AT: usize = 1;

/// No row with its pointer takes less of a page: four bytes, a header of 32, and the columns that are
/// never NULL, of a byte at least where they are text.
const LEAST_BYTES: u32 = 80;

const NO_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Oids {
    table: pg_sys::Oid,
    primary_key: pg_sys::Oid,
    by_resource: pg_sys::Oid,
}

thread_local! {
    /// What was found and checked, until the server says that it may have changed.
    static KNOWN: Cell<Option<Oids>> = const { Cell::new(None) };
    /// The last transaction of which something is not in the history.
    static MISSED: Cell<pg_sys::TransactionId> = const { Cell::new(pg_sys::TransactionId::INVALID) };
}

/// To be told what may have changed; the invalid one means everything.
pub(super) fn relation_changed(relation: pg_sys::Oid) {
    let touches = |oids: Oids| {
        let all = [oids.table, oids.primary_key, oids.by_resource];
        relation == pg_sys::InvalidOid || all.contains(&relation)
    };
    if KNOWN.get().is_some_and(touches) {
        KNOWN.set(None);
    }
}

/// Whether nothing of this transaction, which has written something, was missed before.
pub fn is_first_missed() -> bool {
    // SAFETY: reads backend-local state.
    let transaction = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    MISSED.replace(transaction) != transaction
}

/// Finds the table and locks it for writing; its indexes can then be locked without waiting.
fn lock() -> Result<Oids, Error> {
    relations::watch();
    loop {
        let oids = KNOWN.get().map_or_else(find, Ok)?;
        let writing = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        relations::lock(oids.table, writing, Patience::None).map_err(of_history)?;
        // Locking has heard of what changed meanwhile.
        if KNOWN.get() == Some(oids) {
            return Ok(oids);
        }
        if find()? == oids {
            check(&oids).map_err(of_history)?;
            KNOWN.set(Some(oids));
        }
    }
}

fn of_history(error: Error) -> Error {
    match error {
        Error::TableLocked => Error::HistoryLocked,
        error => error,
    }
}

fn find() -> Result<Oids, Error> {
    let oid = |name| relations::oid("history", name);
    Ok(Oids {
        table: oid(c"history")?,
        primary_key: oid(c"history_pkey")?,
        by_resource: oid(c"history_resource_idx")?,
    })
}

fn check(oids: &Oids) -> Result<(), Error> {
    altered::check_shape(&Shape {
        name: "history",
        table: oids.table,
        owner: relations::known()?.owner,
        columns: &COLUMNS,
        indexes: &[
            ("history_pkey", oids.primary_key, &[1], true),
            ("history_resource_idx", oids.by_resource, &[4, 1], false),
        ],
    })
}

/// Writes a row, as part of the current transaction. `HistoryLocked` where somebody has the table locked.
pub fn append(entry: &Entry) -> Result<(), Error> {
    let oids = lock()?;
    // Numbers of the locks' clock, which go with the time and are never given twice.
    let id = clock::draw(&relations::known()?, 0)?;
    // SAFETY: the table is locked and has been checked; what is opened is closed, by the transaction's
    // abort after an ERROR; what is palloc'd goes with a memory context of its own, as a sweep may
    // write a row for each of very many.
    unsafe {
        let memory = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            c"softlock history".as_ptr(),
            pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
            pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let outer = pg_sys::MemoryContextSwitchTo(memory);
        let table = pg_sys::table_open(oids.table, NO_LOCK);
        let indexes = pg_sys::CatalogOpenIndexes(table);
        let slot = pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &pg_sys::TTSOpsVirtual);
        writer::fill(slot, table, &values(id, entry));
        let command = pg_sys::GetCurrentCommandId(true);
        pg_sys::table_tuple_insert(table, slot, command, 0, std::ptr::null_mut());
        writer::index(slot, table, indexes, Indexes::All, false);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::CatalogCloseIndexes(indexes);
        pg_sys::table_close(table, NO_LOCK);
        pg_sys::MemoryContextSwitchTo(outer);
        pg_sys::MemoryContextDelete(memory);
    }
    Ok(())
}

/// The columns' values, in order; what they point to is in the current memory context.
fn values(id: i64, entry: &Entry) -> [Option<pg_sys::Datum>; COLUMNS.len()] {
    let lock = entry.lock;
    let actor = super::role_name(super::current_role());
    [
        id.into_datum(),
        entry.at.raw().into_datum(),
        Some(text_datum(entry.event.name().as_bytes())),
        Some(text_datum(entry.resource.as_bytes())),
        Some(text_datum(lock.owner.as_bytes())),
        lock.session
            .as_ref()
            .map(|session| text_datum(session.as_bytes())),
        lock.token.into_datum(),
        lock.role.into_datum(),
        Some(text_datum(actor.as_bytes())),
        entry
            .reason
            .map(|reason| text_datum(reason.as_text().as_bytes())),
        entry
            .held
            .and_then(|micros| Interval::from_micros(micros).into_datum()),
        lock.units.into_datum(),
    ]
}

/// What was removed.
pub struct Pruned {
    pub count: u64,
    /// The last row that was looked at.
    pub last: Option<i64>,
    /// Whether it has stopped because it was enough for once.
    pub more: bool,
}

/// The newest row beyond the newest `keep`; `None` where there are no more than that.
pub fn beyond(keep: i32) -> Result<Option<i64>, Error> {
    let oids = lock()?;
    Ok(with_scan(
        &oids,
        ScanDirection::BackwardScanDirection,
        None,
        |table, next| {
            // SAFETY: reads the size of an open table.
            let blocks = unsafe {
                pg_sys::RelationGetNumberOfBlocksInFork(table, pg_sys::ForkNumber::MAIN_FORKNUM)
            };
            // So few fit into it that they need not be counted.
            let most = u64::from(blocks) * u64::from(pg_sys::BLCKSZ / LEAST_BYTES);
            if most <= keep as u64 {
                return None;
            }
            for _ in 0..keep {
                next()?;
            }
            next().map(|row| row.id)
        },
    ))
}

/// Removes up to `max_rows` of the rows after `after`, oldest first, as long as they are from before
/// `too_old` or not after `too_many`; leaves those that another transaction has locked.
pub fn prune(
    after: Option<i64>,
    too_many: Option<i64>,
    too_old: Timestamp,
    max_rows: i32,
) -> Result<Pruned, Error> {
    let oids = lock()?;
    let forward = ScanDirection::ForwardScanDirection;
    Ok(with_scan(&oids, forward, after, |table, next| {
        let mut pruned = Pruned {
            count: 0,
            last: None,
            more: false,
        };
        while !pruned.more
            && let Some(row) = next()
            && (row.at < too_old || too_many.is_some_and(|too_many| row.id <= too_many))
        {
            pruned.last = Some(row.id);
            pruned.count += u64::from(delete(table, row.place));
            pruned.more = pruned.count == max_rows as u64;
        }
        pruned
    }))
}

/// Deletes a row that the newest snapshot sees; answers whether nobody else was at it.
fn delete(table: pg_sys::Relation, mut place: pg_sys::ItemPointerData) -> bool {
    let mut failure = pg_sys::TM_FailureData::default();
    // SAFETY: the table is open, and the row still seen by a snapshot that is registered.
    let result = unsafe {
        pg_sys::table_tuple_delete(
            table,
            &mut place,
            pg_sys::GetCurrentCommandId(true),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            false,
            &mut failure,
            false,
        )
    };
    result == TM_Result::TM_Ok
}

/// A row that a scan has come to.
struct Found {
    id: i64,
    at: Timestamp,
    place: pg_sys::ItemPointerData,
}

/// Has `work` walk the rows by their numbers, in this direction, those after `after`. Can be cancelled.
fn with_scan<R>(
    oids: &Oids,
    direction: ScanDirection::Type,
    after: Option<i64>,
    work: impl FnOnce(pg_sys::Relation, &mut dyn FnMut() -> Option<Found>) -> R,
) -> R {
    // SAFETY: the table is locked and has been checked, so that its first columns are these; what is
    // opened is closed, by the transaction's abort after an ERROR; the key is compared by the index's own
    // operator; the snapshot outlives the scan.
    unsafe {
        let table = pg_sys::table_open(oids.table, NO_LOCK);
        let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        let index = pg_sys::index_open(oids.primary_key, lock);
        let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let mut keys: Vec<_> = after
            .map(|id| scan_key::number_after(1, id))
            .into_iter()
            .collect();
        let count = keys.len();
        let scan = begin_scan(table, index, snapshot, count);
        pg_sys::index_rescan(
            scan,
            keys.as_mut_ptr(),
            count as i32,
            std::ptr::null_mut(),
            0,
        );
        let mut next = || {
            pgrx::check_for_interrupts!();
            pg_sys::index_getnext_slot(scan, direction, slot).then(|| {
                pg_sys::slot_getsomeattrs_int(slot, AT as i32 + 1);
                let value = |at: usize| {
                    let value = i64::from_datum(*(*slot).tts_values.add(at), false);
                    value.expect("the first columns are not null")
                };
                Found {
                    id: value(ID),
                    at: Timestamp::from_raw(value(AT)),
                    place: (*slot).tts_tid,
                }
            })
        };
        let done = work(table, &mut next);
        pg_sys::index_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::index_close(index, NO_LOCK);
        pg_sys::table_close(table, NO_LOCK);
        done
    }
}
