//! What a transaction leaves to be subtracted from accounts when it, or one of its savepoints, has ended.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;

use pgrx::pg_sys::{SubTransactionId, SubXactEvent, XactEvent};

use super::{Name, Promise, subtract};
use crate::pg::savepoints::{BySavepoint, Gather, watch_ends};

/// A transaction that has changed more than so much leaves the rest to the next count.
const MOST: usize = 10_000;

/// What is to be subtracted, if the account has not been counted since.
struct Change {
    name: Name,
    count: u64,
    on_commit: i64,
    on_abort: i64,
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Gather for Changes {
    fn append(&mut self, later: Self) {
        let room = MOST.saturating_sub(self.0.len());
        self.0.extend(later.0.into_iter().take(room));
    }
}

thread_local! {
    static CHANGES: RefCell<BySavepoint<Changes>> = const { RefCell::new(BySavepoint::new()) };
    static UNSETTLED: Cell<Option<Promise>> = const { Cell::new(None) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Remembers that this transaction has taken so many units, which are in the account since it was so counted.
pub fn remember_taken(name: Name, count: u64, units: i64) {
    remember(name, count, 0, units, MOST);
}

/// The same of units that it has ended.
pub fn remember_ended(name: Name, count: u64, units: i64) {
    remember(name, count, units, 0, MOST);
}

/// The same of units that it had ended before they were counted; in any event, as else it would find no room, and
/// count again, and again.
pub fn remember_credit(name: Name, count: u64, units: i64) {
    remember(name, count, units, 0, usize::MAX);
}

fn remember(name: Name, count: u64, on_commit: i64, on_abort: i64, most: usize) {
    register();
    let change = Change {
        name,
        count,
        on_commit,
        on_abort,
    };
    CHANGES.with_borrow_mut(|changes| {
        let changes = &mut changes.current().0;
        if changes.len() < most {
            changes.push(change);
        }
    });
}

/// How many of the units that such an account says are taken this transaction has ended itself.
pub fn credit(name: Name, count: u64) -> i64 {
    CHANGES.with_borrow(|changes| {
        let all = changes.each().flat_map(|changes| &changes.0);
        all.filter(|change| change.name == name && change.count == count)
            .map(|change| change.on_commit)
            .sum()
    })
}

/// The promise that is to be settled, or that there is none any more.
pub fn unsettled(promise: Option<Promise>) {
    register();
    UNSETTLED.set(promise);
}

fn register() {
    watch_ends(&IS_REGISTERED, at_end, at_savepoints_end);
}

/// What an error has kept from being settled.
fn settle_what_failed() {
    if let Some(promise) = UNSETTLED.get() {
        promise.settle(false);
    }
}

/// What this transaction has gathered, at its end.
fn take() -> Vec<Change> {
    let changes = CHANGES.with_borrow_mut(BySavepoint::take);
    changes.unwrap_or_default().0
}

unsafe extern "C-unwind" fn at_end(event: XactEvent::Type, _: *mut c_void) {
    use XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    match event {
        XACT_EVENT_COMMIT => {
            for change in take() {
                subtract(change.name, change.count, change.on_commit);
            }
        }
        XACT_EVENT_ABORT => {
            settle_what_failed();
            for change in take() {
                subtract(change.name, change.count, change.on_abort);
            }
        }
        // How it ends is not known here: it counts until the next count.
        XACT_EVENT_PREPARE => drop(take()),
        _ => (),
    }
}

unsafe extern "C-unwind" fn at_savepoints_end(
    event: SubXactEvent::Type,
    ended: SubTransactionId,
    parent: SubTransactionId,
    _: *mut c_void,
) {
    match event {
        SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            CHANGES.with_borrow_mut(|changes| changes.released(ended, parent));
        }
        SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
            settle_what_failed();
            let changes = CHANGES.with_borrow_mut(|changes| changes.rolled_back(ended));
            for change in changes.into_iter().flat_map(|changes| changes.0) {
                subtract(change.name, change.count, change.on_abort);
            }
        }
        _ => (),
    }
}
