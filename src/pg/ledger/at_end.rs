//! What a transaction leaves to be subtracted from accounts when it, or one of its savepoints, has ended.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, SubTransactionId, SubXactEvent, XactEvent};

use super::{Name, Promise, subtract};
use crate::pg::savepoints::{BySavepoint, Gather};

/// A transaction that has changed more than so much leaves the rest to the next count.
const MOST: usize = 10_000;

/// What is to be subtracted, if the account has not been counted since.
pub struct AtEnd {
    pub name: Name,
    pub count: u64,
    pub on_commit: i64,
    pub on_abort: i64,
}

#[derive(Default)]
struct Changes(Vec<AtEnd>);

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

/// Remembers what to subtract at the end of the transaction or savepoint.
pub fn remember(change: AtEnd) {
    keep(change, MOST);
}

/// Remembers that so many of the units which were counted this transaction has ended itself; in any event, as else it
/// would find no room, and count again, and again.
pub fn remember_credit(name: Name, count: u64, ended: i64) {
    let change = AtEnd {
        name,
        count,
        on_commit: ended,
        on_abort: 0,
    };
    keep(change, usize::MAX);
}

fn keep(change: AtEnd, most: usize) {
    register();
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
    if IS_REGISTERED.replace(true) {
        return;
    }
    // SAFETY: registered once; the functions raise no errors.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_end), null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_savepoints_end), null_mut());
    }
}

/// What an error has kept from being settled.
fn settle_what_failed() {
    if let Some(promise) = UNSETTLED.get() {
        promise.settle(false);
    }
}

/// What this transaction has gathered, at its end.
fn take() -> Vec<AtEnd> {
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
