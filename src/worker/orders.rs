//! What the launcher and its sweepers tell each other, in shared memory: a slot for each sweeper that
//! may run at a time, holding the order it was given and what has become of it.
//!
//! A slot is written by one process at a time: by the launcher until the sweeper starts, then by the
//! sweeper until it ends. A sweeper that has outlived its launcher knows by its ticket that its slot
//! has been given away, and keeps quiet.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32};

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgAtomic, pg_shmem_init};

use super::failure::Failure;
use crate::pg::shared_text::SharedText;

/// Sweepers at a time, at most: enough that one which takes long keeps nobody waiting, and half of
/// the worker slots that a server has by default.
pub const SWEEPERS: usize = 4;

// SAFETY: no other name in shared memory begins with softlock.
static ORDERS: PgAtomic<Orders> = unsafe { PgAtomic::new(c"softlock_orders") };

struct Orders {
    last_ticket: AtomicU32,
    slots: [Slot; SWEEPERS],
}

struct Slot {
    ticket: AtomicU32,
    database: AtomicU32,
    full: AtomicBool,
    stage: AtomicU32,
    code: AtomicI32,
    message: SharedText,
    detail: SharedText,
    hint: SharedText,
}

// SAFETY: atomics throughout, and no pointer.
unsafe impl PGRXSharedMemory for Orders {}

/// How far a sweeper has come; the values of `Slot::stage`.
const ENTERING: u32 = 0;
const INSIDE: u32 = 1;
const SWEPT: u32 = 2;
const FAILED: u32 = 3;

/// What the launcher sees of a sweeper.
pub enum Stage {
    /// It is not in its database yet.
    Entering,
    /// It sweeps, which may take as long as it takes.
    Inside,
    Swept,
    Failed(Failure),
}

/// Asks for the shared memory; in the postmaster, while it loads the library.
pub fn register() {
    pg_shmem_init!(ORDERS = Orders::new());
}

/// An order to sweep a database.
#[derive(Clone, Copy)]
pub struct Order {
    slot: &'static Slot,
    ticket: u32,
}

impl Order {
    /// Writes an order into a slot whose sweeper has ended. `full`: from the oldest lock on, not only
    /// from where earlier sweeps have come to.
    pub fn write(at: usize, database: pg_sys::Oid, full: bool) -> Order {
        let orders = ORDERS.get();
        let order = Order {
            slot: &orders.slots[at],
            ticket: orders.last_ticket.fetch_add(1, Relaxed).wrapping_add(1),
        };
        order.slot.ticket.store(order.ticket, Relaxed);
        order.slot.database.store(database.into(), Relaxed);
        order.slot.full.store(full, Relaxed);
        order.slot.stage.store(ENTERING, Release);
        order
    }

    /// The order with this ticket; `None` when its slot has been given away.
    pub fn find(ticket: u32) -> Option<Order> {
        let slot = ORDERS.get().slots.iter();
        slot.into_iter()
            .find(|slot| slot.ticket.load(Acquire) == ticket)
            .map(|slot| Order { slot, ticket })
    }

    pub fn ticket(&self) -> u32 {
        self.ticket
    }

    pub fn database(&self) -> pg_sys::Oid {
        self.slot.database.load(Relaxed).into()
    }

    /// Whether the sweep is to begin at the oldest lock.
    pub fn full(&self) -> bool {
        self.slot.full.load(Relaxed)
    }

    pub fn stage(&self) -> Stage {
        match self.slot.stage.load(Acquire) {
            ENTERING => Stage::Entering,
            INSIDE => Stage::Inside,
            SWEPT => Stage::Swept,
            _ => Stage::Failed(Failure::raised(
                self.slot.code.load(Relaxed).into(),
                self.slot.message.read(),
                Some(self.slot.detail.read()),
                Some(self.slot.hint.read()),
            )),
        }
    }

    /// The sweeper is in its database.
    pub fn entered(&self) {
        self.report(INSIDE);
    }

    /// The sweeper has done what it was to do.
    pub fn swept(&self) {
        self.report(SWEPT);
    }

    /// The sweeper gives up.
    pub fn failed(&self, failure: &Failure) {
        if self.is_current() {
            self.slot.code.store(failure.code() as i32, Relaxed);
            self.slot.message.write(failure.message());
            self.slot.detail.write(failure.detail().unwrap_or_default());
            self.slot.hint.write(failure.hint().unwrap_or_default());
            self.report(FAILED);
        }
    }

    fn report(&self, stage: u32) {
        if self.is_current() {
            self.slot.stage.store(stage, Release);
        }
    }

    fn is_current(&self) -> bool {
        self.slot.ticket.load(Acquire) == self.ticket
    }
}

impl Orders {
    fn new() -> Self {
        Orders {
            last_ticket: AtomicU32::new(0),
            slots: std::array::from_fn(|_| Slot {
                ticket: AtomicU32::new(0),
                database: AtomicU32::new(0),
                full: AtomicBool::new(false),
                stage: AtomicU32::new(ENTERING),
                code: AtomicI32::new(0),
                message: SharedText::new(),
                detail: SharedText::new(),
                hint: SharedText::new(),
            }),
        }
    }
}
