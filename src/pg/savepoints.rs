//! What a transaction gathers for its end, apart for each of its savepoints, so that what happened since
//! one goes with its rollback.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::thread::LocalKey;

use pgrx::pg_sys::{self, SubTransactionId, SubXactEvent, XactEvent};

/// To be called at the ends of transactions.
pub type AtEnd = unsafe extern "C-unwind" fn(XactEvent::Type, *mut c_void);
/// The same of savepoints: with the one that has ended, and the one that it was in.
pub type AtSavepointsEnd = unsafe extern "C-unwind" fn(
    SubXactEvent::Type,
    SubTransactionId,
    SubTransactionId,
    *mut c_void,
);

/// Has both called from now on, if that has not been done. Answers whether it had not.
pub fn watch_ends(
    is_watched: &'static LocalKey<Cell<bool>>,
    at_end: AtEnd,
    at_savepoints_end: AtSavepointsEnd,
) -> bool {
    let is_new = !is_watched.replace(true);
    if is_new {
        // SAFETY: registered once, for as long as the process lives.
        unsafe {
            pg_sys::RegisterXactCallback(Some(at_end), null_mut());
            pg_sys::RegisterSubXactCallback(Some(at_savepoints_end), null_mut());
        }
    }
    is_new
}

/// What can be gathered.
pub trait Gather: Default {
    /// Takes over what was gathered since a savepoint that has been released.
    fn append(&mut self, later: Self);
}

/// Innermost savepoint last; only those in which something was gathered.
pub struct BySavepoint<T>(Vec<(SubTransactionId, T)>);

impl<T: Gather> BySavepoint<T> {
    pub const fn new() -> Self {
        BySavepoint(Vec::new())
    }

    /// What has been gathered since the innermost savepoint.
    pub fn current(&mut self) -> &mut T {
        // SAFETY: reads backend-local state.
        self.of(unsafe { pg_sys::GetCurrentSubTransactionId() })
    }

    fn of(&mut self, savepoint: SubTransactionId) -> &mut T {
        if self.0.last().is_none_or(|(last, _)| *last != savepoint) {
            self.0.push((savepoint, T::default()));
        }
        &mut self.0.last_mut().expect("there is one now").1
    }

    /// What has been gathered, outermost savepoint first.
    pub fn each(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, gathered)| gathered)
    }

    /// A savepoint has been released.
    pub fn released(&mut self, ended: SubTransactionId, parent: SubTransactionId) {
        if let Some((_, gathered)) = self.0.pop_if(|(last, _)| *last == ended) {
            self.of(parent).append(gathered);
        }
    }

    /// A savepoint has been rolled back, and is no more; those inside it began later. Answers what was
    /// gathered since.
    pub fn rolled_back(&mut self, ended: SubTransactionId) -> Vec<T> {
        let kept = self.0.partition_point(|(savepoint, _)| *savepoint < ended);
        self.0.drain(kept..).map(|(_, gathered)| gathered).collect()
    }

    /// All of it, at the transaction's end; `None` where there is nothing.
    pub fn take(&mut self) -> Option<T> {
        let mut rest = std::mem::take(&mut self.0).into_iter().map(|(_, all)| all);
        let mut all = rest.next()?;
        rest.for_each(|later| all.append(later));
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Gather for String {
        fn append(&mut self, later: Self) {
            self.push_str(&later);
        }
    }

    #[test]
    fn what_is_released_is_kept_and_what_is_rolled_back_is_not() {
        let mut gathered = BySavepoint::<String>::new();
        gathered.of(1).push('a');
        gathered.of(2).push('b');
        gathered.of(3).push('c');
        gathered.released(3, 2);
        gathered.of(4).push('d');
        gathered.rolled_back(4);
        gathered.released(2, 1);
        gathered.of(1).push('e');
        assert_eq!(gathered.take().as_deref(), Some("abce"));
        assert_eq!(gathered.take(), None);
    }

    #[test]
    fn what_was_released_goes_with_the_savepoint_around_it() {
        let mut gathered = BySavepoint::<String>::new();
        gathered.of(3).push('c');
        gathered.released(3, 2);
        gathered.rolled_back(3);
        gathered.of(2).push('d');
        gathered.rolled_back(2);
        gathered.of(1).push('e');
        assert_eq!(gathered.take().as_deref(), Some("e"));
    }
}
