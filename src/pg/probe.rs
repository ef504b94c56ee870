//! Looking a lock up by its resource without an executor: one descent of the primary key, which
//! costs a fraction of a SELECT and takes no transaction id, no row lock and no WAL.
//!
//! It reads with the newest snapshot, not the transaction's: who holds a lock is decided on what is
//! committed now (and on what this transaction did itself), also in REPEATABLE READ.

use pgrx::datum::FromDatum;
use pgrx::pg_sys;

use super::{Jsonb, Timestamp};
use crate::lock::Lock;

/// Positions of the columns of `softlock.locks`. Later versions may only add columns behind them.
#[derive(Clone, Copy)]
enum Column {
    Owner = 1, // behind resource
    Session,
    Token,
    Role,
    Metadata,
    AcquiredAt,
    ExpiresAt,
}
const COLUMNS: i32 = Column::ExpiresAt as i32 + 1;

/// The lock rows, open for look-ups within one call.
pub struct Probe {
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: pg_sys::Snapshot,
}

impl Probe {
    /// Opens the table, runs `look_ups` and closes it. An ERROR inside leaves the closing to the
    /// transaction's abort, which releases what is still open.
    pub fn with<R>(look_ups: impl FnOnce(&Probe) -> R) -> R {
        let probe = Probe::open();
        let found = look_ups(&probe);
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

    /// The row of `resource`, live or lapsed, if there is one.
    pub fn find(&self, resource: &str) -> Option<Lock> {
        // SAFETY: the key is compared by the primary key's own operator and collation; scan, key
        // and slot live until the scan ends, and the row is copied before that.
        unsafe {
            let key_text = pgrx::rust_str_to_text_p(resource);
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyEntryInitialize(
                &mut key,
                0,
                1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::InvalidOid,
                pg_sys::C_COLLATION_OID,
                pg_sys::RegProcedure::from(pg_sys::F_TEXTEQ),
                pg_sys::Datum::from(key_text.as_ptr()),
            );
            let scan = pg_sys::index_beginscan(
                self.table,
                self.index,
                self.snapshot,
                #[cfg(feature = "pg18")]
                std::ptr::null_mut(),
                1,
                0,
            );
            pg_sys::index_rescan(scan, &mut key, 1, std::ptr::null_mut(), 0);
            let found = pg_sys::index_getnext_slot(
                scan,
                pg_sys::ScanDirection::ForwardScanDirection,
                self.slot,
            );
            let lock = found.then(|| self.read());
            pg_sys::index_endscan(scan);
            lock
        }
    }

    /// Copies the row in the slot.
    ///
    /// # Safety
    /// The slot must hold a row.
    unsafe fn read(&self) -> Lock {
        // SAFETY: the types are those of the columns of `softlock.locks`; deforming fills the
        // slot's arrays up to the last of them.
        unsafe {
            pg_sys::slot_getsomeattrs_int(self.slot, COLUMNS);
            Lock {
                owner: self.get(Column::Owner).expect("owner is not null"),
                session: self.get(Column::Session),
                token: self.get(Column::Token).expect("token is not null"),
                role: self.get(Column::Role).expect("role is not null"),
                metadata: self.get::<Jsonb>(Column::Metadata),
                acquired_at: self.time(Column::AcquiredAt),
                expires_at: self.time(Column::ExpiresAt),
            }
        }
    }

    /// # Safety
    /// The slot must be deformed, and `T` the type of the column.
    unsafe fn get<T: FromDatum>(&self, column: Column) -> Option<T> {
        let at = column as usize;
        unsafe {
            T::from_datum(
                *(*self.slot).tts_values.add(at),
                *(*self.slot).tts_isnull.add(at),
            )
        }
    }

    /// # Safety
    /// The slot must be deformed, and the column a timestamptz.
    unsafe fn time(&self, column: Column) -> Timestamp {
        Timestamp::from_raw(unsafe { self.get(column) }.expect("times are not null"))
    }
}
