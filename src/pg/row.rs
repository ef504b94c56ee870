//! A row of `softlock.locks` as the server keeps it: columns to a `Lock` and back.

use pgrx::datum::{FromDatum, IntoDatum};
use pgrx::pg_sys;

use super::text_datum::{LentText, text_from_datum};
use super::{Jsonb, Timestamp, visibility};
use crate::lock::Lock;
use crate::text::Text;

/// Positions of the columns. Later versions may only add columns behind them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Resource,
    Owner,
    Session,
    Token,
    Role,
    Metadata,
    AcquiredAt,
    ExpiresAt,
    Slot,
    Version,
    Units,
}
pub(super) const COLUMNS: usize = Column::Units as usize + 1;

/// Where the version of a row is that was looked at.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub(super) pointer: pg_sys::ItemPointerData,
    /// Whether it is known that nobody had locked it or begun to write it.
    pub(super) untouched: bool,
}

/// A row that a scan has come to.
pub struct Row<'a>(&'a mut pg_sys::TupleTableSlot);

impl<'a> Row<'a> {
    /// # Safety
    /// The slot must hold a row of `softlock.locks` in a buffer, for as long as the answer lives.
    pub(super) unsafe fn of(slot: *mut pg_sys::TupleTableSlot) -> Self {
        // SAFETY: as the caller says; deforming fills the slot's arrays up to the last column.
        unsafe {
            pg_sys::slot_getsomeattrs_int(slot, COLUMNS as i32);
            Row(&mut *slot)
        }
    }

    pub fn place(&self) -> Place {
        Place {
            pointer: self.0.tts_tid,
            // SAFETY: the slot holds a row in a buffer.
            untouched: unsafe { visibility::is_untouched(std::ptr::from_ref(self.0).cast_mut()) },
        }
    }

    pub fn resource(&self) -> Text {
        self.text(Column::Resource).expect("resource is not null")
    }

    pub fn owner(&self) -> Text {
        self.text(Column::Owner).expect("owner is not null")
    }

    pub fn role(&self) -> pg_sys::Oid {
        self.get(Column::Role).expect("role is not null")
    }

    pub fn acquired_at(&self) -> Timestamp {
        self.time(Column::AcquiredAt)
    }

    pub fn expires_at(&self) -> Timestamp {
        self.time(Column::ExpiresAt)
    }

    pub fn version(&self) -> i64 {
        self.get(Column::Version).expect("version is not null")
    }

    pub fn slot(&self) -> i32 {
        self.get(Column::Slot).expect("slot is not null")
    }

    pub fn units(&self) -> i32 {
        self.get(Column::Units).expect("units is not null")
    }

    pub fn metadata(&self) -> Option<Jsonb> {
        self.get(Column::Metadata)
    }

    /// A copy of all of it.
    pub fn read(&self) -> Lock {
        Lock {
            metadata: self.metadata(),
            ..self.read_without_metadata()
        }
    }

    /// A copy of all but the metadata, which can be large.
    pub fn read_without_metadata(&self) -> Lock {
        Lock {
            owner: self.owner(),
            session: self.text(Column::Session),
            token: self.get(Column::Token).expect("token is not null"),
            role: self.role(),
            metadata: None,
            acquired_at: self.acquired_at(),
            expires_at: self.expires_at(),
            slot: self.slot(),
            version: self.version(),
            units: self.units(),
            place: Some(self.place()),
        }
    }

    fn get<T: FromDatum>(&self, column: Column) -> Option<T> {
        let at = column as usize;
        // SAFETY: the slot is deformed, and `T` is the type of the column, as the callers are above.
        unsafe { T::from_datum(*self.0.tts_values.add(at), *self.0.tts_isnull.add(at)) }
    }

    fn text(&self, column: Column) -> Option<Text> {
        let at = column as usize;
        // SAFETY: the slot is deformed, and the column a text.
        unsafe {
            (!*self.0.tts_isnull.add(at)).then(|| text_from_datum(*self.0.tts_values.add(at)))
        }
    }

    fn time(&self, column: Column) -> Timestamp {
        Timestamp::from_raw(self.get(column).expect("times are not null"))
    }
}

/// The texts of a row while it is being written.
pub(super) struct Texts {
    resource: LentText,
    owner: LentText,
    session: Option<LentText>,
}

impl Texts {
    pub(super) fn of(resource: &[u8], lock: &Lock) -> Self {
        let session = lock.session.as_ref();
        Texts {
            resource: LentText::of(resource),
            owner: LentText::of(lock.owner.as_bytes()),
            session: session.map(|session| LentText::of(session.as_bytes())),
        }
    }
}

/// The columns' values, in order. The texts are where `texts` has them; other values that are no plain ones
/// are in the current memory context.
pub(super) fn values(texts: &Texts, lock: &Lock) -> [Option<pg_sys::Datum>; COLUMNS] {
    [
        Some(texts.resource.datum()),
        Some(texts.owner.datum()),
        texts.session.as_ref().map(LentText::datum),
        lock.token.into_datum(),
        lock.role.into_datum(),
        lock.metadata.as_ref().map(Jsonb::to_datum),
        lock.acquired_at.raw().into_datum(),
        lock.expires_at.raw().into_datum(),
        lock.slot.into_datum(),
        lock.version.into_datum(),
        lock.units.into_datum(),
    ]
}
