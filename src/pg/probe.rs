//! Looking at a resource without an executor: one descent of the primary key to its newest version, which
//! costs a fraction of a SELECT and takes no transaction id, no row lock and no WAL.
//!
//! It reads with the newest snapshot, not the transaction's: who holds a lock is decided on what is
//! committed now (and on what this transaction did itself), also in REPEATABLE READ. How a version is
//! judged, and why the first verdict is final: see `visibility`.

use std::cell::Cell;

use pgrx::pg_sys::{self, ScanDirection};

use super::relations::{self, Oids, Patience};
use super::row::{Place, Row};
use super::text_datum::LentText;
use super::visibility::{self, Eyes, Verdict};
use super::{Jsonb, scan_key};
use crate::error::Error;
use crate::lock::{Look, Taker};

/// The lock rows, open for look-ups within one call. While it is open, its snapshot keeps the row
/// versions that it has found from being vacuumed away.
pub struct Probe {
    pub oids: Oids,
    pub(super) table: pg_sys::Relation,
    pub(super) index: pg_sys::Relation,
    pub(super) scan: pg_sys::IndexScanDesc,
    /// What a look compares with; the resource is put in for each.
    key: pg_sys::ScanKeyData,
    pub(super) slot: *mut pg_sys::TupleTableSlot,
    snapshot: Cell<pg_sys::Snapshot>,
    /// Who answers for snapshots, also when a look is taken inside a subtransaction.
    resource_owner: pg_sys::ResourceOwner,
}

/// So often a look begins anew because somebody has just committed what it was looking at.
const LOOKS: usize = 1000;

impl Probe {
    pub fn open(patience: Patience) -> Result<Probe, Error> {
        let oids = relations::lock_for_reading(patience)?;
        let no_lock = pg_sys::NoLock as pg_sys::LOCKMODE;
        // SAFETY: plain opens of relations that have been locked, until the transaction ends; the
        // snapshot is registered, so it outlives its use.
        unsafe {
            let table = pg_sys::table_open(oids.table, no_lock);
            let index = pg_sys::index_open(oids.primary_key, no_lock);
            let resource_owner = pg_sys::CurrentResourceOwner;
            Ok(Probe {
                oids,
                table,
                index,
                scan: begin_scan(table, index, any_snapshot(), 1),
                // Of all its slots: there is one.
                key: scan_key::equal_text(1, pg_sys::Datum::from(0)),
                slot: pg_sys::table_slot_create(table, std::ptr::null_mut()),
                snapshot: Cell::new(latest_snapshot(resource_owner)),
                resource_owner,
            })
        }
    }

    pub fn close(self) {
        // SAFETY: all were opened by `open` and are used no more. The relation locks stay, as with
        // any statement, until the transaction ends.
        unsafe {
            pg_sys::UnregisterSnapshotFromOwner(self.snapshot.get(), self.resource_owner);
            pg_sys::index_endscan(self.scan);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::index_close(self.index, pg_sys::NoLock as pg_sys::LOCKMODE);
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }

    /// Makes the next looks see what has been committed, or written here, since the last ones.
    pub fn look_anew(&self) {
        // SAFETY: the old snapshot is used no more; the rows found with it have been copied.
        unsafe {
            pg_sys::UnregisterSnapshotFromOwner(self.snapshot.get(), self.resource_owner);
        }
        self.snapshot.set(latest_snapshot(self.resource_owner));
    }

    pub(super) fn snapshot(&self) -> pg_sys::Snapshot {
        self.snapshot.get()
    }

    /// What is to be seen of a resource.
    pub fn look(&self, resource: &[u8]) -> Look {
        for _ in 0..LOOKS {
            let look = self.look_once(resource);
            if !look.has_stale_taker() {
                return look;
            }
            pgrx::check_for_interrupts!();
            self.look_anew();
        }
        self.look_once(resource)
    }

    fn look_once(&self, resource: &[u8]) -> Look {
        let mut look = Look::default();
        let name = LentText::of(resource);
        let mut key = self.key;
        key.sk_argument = name.datum();
        let scan = self.scan;
        // SAFETY: the key is compared by the primary key's own operator and collation, and the scan
        // copies them; rows are copied before the scan moves on.
        unsafe {
            pg_sys::index_rescan(scan, &mut key, 1, std::ptr::null_mut(), 0);
            while !pg_sys::index_getnext_tid(scan, ScanDirection::BackwardScanDirection).is_null() {
                if self.judge_entry(Eyes::Own, scan, &mut look, true) || look.is_shared {
                    break;
                }
            }
            // Renewals leave versions behind the newest one that no look would come to, and so none would
            // have the index forget: it would be read through them, a page at a time.
            if look
                .lock
                .as_ref()
                .is_some_and(|lock| lock.version != lock.token)
                && !pg_sys::index_getnext_tid(scan, ScanDirection::BackwardScanDirection).is_null()
            {
                self.judge_entry(Eyes::Own, scan, &mut Look::default(), false);
                pg_sys::index_getnext_tid(scan, ScanDirection::BackwardScanDirection);
            }
        }
        self.let_go();
        look
    }

    /// Has the slot and the scan let go of their pages, since they may be used inside a subtransaction that has
    /// not pinned them.
    pub(super) fn let_go(&self) {
        let mut key = self.key;
        // SAFETY: a rescan copies the key, by which nothing is looked for until the next one.
        unsafe {
            pg_sys::ExecClearTuple(self.slot);
            pg_sys::index_rescan(self.scan, &mut key, 1, std::ptr::null_mut(), 0);
        }
    }

    /// Judges the versions that a scan's current entry leads to; more than one only where somebody has
    /// updated a row by hand. Answers whether older ones of the same slot need no look.
    ///
    /// # Safety
    /// The scan must be at an entry.
    pub(super) unsafe fn judge_entry(
        &self,
        eyes: Eyes,
        scan: pg_sys::IndexScanDesc,
        look: &mut Look,
        with_metadata: bool,
    ) -> bool {
        let slot = self.slot;
        let mut is_final = false;
        // Whether the index may forget the entry.
        let mut is_dead = true;
        // SAFETY: as the caller says; a fetched row stays pinned until the next one.
        unsafe {
            while pg_sys::index_fetch_heap(scan, slot) {
                match visibility::judge_as(eyes, self.table, slot, self.snapshot()) {
                    Verdict::Visible => {
                        let row = Row::of(slot);
                        look.newest = look.newest.max(row.version());
                        look.is_shared |= row.slot() != 0;
                        look.lock = Some(match with_metadata {
                            true => row.read(),
                            false => row.read_without_metadata(),
                        });
                        if look.taker.is_none() {
                            let ender = visibility::ender(eyes, slot);
                            look.taker = ender.map(|ender| Taker::new(row.owner(), ender));
                        }
                        return true;
                    }
                    Verdict::Deleted => {
                        let row = Row::of(slot);
                        look.newest = look.newest.max(row.version());
                        let is_shared = row.slot() != 0;
                        // What nobody can see any more is forgotten, and the next one is looked at
                        // instead: it has been deleted, too, and goes the same way.
                        let dead_to_all = visibility::is_dead_to_all(self.table, slot);
                        is_dead &= dead_to_all;
                        is_final |= !dead_to_all;
                        look.is_shared |= is_shared && !dead_to_all;
                    }
                    Verdict::Aborted => (),
                    Verdict::Uncommitted(transaction) => {
                        let row = Row::of(slot);
                        look.newest = look.newest.max(row.version());
                        look.is_shared |= row.slot() != 0;
                        look.taking = look.taking.max(row.units());
                        if look.taker.is_none() {
                            look.taker = Some(Taker::new(row.owner(), transaction));
                        }
                        is_dead = false;
                    }
                }
                if !(*scan).xs_heap_continue {
                    break;
                }
            }
            (*scan).kill_prior_tuple = is_dead && !(*scan).xactStartedInRecovery;
        }
        is_final
    }

    /// The metadata of the version at `place`.
    pub fn metadata_at(&self, place: Place) -> Option<Jsonb> {
        // SAFETY: the version was found by a look of this statement's, whose snapshot keeps it where it is; the
        // slot lets go of its page at the end.
        unsafe {
            let (mut pointer, slot) = (place.pointer, self.slot);
            let is_there = pg_sys::table_tuple_fetch_row_version(
                self.table,
                &mut pointer,
                any_snapshot(),
                slot,
            );
            let metadata = is_there.then(|| Row::of(slot).metadata()).flatten();
            pg_sys::ExecClearTuple(slot);
            metadata
        }
    }
}

impl Place {
    /// Where the row is.
    pub(super) fn pointer(&self) -> pg_sys::ItemPointerData {
        self.pointer
    }
}

/// The snapshot that sees every version, also those of transactions that have not ended.
pub(super) fn any_snapshot() -> pg_sys::Snapshot {
    &raw mut pg_sys::SnapshotAnyData
}

pub(super) fn latest_snapshot(owner: pg_sys::ResourceOwner) -> pg_sys::Snapshot {
    // SAFETY: inside a transaction; who registers it unregisters it.
    unsafe { pg_sys::RegisterSnapshotOnOwner(pg_sys::GetLatestSnapshot(), owner) }
}

/// # Safety
/// The relations must be open, and the snapshot live as long as the scan.
pub(super) unsafe fn begin_scan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: usize,
) -> pg_sys::IndexScanDesc {
    // SAFETY: as the caller says.
    unsafe {
        pg_sys::index_beginscan(
            table,
            index,
            snapshot,
            #[cfg(feature = "pg18")]
            std::ptr::null_mut(),
            keys as i32,
            0,
        )
    }
}
