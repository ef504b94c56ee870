//! What is said once it has happened, when the transaction commits: lines in the log, and events to those
//! who listen. What a savepoint's rollback undoes is not said.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_char, c_void};

use pgrx::pg_sys::{self, SubTransactionId, SubXactEvent, XactEvent};

use super::savepoints::{BySavepoint, Gather, watch_ends};
use super::{Level, Report};
use crate::events::Events;
use crate::journal::Event;
use crate::text::Text;

/// So much is remembered for one transaction's end; more is said in one line.
const MOST: usize = 1000;

#[derive(Default)]
struct Lines(Vec<(Level, Report)>);

impl Gather for Lines {
    fn append(&mut self, later: Self) {
        let room = MOST - self.0.len();
        self.0.extend(later.0.into_iter().take(room));
    }
}

impl Gather for Events {
    fn append(&mut self, later: Self) {
        self.append(later);
    }
}

thread_local! {
    static LINES: RefCell<BySavepoint<Lines>> = const { RefCell::new(BySavepoint::new()) };
    static EVENTS: RefCell<BySavepoint<Events>> = const { RefCell::new(BySavepoint::new()) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Says it when the transaction has committed.
pub fn log(line: (Level, Report)) {
    register();
    LINES.with_borrow_mut(|lines| {
        let lines = &mut lines.current().0;
        if lines.len() < MOST {
            lines.push(line);
        }
    });
}

/// Sends it to those who listen when the transaction commits.
pub fn notify(event: Event, resource: &Text, owner: &Text, units: i32) {
    register();
    EVENTS.with_borrow_mut(|events| events.current().push(event, resource, owner, units));
}

fn register() {
    watch_ends(&IS_REGISTERED, at_end, at_savepoints_end);
}

unsafe extern "C-unwind" {
    /// Not in pgrx's bindings.
    fn Async_Notify(channel: *const c_char, payload: *const c_char);
}

/// Hands the events to the server, which sends them if the transaction does commit.
fn send(events: Events) {
    for message in events.messages() {
        let message = CString::new(message).expect("a text of the server's has no NUL");
        // SAFETY: the server copies both; before a commit it may be told still.
        // An error of its goes on as one of Rust's, so that what is on the stack is dropped.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                Async_Notify(c"softlock".as_ptr(), message.as_ptr());
            });
        }
    }
}

fn take<T: Gather>(gathered: &RefCell<BySavepoint<T>>) -> Option<T> {
    gathered.borrow_mut().take()
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_end(event: XactEvent::Type, _argument: *mut c_void) {
    match event {
        XactEvent::XACT_EVENT_PRE_COMMIT => {
            if let Some(events) = EVENTS.with(take) {
                send(events);
            }
        }
        // A transaction that has sent something can't be prepared. It is better done without.
        XactEvent::XACT_EVENT_PRE_PREPARE => drop(EVENTS.with(take)),
        // Who commits a prepared transaction does not know of the lines; so they are said now.
        XactEvent::XACT_EVENT_COMMIT
        | XactEvent::XACT_EVENT_PARALLEL_COMMIT
        | XactEvent::XACT_EVENT_PREPARE => {
            for (level, line) in LINES.with(take).unwrap_or_default().0 {
                line.emit(level);
            }
        }
        XactEvent::XACT_EVENT_ABORT | XactEvent::XACT_EVENT_PARALLEL_ABORT => {
            drop(EVENTS.with(take));
            drop(LINES.with(take));
        }
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
            LINES.with_borrow_mut(|lines| lines.released(ended, parent));
            EVENTS.with_borrow_mut(|events| events.released(ended, parent));
        }
        SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
            LINES.with_borrow_mut(|lines| drop(lines.rolled_back(ended)));
            EVENTS.with_borrow_mut(|events| drop(events.rolled_back(ended)));
        }
        _ => (),
    }
}
