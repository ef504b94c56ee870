//! Looking a lock up by its resource without an executor: one descent of the primary key, which
//! costs a fraction of a SELECT and takes no transaction id, no row lock and no WAL.
//!
//! It reads with the newest snapshot, not the transaction's: who holds a lock is decided on what is
//! committed now (and on what this transaction did itself), also in REPEATABLE READ.

use pgrx::pg_sys;

use super::Timestamp;
use super::row::{self, Row};
use crate::lock::Lock;

/// The lock rows, open for look-ups within one call. While it is open, its snapshot keeps the row
/// versions that it has found from being vacuumed away.
pub struct Probe {
    pub(super) table: pg_sys::Relation,
    index: pg_sys::Relation,
    pub(super) slot: *mut pg_sys::TupleTableSlot,
    pub(super) snapshot: pg_sys::Snapshot,
}

impl Probe {
    /// Opens the table, runs `look_ups` and closes it. An ERROR inside leaves the closing to the
    /// transaction's abort, which releases what is still open.
    pub fn with<R>(look_ups: impl FnOnce(&mut Probe) -> R) -> R {
        let mut probe = Probe::open();
        let found = look_ups(&mut probe);
        probe.close();
        found
    }

    fn open() -> Probe {
        // SAFETY: plain look-ups and opens inside a transaction. The relations are locked against
        // DROP until the transaction ends; the snapshot is registered, so it outlives its use.
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"softlock".as_ptr(), false);
            let open = |name: &std::ffi::CStr| pg_sys::get_relname_relid(name.as_ptr(), schema);
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            let table = pg_sys::table_open(open(c"locks"), lock);
            let index = pg_sys::index_open(open(c"locks_pkey"), lock);
            let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            Probe {
                table,
                index,
                slot,
                snapshot,
            }
        }
    }

    fn close(self) {
        // SAFETY: all four were opened by `open` and are used no more. The relation locks stay, as
        // with any statement, until the transaction ends.
        unsafe {
            pg_sys::UnregisterSnapshot(self.snapshot);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::index_close(self.index, pg_sys::NoLock as pg_sys::LOCKMODE);
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }

    /// Makes the next look-ups see what has been committed, or written here, since the last ones.
    pub fn look_anew(&mut self) {
        // SAFETY: the old snapshot is used no more; the rows found with it have been copied.
        unsafe {
            pg_sys::UnregisterSnapshot(self.snapshot);
            self.snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        }
    }

    /// As `look_anew`, and answers whether the look-ups so far might come out differently now. In a
    /// busy database they might, but mostly a second look so soon after the first can be spared.
    pub fn may_see_more(&mut self) -> bool {
        let view = |snapshot: pg_sys::Snapshot| {
            // SAFETY: both snapshots are registered, and of the MVCC kind.
            let snapshot = unsafe { &*snapshot };
            // A transaction that ends either raises xmax, or is one of those below it that were
            // running, whose number only falls: without either, the very same ones have ended.
            (snapshot.xmax, snapshot.xcnt, snapshot.curcid)
        };
        let before = view(self.snapshot);
        self.look_anew();
        view(self.snapshot) != before
    }

    /// The row of `resource`, live or lapsed, if there is one.
    pub fn find(&self, resource: &str) -> Option<Lock> {
        // SAFETY: the key is compared by the primary key's own operator and collation, and lives
        // until the scan ends; the row is copied before that, and the slot lets go of its page.
        unsafe {
            let text = pgrx::rust_str_to_text_p(resource);
            let equal = (pg_sys::BTEqualStrategyNumber, pg_sys::F_TEXTEQ);
            let mut keys = [key(equal, pg_sys::C_COLLATION_OID, text.as_ptr().into())];
            let scan = self.scan(self.index, &mut keys);
            let lock = next(scan, self.slot).then(|| row::read(self.slot));
            pg_sys::ExecClearTuple(self.slot);
            pg_sys::index_endscan(scan);
            lock
        }
    }

    /// Visits the locks that lapsed from `since`, if it is given, to `until`, oldest first, for as
    /// long as `visit` wants more. Can be cancelled.
    pub fn each_lapsed(
        &self,
        since: Option<Timestamp>,
        until: Timestamp,
        mut visit: impl FnMut(Row) -> bool,
    ) {
        // SAFETY: the keys are compared by the index's own operators; index, slot and scan live until
        // the visits end.
        unsafe {
            let schema = (*(*self.table).rd_rel).relnamespace;
            let index = pg_sys::get_relname_relid(c"locks_expires_at_idx".as_ptr(), schema);
            let index = pg_sys::index_open(index, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            let slot = pg_sys::table_slot_create(self.table, std::ptr::null_mut());
            let bound = |operator, t: Timestamp| key(operator, pg_sys::InvalidOid, t.raw().into());
            let mut keys = vec![bound(LESS_EQUAL, until)];
            keys.extend(since.map(|since| bound(GREATER_EQUAL, since)));
            let scan = self.scan(index, &mut keys);
            while next(scan, slot) && visit(Row::of(slot)) {
                pgrx::check_for_interrupts!();
            }
            pg_sys::index_endscan(scan);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }

    /// # Safety
    /// The keys must fit the index's first column, and outlive the scan.
    unsafe fn scan(
        &self,
        index: pg_sys::Relation,
        keys: &mut [pg_sys::ScanKeyData],
    ) -> pg_sys::IndexScanDesc {
        let count = keys.len() as i32;
        // SAFETY: table, index and snapshot are open.
        unsafe {
            let scan = pg_sys::index_beginscan(
                self.table,
                index,
                self.snapshot,
                #[cfg(feature = "pg18")]
                std::ptr::null_mut(),
                count,
                0,
            );
            pg_sys::index_rescan(scan, keys.as_mut_ptr(), count, std::ptr::null_mut(), 0);
            scan
        }
    }
}

/// A btree strategy and the function of its operator.
type Operator = (u32, u32);

/// timestamptz_le and timestamptz_ge, by the numbers that they have in every version.
const LESS_EQUAL: Operator = (pg_sys::BTLessEqualStrategyNumber, 1155);
const GREATER_EQUAL: Operator = (pg_sys::BTGreaterEqualStrategyNumber, 1156);

/// A condition on the first column of an index.
fn key(
    (strategy, function): Operator,
    collation: pg_sys::Oid,
    argument: pg_sys::Datum,
) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: fills the key; looks the function up.
    unsafe {
        pg_sys::ScanKeyEntryInitialize(
            &mut key,
            0,
            1,
            strategy as pg_sys::StrategyNumber,
            pg_sys::InvalidOid,
            collation,
            pg_sys::RegProcedure::from(function),
            argument,
        );
    }
    key
}

/// Puts the scan's next row into the slot, if there is one.
///
/// # Safety
/// The scan must be open, and the slot of its table's kind.
unsafe fn next(scan: pg_sys::IndexScanDesc, slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: as the caller says.
    unsafe { pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) }
}
