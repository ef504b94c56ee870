//! Visiting many locks: what has lapsed, what an owner has, all of them.

use pgrx::pg_sys::{self, ScanDirection};

use super::probe::{Probe, any_snapshot, begin_scan};
use super::relations::{self, Patience};
use super::row::Row;
use super::text_datum::text_datum;
use super::visibility::{self, Eyes, Verdict};
use super::{Timestamp, scan_key};
use crate::error::Error;

/// What a scan of the lapsed locks came by, besides them.
#[derive(Default)]
pub struct LapsedScan {
    /// When the first lock expires whose transaction has not ended.
    pub uncommitted: Option<Timestamp>,
    /// How many versions were looked at, also of what is gone.
    pub visited: u64,
}

impl Probe {
    /// Visits the locks that lapsed from `since`, if it is given, to `until`, oldest first, for as
    /// long as `visit` wants more. Can be cancelled.
    pub fn each_lapsed(
        &self,
        since: Option<Timestamp>,
        until: Timestamp,
        mut visit: impl FnMut(&Row) -> bool,
    ) -> Result<LapsedScan, Error> {
        let mut keys = vec![scan_key::time_until(1, until)];
        keys.extend(since.map(|since| scan_key::time_since(1, since)));
        let mut uncommitted = None;
        let visited = self.each_version(self.oids.by_expiry, &mut keys, |row, is_taking| {
            if is_taking {
                uncommitted.get_or_insert(row.expires_at());
            }
            is_taking || visit(row)
        })?;
        Ok(LapsedScan {
            uncommitted,
            visited,
        })
    }

    /// Visits the versions that the snapshot sees, or that transactions which have not ended have written
    /// (`true`), by an index whose own operators are those of the keys, for as long as `visit` wants more.
    /// Answers how many entries were looked at, also of what is gone. Waits for nobody; can be cancelled.
    pub(super) fn each_version(
        &self,
        index: pg_sys::Oid,
        keys: &mut [pg_sys::ScanKeyData],
        mut visit: impl FnMut(&Row, bool) -> bool,
    ) -> Result<u64, Error> {
        relations::lock_index(index, Patience::None)?;
        let mut visited = 0;
        // SAFETY: the scan is positioned before a row is fetched, which is in the slot when it is visited.
        self.scan_index(index, any_snapshot(), keys, |scan, slot| unsafe {
            let forward = ScanDirection::ForwardScanDirection;
            'entries: while !pg_sys::index_getnext_tid(scan, forward).is_null() {
                pgrx::check_for_interrupts!();
                let mut is_dead = true;
                visited += 1;
                while pg_sys::index_fetch_heap(scan, slot) {
                    let verdict = visibility::judge(self.table, slot, self.snapshot());
                    match verdict {
                        Verdict::Visible | Verdict::Uncommitted(_) => {
                            is_dead = false;
                            if !visit(&Row::of(slot), verdict != Verdict::Visible) {
                                break 'entries;
                            }
                        }
                        Verdict::Deleted => is_dead &= visibility::is_dead_to_all(self.table, slot),
                        Verdict::Aborted => (),
                    }
                    if !(*scan).xs_heap_continue {
                        break;
                    }
                }
                (*scan).kill_prior_tuple = is_dead && !(*scan).xactStartedInRecovery;
            }
        });
        Ok(visited)
    }

    /// Visits the locks of an owner that are live at `t`, whatever role took them. Can be cancelled.
    pub fn each_of_owner(
        &self,
        owner: &[u8],
        t: Timestamp,
        visit: impl FnMut(&Row),
    ) -> Result<(), Error> {
        let mut keys = [
            scan_key::equal_text(1, text_datum(owner)),
            scan_key::time_after(2, t),
        ];
        self.each_visible(self.oids.by_owner, &mut keys, visit)
    }

    /// Visits the locks that are live at `t`. Can be cancelled.
    pub fn each_live(&self, t: Timestamp, visit: impl FnMut(&Row)) -> Result<(), Error> {
        self.each_visible(
            self.oids.by_expiry,
            &mut [scan_key::time_after(1, t)],
            visit,
        )
    }

    /// Visits the rows that the snapshot sees, by an index whose own operators are those of the keys.
    fn each_visible(
        &self,
        index: pg_sys::Oid,
        keys: &mut [pg_sys::ScanKeyData],
        mut visit: impl FnMut(&Row),
    ) -> Result<(), Error> {
        relations::lock_index(index, Patience::Little)?;
        // SAFETY: the row is in the slot when it is visited.
        self.scan_index(index, self.snapshot(), keys, |scan, slot| unsafe {
            let forward = ScanDirection::ForwardScanDirection;
            while pg_sys::index_getnext_slot(scan, forward, slot) {
                pgrx::check_for_interrupts!();
                visit(&Row::of(slot));
            }
        });
        Ok(())
    }

    /// Opens a scan of an index that has been locked, and a slot for its rows, has `work` use them, and closes
    /// them. The index's own operators must be those of the keys.
    fn scan_index(
        &self,
        index: pg_sys::Oid,
        snapshot: pg_sys::Snapshot,
        keys: &mut [pg_sys::ScanKeyData],
        work: impl FnOnce(pg_sys::IndexScanDesc, *mut pg_sys::TupleTableSlot),
    ) {
        let no_lock = pg_sys::NoLock as pg_sys::LOCKMODE;
        // SAFETY: the keys are compared by the index's own operators; index, slot, snapshot and scan live
        // until the work is done.
        unsafe {
            let index = pg_sys::index_open(index, no_lock);
            let slot = pg_sys::table_slot_create(self.table, std::ptr::null_mut());
            let scan = begin_scan(self.table, index, snapshot, keys.len());
            let count = keys.len() as i32;
            pg_sys::index_rescan(scan, keys.as_mut_ptr(), count, std::ptr::null_mut(), 0);
            work(scan, slot);
            pg_sys::index_endscan(scan);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::index_close(index, no_lock);
        }
    }

    /// Visits every committed row. Can be cancelled.
    pub fn each(&self, mut visit: impl FnMut(&Row)) {
        // SAFETY: a scan of the whole table by a snapshot that outlives it; the slot holds a row for each
        // visit.
        unsafe {
            let snapshot = self.snapshot();
            let scan = pg_sys::table_beginscan(self.table, snapshot, 0, std::ptr::null_mut());
            let forward = ScanDirection::ForwardScanDirection;
            while pg_sys::table_scan_getnextslot(scan, forward, self.slot) {
                pgrx::check_for_interrupts!();
                visit(&Row::of(self.slot));
            }
            pg_sys::ExecClearTuple(self.slot);
            pg_sys::table_endscan(scan);
        }
    }

    /// Visits every row that a transaction which has not ended is taking (`true`) or ending, and that
    /// transaction.
    pub fn each_pending(&self, mut visit: impl FnMut(&Row, pg_sys::TransactionId, bool)) {
        // SAFETY: a scan of the whole table by every version; the slot holds a row for each visit.
        unsafe {
            let scan = pg_sys::table_beginscan(self.table, any_snapshot(), 0, std::ptr::null_mut());
            let forward = ScanDirection::ForwardScanDirection;
            while pg_sys::table_scan_getnextslot(scan, forward, self.slot) {
                pgrx::check_for_interrupts!();
                match visibility::judge(self.table, self.slot, self.snapshot()) {
                    Verdict::Uncommitted(taker) if !visibility::has_ended(taker) => {
                        visit(&Row::of(self.slot), taker, true);
                    }
                    Verdict::Visible => {
                        if let Some(ender) = visibility::ender(Eyes::Own, self.slot) {
                            visit(&Row::of(self.slot), ender, false);
                        }
                    }
                    _ => (),
                }
            }
            pg_sys::ExecClearTuple(self.slot);
            pg_sys::table_endscan(scan);
        }
    }
}
