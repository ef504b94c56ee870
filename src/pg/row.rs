//! A row of `softlock.locks` as the server keeps it: columns to a `Lock` and back.

use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::pg_sys;

use super::{Jsonb, Timestamp};
use crate::lock::Lock;

/// Positions of the columns. Later versions may only add columns behind them.
#[derive(Clone, Copy)]
enum Column {
    Resource,
    Owner,
    Session,
    Token,
    Role,
    Metadata,
    AcquiredAt,
    ExpiresAt,
}
pub(super) const COLUMNS: usize = Column::ExpiresAt as usize + 1;

/// Where the version of a row is that was looked at.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub(super) pointer: pg_sys::ItemPointerData,
    /// Whether it is known that nobody had locked it or begun to write it.
    pub(super) untouched: bool,
}

impl Place {
    /// # Safety
    /// The slot must hold a row of a table.
    unsafe fn of(slot: *mut pg_sys::TupleTableSlot) -> Self {
        let mut is_null = false;
        // SAFETY: a table's rows have this system column: the transaction that locks or writes.
        let xmax = unsafe {
            pg_sys::slot_getsysattr(slot, pg_sys::MaxTransactionIdAttributeNumber, &mut is_null)
        };
        Place {
            pointer: unsafe { (*slot).tts_tid },
            untouched: xmax.value() == 0,
        }
    }
}

/// A row that a scan has come to.
pub struct Row<'a>(&'a mut pg_sys::TupleTableSlot);

impl<'a> Row<'a> {
    /// # Safety
    /// The slot must hold a row of `softlock.locks`, for as long as the answer lives.
    pub(super) unsafe fn of(slot: *mut pg_sys::TupleTableSlot) -> Self {
        // SAFETY: as the caller says.
        Row(unsafe { &mut *slot })
    }

    /// Where it is. Nothing is known of who may have touched it.
    pub fn place(&self) -> Place {
        Place {
            pointer: self.0.tts_tid,
            untouched: false,
        }
    }

    pub fn read(&mut self) -> (String, Lock) {
        // SAFETY: the slot holds a row, which read() has deformed before its first column is got.
        unsafe {
            let lock = read(self.0);
            let resource = get(self.0, Column::Resource).expect("resource is not null");
            (resource, lock)
        }
    }

    pub fn expires_at(&mut self) -> Timestamp {
        // SAFETY: the slot holds a row.
        unsafe {
            pg_sys::slot_getsomeattrs_int(self.0, COLUMNS as i32);
            time(self.0, Column::ExpiresAt)
        }
    }
}

/// Copies the row in `slot`.
///
/// # Safety
/// The slot must hold a row of `softlock.locks`.
pub(super) unsafe fn read(slot: *mut pg_sys::TupleTableSlot) -> Lock {
    // SAFETY: the types are those of the columns; deforming fills the slot's arrays up to the last.
    unsafe {
        pg_sys::slot_getsomeattrs_int(slot, COLUMNS as i32);
        Lock {
            owner: get(slot, Column::Owner).expect("owner is not null"),
            session: get(slot, Column::Session),
            token: get(slot, Column::Token).expect("token is not null"),
            role: get(slot, Column::Role).expect("role is not null"),
            metadata: get::<Jsonb>(slot, Column::Metadata),
            acquired_at: time(slot, Column::AcquiredAt),
            expires_at: time(slot, Column::ExpiresAt),
            place: Some(Place::of(slot)),
        }
    }
}

/// The columns' values, in order; what they point to is in the current memory context.
pub(super) fn values(resource: &str, lock: &Lock) -> [Option<pg_sys::Datum>; COLUMNS] {
    [
        resource.into_datum(),
        lock.owner.as_str().into_datum(),
        lock.session.as_deref().into_datum(),
        lock.token.into_datum(),
        lock.role.into_datum(),
        lock.metadata.clone().into_datum(),
        lock.acquired_at.raw().into_datum(),
        lock.expires_at.raw().into_datum(),
    ]
}

/// Whether the column at `position`, counted from 1 as indexes do, is the same in both versions of a
/// row; the times and the token, which change with nearly every write, are not compared.
pub(super) fn is_unchanged(position: i32, old: &Lock, new: &Lock) -> bool {
    match position - 1 {
        at if at == Column::Resource as i32 => true,
        at if at == Column::Owner as i32 => old.owner == new.owner,
        _ => false,
    }
}

/// # Safety
/// The slot must be deformed, and `T` the type of the column.
unsafe fn get<T: FromDatum>(slot: *mut pg_sys::TupleTableSlot, column: Column) -> Option<T> {
    let at = column as usize;
    unsafe { T::from_datum(*(*slot).tts_values.add(at), *(*slot).tts_isnull.add(at)) }
}

/// # Safety
/// The slot must be deformed, and the column a timestamptz.
unsafe fn time(slot: *mut pg_sys::TupleTableSlot, column: Column) -> Timestamp {
    Timestamp::from_raw(unsafe { get(slot, column) }.expect("times are not null"))
}
