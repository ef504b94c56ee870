//! The table of locks within one call: every read and every write of it.
//!
//! The store decides nothing: a verb says what to write. A row is written only if it still is the one
//! that was seen, so that nothing decided on an old look is ever carried out.

use std::cell::OnceCell;

use pgrx::pg_sys;

use crate::error::Error;
use crate::lock::{Lock, Look};
use crate::names::Resource;
use crate::pg::probe::Probe;
use crate::pg::row::Row;
use crate::pg::visibility::Eyes;
use crate::pg::writer::Writer;
use crate::pg::{self, Jsonb, Timestamp, clock, holds, ledger, owners, queue, visibility, walk};
use crate::settings;
use crate::text::Text;
use crate::units::{Hold, Slots};

pub use crate::pg::relations::Patience;
pub use crate::pg::writer::{Wait, Written};

/// The table, open for looking, and for writing once something is written.
pub struct Store {
    probe: Probe,
    writer: OnceCell<Writer>,
    patience: Patience,
}

/// A lock that a transaction which has not ended is taking or ending.
pub struct Pending<'a> {
    pub row: &'a Row<'a>,
    pub is_taking: bool,
    pub transaction: pg_sys::TransactionId,
    pub pid: Option<i32>,
}

/// What a sweep deleted.
#[derive(Default)]
pub struct Lapsed {
    pub count: u64,
    pub listed: Vec<(Text, Lock)>,
    /// When the last of them had lapsed, if there may be more.
    pub last: Option<Timestamp>,
    /// When the first of those expires that were left to other transactions.
    pub left: Option<Timestamp>,
    /// How many versions were looked at, also of what is gone.
    pub visited: u64,
}

impl Store {
    /// Opens the table, runs `work` and closes it. An ERROR inside leaves the closing to the
    /// transaction's abort, which releases what is still open.
    pub fn with<R>(
        patience: Patience,
        work: impl FnOnce(&Store) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if !settings::serves() {
            return Err(Error::NotServing);
        }
        let store = Store {
            probe: Probe::open(patience)?,
            writer: OnceCell::new(),
            patience,
        };
        let result = work(&store);
        if let Some(writer) = store.writer.into_inner() {
            writer.close();
        }
        store.probe.close();
        result
    }

    /// What is to be seen of a resource, as of the last time that `look_anew` was called.
    pub fn look(&self, resource: &Resource) -> Look {
        self.probe.look(resource.as_bytes())
    }

    /// The same for many resources, which must be distinct and in byte order.
    pub fn look_at_all(&self, resources: &[&Resource]) -> Vec<Look> {
        let names: Vec<_> = resources
            .iter()
            .map(|resource| resource.as_bytes())
            .collect();
        walk::look_at_all(&self.probe, &names)
    }

    /// What is to be seen of the holds of a resource in these slots, without their metadata.
    pub fn holds(&self, resource: &Resource, slots: Slots) -> Vec<Hold> {
        holds::look(Eyes::Own, &self.probe, resource.as_bytes(), slots)
    }

    /// What others see of all holds of a resource, to whom what this transaction has written is uncommitted.
    pub fn holds_to_others(&self, resource: &Resource) -> Vec<Hold> {
        holds::look(Eyes::Others, &self.probe, resource.as_bytes(), Slots::ALL)
    }

    /// The metadata of a lock that was read without it.
    pub fn metadata(&self, lock: &Lock) -> Option<Jsonb> {
        self.probe.metadata_at(lock.place())
    }

    /// What is to be seen of the holds of a resource among which an owner's is, if it has one: those in its
    /// slots, and the exclusive one.
    pub fn holds_of(&self, resource: &Resource, slots: Slots) -> Vec<Hold> {
        let mut holds = self.holds(resource, slots);
        holds.extend(self.holds(resource, Slots::EXCLUSIVE));
        holds
    }

    /// An owner's locks of a kind that are live at `t`, or being taken.
    pub fn count_of_owner(&self, owner: &Text, kind: &[u8], t: Timestamp) -> Result<usize, Error> {
        owners::count(&self.probe, owner.as_bytes(), kind, t)
    }

    /// Makes the next looks see what has been committed, or written here, since the last ones.
    pub fn look_anew(&self) {
        self.probe.look_anew();
    }

    /// Opens the table for writing. To be called before a mutex is entered, so that nobody who waits for
    /// the mutex waits for the table.
    pub fn prepare_to_write(&self) -> Result<(), Error> {
        self.writer().map(drop)
    }

    fn writer(&self) -> Result<&Writer, Error> {
        if self.writer.get().is_none() {
            let writer = Writer::open(&self.probe, self.patience)?;
            let _ = self.writer.set(writer);
        }
        Ok(self.writer.get().expect("it was opened just now"))
    }

    /// A version, or token, larger than all before it and than `above`.
    pub fn draw(&self, above: i64) -> Result<i64, Error> {
        clock::draw(&self.probe.oids, above)
    }

    /// Writes a new lock of a resource, in the place of the lapsed one that was seen, if there was one,
    /// without waiting.
    pub fn grant(
        &self,
        resource: &Resource,
        lapsed: Option<&Lock>,
        lock: &Lock,
    ) -> Result<Written, Error> {
        let writer = self.writer()?;
        queue::note_write(resource.as_bytes());
        // Not an update: a logical subscriber, which sweeps for itself, may not have the lapsed one.
        if let Some(lapsed) = lapsed {
            let deleted = writer.delete(&self.probe, lapsed.place(), Wait::No);
            if deleted != Written::Done {
                return Ok(deleted);
            }
            ledger::note_end(resource.as_bytes(), lapsed.units, lapsed.expires_at);
        }
        writer.insert(resource.as_bytes(), lock);
        Ok(Written::Done)
    }

    /// Writes a live lock anew over the version that was seen, without waiting; not one that has lapsed since.
    pub fn update(&self, resource: &Resource, seen: &Lock, lock: &Lock) -> Result<Written, Error> {
        let writer = self.writer()?;
        queue::note_write(resource.as_bytes());
        let written = writer.replace(&self.probe, resource, seen, lock)?;
        if written == Written::Done && lock.units < seen.units {
            let fewer = seen.units - lock.units;
            ledger::note_end(resource.as_bytes(), fewer, seen.expires_at);
        }
        Ok(written)
    }

    /// Deletes the lock that was seen.
    pub fn delete(&self, resource: &Resource, seen: &Lock, wait: Wait) -> Result<Written, Error> {
        let writer = self.writer()?;
        queue::note_write(resource.as_bytes());
        let written = writer.delete(&self.probe, seen.place(), wait);
        if written == Written::Done {
            ledger::note_end(resource.as_bytes(), seen.units, seen.expires_at);
        }
        Ok(written)
    }

    /// Waits until no other transaction is writing the lock that was seen.
    pub fn wait(&self, seen: &Lock) -> Result<Written, Error> {
        Ok(self.writer()?.wait(&self.probe, seen.place()))
    }

    /// Keeps the lock that was seen from being written or deleted by anybody else until this transaction
    /// ends.
    pub fn keep(&self, seen: &Lock, wait: Wait) -> Result<Written, Error> {
        Ok(self.writer()?.keep(&self.probe, seen.place(), wait))
    }

    /// Visits the locks of an owner that are live at `t`, whatever role took them.
    pub fn each_of_owner(
        &self,
        owner: &Text,
        t: Timestamp,
        visit: impl FnMut(&Row),
    ) -> Result<(), Error> {
        self.probe.each_of_owner(owner.as_bytes(), t, visit)
    }

    /// Visits the locks that are live at `t`, those of one owner where it is given.
    pub fn each_live(
        &self,
        owner: Option<&Text>,
        t: Timestamp,
        visit: impl FnMut(&Row),
    ) -> Result<(), Error> {
        match owner {
            Some(owner) => self.probe.each_of_owner(owner.as_bytes(), t, visit),
            None => self.probe.each_live(t, visit),
        }
    }

    /// Deletes up to `max_rows` locks that lapsed from `since`, if it is given, to `until`, oldest first,
    /// leaving those that another transaction is writing; keeps the first `max_listed` of them, and has
    /// `deleted` told of each.
    pub fn delete_lapsed(
        &self,
        since: Option<Timestamp>,
        until: Timestamp,
        max_rows: i32,
        max_listed: usize,
        mut deleted: impl FnMut(&Row) -> Result<(), Error>,
    ) -> Result<Lapsed, Error> {
        let writer = self.writer()?;
        let mut lapsed = Lapsed::default();
        let mut told = Ok(());
        queue::note_writes();
        let visit = |row: &Row| {
            if writer.delete(&self.probe, row.place(), Wait::No) != Written::Done {
                lapsed.left.get_or_insert(row.expires_at());
                return true;
            }
            if ledger::is_used() {
                ledger::note_end(row.resource().as_bytes(), row.units(), row.expires_at());
            }
            lapsed.count += 1;
            told = deleted(row);
            if lapsed.listed.len() < max_listed {
                lapsed.listed.push((row.resource(), row.read()));
            }
            let full = lapsed.count == max_rows as u64;
            if full {
                lapsed.last = Some(row.expires_at());
            }
            !full && told.is_ok()
        };
        let scan = self.probe.each_lapsed(since, until, visit)?;
        told?;
        lapsed.left = [lapsed.left, scan.uncommitted].into_iter().flatten().min();
        lapsed.visited = scan.visited;
        Ok(lapsed)
    }

    /// Up to where the worker's sweeps have come; `None` where none has.
    pub fn swept(&self) -> Result<Option<Timestamp>, Error> {
        let oids = &self.probe.oids;
        let micros = clock::value(oids, oids.swept)?;
        Ok(micros.map(|micros| Timestamp::from_raw(micros - clock::POSTGRES_EPOCH)))
    }

    /// Remembers up to where the worker's sweeps have come.
    pub fn set_swept(&self, until: Timestamp) -> Result<(), Error> {
        let oids = &self.probe.oids;
        clock::set_value(oids, oids.swept, until.raw() + clock::POSTGRES_EPOCH)
    }

    /// When the oldest lock lapsed that lapsed before `before` and has not been swept.
    pub fn oldest_lapsed(&self, before: Timestamp) -> Result<Option<Timestamp>, Error> {
        let since = self.swept()?.filter(|swept| *swept <= before);
        let mut oldest = None;
        self.probe.each_lapsed(since, before, |row| {
            oldest = Some(row.expires_at());
            false
        })?;
        Ok(oldest)
    }

    /// When the newest lock was taken that was taken after `t`. The clock's floor is above them all, so that
    /// it has to look at them only where that is above `t`, too; a standby can't read it.
    pub fn acquired_after(&self, t: Timestamp) -> Result<Option<Timestamp>, Error> {
        if !pg::is_in_recovery() && clock::floor(&self.probe.oids)? <= t {
            return Ok(None);
        }
        let mut newest = None;
        self.probe.each(|row| {
            newest = newest.max(Some(row.acquired_at()).filter(|taken| *taken > t));
        });
        Ok(newest)
    }

    /// Visits what transactions that have not ended are taking or ending.
    pub fn each_pending(&self, mut visit: impl FnMut(Pending)) {
        self.probe.each_pending(|row, transaction, is_taking| {
            visit(Pending {
                row,
                is_taking,
                transaction: visibility::top_of(transaction),
                pid: visibility::pid_of(transaction),
            });
        });
    }
}
