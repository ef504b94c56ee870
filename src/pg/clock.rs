//! The clock that versions and tokens are drawn from: a hybrid logical clock in microseconds since 1970.
//! Each number is larger than all before it, and not smaller than the time.
//!
//! While the server runs preloaded, the last number drawn is in shared memory. Across a crash, a restart
//! or a clock that has been set back a floor keeps watch: a sequence that is on disk before any number
//! above it is told to anybody, and so at most once a second is lifted a second ahead. Who finds the time
//! behind the floor goes on from the floor.

use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;

use pgrx::{IntoDatum, direct_function_call, pg_sys};

use super::Timestamp;
use super::heavy::{self, Space};
use super::relations::{self, Oids};
use super::shared::{self, Lock, Memory};
use crate::error::Error;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's clock starts.
pub const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
/// How far the floor is lifted ahead of the time.
const LEAD: i64 = 1_000_000;
/// How far it is lifted ahead of a number that is ahead of the time itself: every new session goes on from
/// the floor then, and must not run away from the time.
const SHORT_LEAD: i64 = 1_000;

/// A floor so far ahead of the time was not drawn from any clock: two hundred years.
const PLAUSIBLE: i64 = 200 * 365 * 86_400 * 1_000_000;

thread_local! {
    /// The sequence and the floor that this session has seen last. The floor may have risen since.
    static FLOOR: Cell<(pg_sys::Oid, i64)> = const { Cell::new((pg_sys::Oid::INVALID, 0)) };
}

/// The system's clock.
pub fn unix_micros() -> i64 {
    Timestamp::now().raw() + POSTGRES_EPOCH
}

/// A number larger than all drawn before, than `above`, and not smaller than the time.
pub fn draw(oids: &Oids, above: i64) -> Result<i64, Error> {
    match shared::memory() {
        Some(memory) => draw_shared(oids, memory, above),
        None => draw_alone(oids, above),
    }
}

fn draw_shared(oids: &Oids, memory: &Memory, above: i64) -> Result<i64, Error> {
    let now = unix_micros();
    let (sequence, mut floor) = FLOOR.get();
    if sequence != oids.token {
        floor = read_plausible(oids, now)?;
        // The first one in this database since the server started can't know whether the clock has been
        // set back meanwhile, and by how much.
        if now < floor - LEAD || !memory.has_drawn_in_this_database() {
            memory.last_drawn.fetch_max(floor, SeqCst);
            memory.note_drawn_in_this_database();
        }
        FLOOR.set((oids.token, floor));
    }
    let next = |last: i64| now.max(last + 1).max(above + 1);
    let last = memory
        .last_drawn
        .fetch_update(SeqCst, SeqCst, |last| Some(next(last)));
    let drawn = next(last.expect("there always is a next number"));
    if drawn > floor {
        with_clock_locked(oids, || lift(oids, drawn, now))?;
    } else if floor - drawn < LEAD / 2 && drawn == now && try_clock_lock() {
        // Early, so that nobody has to wait for it.
        let lifted = lift(oids, drawn + LEAD / 2, now);
        clock_unlock();
        lifted?;
    }
    Ok(drawn)
}

/// Without shared memory the sequence itself has the last number drawn.
fn draw_alone(oids: &Oids, above: i64) -> Result<i64, Error> {
    with_clock_locked(oids, || {
        let now = unix_micros();
        let floor = read_plausible(oids, now)?;
        let drawn = now.max(floor + 1).max(above + 1);
        set(oids, drawn)?;
        Ok(drawn)
    })
}

/// Lifts the floor to `number` at least. Under the clock's lock, so that it never falls.
fn lift(oids: &Oids, number: i64, now: i64) -> Result<(), Error> {
    let mut floor = read(oids)?;
    if floor < number {
        let lead = if number > now + LEAD {
            SHORT_LEAD
        } else {
            LEAD
        };
        floor = number.max(now) + lead;
        set(oids, floor)?;
    }
    FLOOR.set((oids.token, floor));
    Ok(())
}

/// Up to when, at the latest, a lock can have been taken: the floor, less what it is lifted ahead.
pub fn floor(oids: &Oids) -> Result<Timestamp, Error> {
    let floor = read_plausible(oids, unix_micros())?;
    Ok(Timestamp::from_raw(floor - POSTGRES_EPOCH - 2 * LEAD))
}

/// The floor to go on from, if some clock can have come to it.
fn read_plausible(oids: &Oids, now: i64) -> Result<i64, Error> {
    match read(oids)? {
        floor if floor > now + PLAUSIBLE => Err(Error::FloorImplausible),
        floor => Ok(floor),
    }
}

/// The floor as it is now.
fn read(oids: &Oids) -> Result<i64, Error> {
    Ok(value(oids, oids.token)?.unwrap_or(0))
}

/// Sets the floor, and has it on disk.
fn set(oids: &Oids, floor: i64) -> Result<(), Error> {
    set_value(oids, oids.token, floor)?;
    // SAFETY: flushes what this transaction has written to the log, the sequence's value included.
    unsafe { pg_sys::XLogFlush(pg_sys::XactLastRecEnd) };
    Ok(())
}

/// The value of one of softlock's sequences; `None` where it has never been set.
pub fn value(oids: &Oids, sequence: pg_sys::Oid) -> Result<Option<i64>, Error> {
    relations::lock_sequence(sequence)?;
    // SAFETY: called with the one argument of its type.
    Ok(relations::as_owner(oids.owner, || unsafe {
        direct_function_call(pg_sys::pg_sequence_last_value, &[sequence.into_datum()])
    }))
}

/// Sets one of softlock's sequences, which no rollback undoes.
pub fn set_value(oids: &Oids, sequence: pg_sys::Oid, value: i64) -> Result<(), Error> {
    relations::lock_sequence(sequence)?;
    // SAFETY: called with the two arguments of their types.
    relations::as_owner(oids.owner, || unsafe {
        let arguments = [sequence.into_datum(), value.into_datum()];
        direct_function_call::<i64>(pg_sys::setval_oid, &arguments)
    });
    Ok(())
}

fn with_clock_locked<R>(oids: &Oids, work: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    let name = u64::from(u32::from(oids.token));
    match shared::lock(Lock::Clock) {
        // SAFETY: a lock of softlock's tranche; after an ERROR the server's abort gives it back.
        Some(lock) => unsafe {
            pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        },
        None => heavy::lock_whatever_it_takes(Space::Clock, name),
    }
    let result = work();
    match shared::lock(Lock::Clock) {
        Some(_) => clock_unlock(),
        None => heavy::unlock(Space::Clock, name),
    }
    result
}

fn try_clock_lock() -> bool {
    // SAFETY: as above.
    shared::lock(Lock::Clock).is_some_and(|lock| unsafe {
        pg_sys::LWLockConditionalAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE)
    })
}

fn clock_unlock() {
    if let Some(lock) = shared::lock(Lock::Clock) {
        // SAFETY: taken by this process.
        unsafe { pg_sys::LWLockRelease(lock) };
    }
}
