//! How many units of a resource may be taken, in shared memory, so that taking one does not mean looking
//! at every other holder.
//!
//! An account never says less than is held and taken, whatever becomes of the transactions at it: taking
//! adds at once, ending subtracts when its transaction has committed, a rollback subtracts what it had
//! added. It may say more: locks lapse, accounts are counted anew, prepared transactions end elsewhere. So
//! it can only grant. Who finds no room by it looks at all holders, and where there is room after all,
//! counts it anew.
//!
//! Counting takes no lock: what is promised meanwhile is added to what was seen. Promised units go into the
//! table after the stripe's lock has been given back; until then they are in flight, and who wants the
//! whole resource waits for them to land.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::Relaxed;

use pgrx::pg_sys::{self, LWLockMode, SubTransactionId, SubXactEvent, XactEvent};

use super::Timestamp;
use super::heavy;
use super::savepoints::{BySavepoint, Gather};
use super::shared::{self, Account, Lock, Memory, Stripe};

/// A transaction that has changed more than so much leaves the rest to the next count.
const MOST: usize = 10_000;
/// What an account says that has not been counted: nothing fits.
const UNKNOWN: i64 = i64::MAX / 4;

/// A resource's name in the ledger.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    stripe: usize,
    hashes: [u64; 2],
}

/// What is to be subtracted when the transaction or savepoint has ended.
struct Pending {
    name: Name,
    count: u64,
    on_commit: i64,
    on_abort: i64,
}

#[derive(Default)]
struct Changes(Vec<Pending>);

impl Gather for Changes {
    fn append(&mut self, later: Self) {
        let room = MOST - self.0.len();
        self.0.extend(later.0.into_iter().take(room));
    }
}

/// Units that were promised, and are not in the table yet.
#[derive(Clone, Copy)]
pub struct Promise {
    name: Name,
    count: u64,
    units: i64,
}

/// A count that has begun.
pub struct Count {
    name: Name,
    opened: u64,
    added: i64,
    in_flight: i64,
}

thread_local! {
    static PENDING: RefCell<BySavepoint<Changes>> = const { RefCell::new(BySavepoint::new()) };
    static PROMISE: Cell<Option<Promise>> = const { Cell::new(None) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

impl Name {
    fn of(resource: &[u8]) -> Name {
        let hash = heavy::hash(resource);
        Name {
            stripe: shared::stripe_of(hash),
            hashes: [hash, heavy::hash_by(resource, 1) | 1],
        }
    }
}

impl Stripe {
    fn account(&self, name: Name) -> Option<&Account> {
        let is_its = |account: &&Account| {
            let [first, second] = &account.name;
            [first.load(Relaxed), second.load(Relaxed)] == name.hashes
        };
        self.accounts.iter().find(is_its)
    }
}

/// Whether there is a ledger: the library was preloaded.
pub fn is_there() -> bool {
    shared::memory().is_some()
}

/// Whether more units are in flight of any resource of the stripe, whose lock this process has.
pub fn is_ahead(hash: u64) -> bool {
    let Some(stripe) = shared::memory().map(|memory| &memory.stripes[shared::stripe_of(hash)])
    else {
        return false;
    };
    let in_flight = |account: &Account| {
        account.in_flight.load(Relaxed) != 0 && account.name[0].load(Relaxed) == hash
    };
    stripe.has_accounts.load(Relaxed) && stripe.accounts.iter().any(in_flight)
}

/// Whether there has been any account since the server started. Where there are no units there is none, and
/// nothing to be told of.
pub fn is_used() -> bool {
    shared::memory().is_some_and(|memory| memory.last_count.load(Relaxed) != 0)
}

/// The resource's stripe, if any of its resources has an account.
fn stripe_with_accounts(resource: &[u8]) -> Option<(&'static Memory, usize)> {
    let memory = shared::memory().filter(|_| is_used())?;
    let stripe = shared::stripe_of(heavy::hash(resource));
    let has_accounts = memory.stripes[stripe].has_accounts.load(Relaxed);
    has_accounts.then_some((memory, stripe))
}

/// To be told of a grant outside of the ledger, under the stripe's lock.
pub fn note_grant(resource: &[u8], units: i32) {
    let Some((memory, stripe)) = stripe_with_accounts(resource) else {
        return;
    };
    let (name, units) = (Name::of(resource), i64::from(units));
    if let Some(account) = memory.stripes[stripe].account(name) {
        account.units.fetch_add(units, Relaxed);
        account.added.fetch_add(units, Relaxed);
        remember(name, account.count.load(Relaxed), 0, units);
    }
}

/// To be told when a lock, or a part of its units, has been ended in this transaction.
pub fn note_end(resource: &[u8], units: i32, expires_at: Timestamp) {
    let Some((memory, stripe)) = stripe_with_accounts(resource) else {
        return;
    };
    let name = Name::of(resource);
    let counted = locked(memory, stripe, LWLockMode::LW_SHARED, |stripe| {
        let account = stripe.account(name)?;
        // What had lapsed when it was counted is not in it.
        let is_in = expires_at.raw() > account.counted_at.load(Relaxed);
        is_in.then(|| account.count.load(Relaxed))
    });
    if let Some(count) = counted {
        remember(name, count, units.into(), 0);
    }
}

/// Whether so many more units would fit, as far as the account knows.
pub fn would_fit(resource: &[u8], units: i64, capacity: i32) -> bool {
    let Some(memory) = shared::memory() else {
        return false;
    };
    let name = Name::of(resource);
    let stripe = &memory.stripes[name.stripe];
    stripe.has_accounts.load(Relaxed)
        && locked(memory, name.stripe, LWLockMode::LW_SHARED, |stripe| {
            let account = stripe.account(name);
            account.is_some_and(|a| a.units.load(Relaxed) + units <= i64::from(capacity))
        })
}

/// Promises so many more units, if they fit as far as the account knows. They are to be written, and the
/// promise to be settled, at once.
pub fn promise(resource: &[u8], units: i64, capacity: i32) -> Option<Promise> {
    promise_at_most(resource, units, capacity.into())
}

fn promise_at_most(resource: &[u8], units: i64, capacity: i64) -> Option<Promise> {
    register();
    let memory = shared::memory()?;
    let name = Name::of(resource);
    let promise = locked(memory, name.stripe, LWLockMode::LW_EXCLUSIVE, |stripe| {
        let account = stripe.account(name)?;
        if account.units.load(Relaxed) + units > capacity {
            return None;
        }
        account.units.fetch_add(units, Relaxed);
        account.added.fetch_add(units, Relaxed);
        account.in_flight.fetch_add(units, Relaxed);
        stripe.writes.fetch_add(1, Relaxed);
        Some(Promise {
            name,
            count: account.count.load(Relaxed),
            units,
        })
    });
    PROMISE.set(promise);
    promise
}

impl Promise {
    /// To be said when the units are in the table, or that they will not be.
    pub fn settle(self, is_written: bool) {
        PROMISE.set(None);
        let Some(memory) = shared::memory() else {
            return;
        };
        locked(
            memory,
            self.name.stripe,
            LWLockMode::LW_EXCLUSIVE,
            |stripe| {
                stripe.writes.fetch_add(1, Relaxed);
                if let Some(account) = stripe.account(self.name) {
                    account.in_flight.fetch_sub(self.units, Relaxed);
                    if !is_written && account.count.load(Relaxed) == self.count {
                        account.units.fetch_sub(self.units, Relaxed);
                    }
                }
            },
        );
        if is_written {
            remember(self.name, self.count, 0, self.units);
        }
    }
}

/// The same for units that another holder gives up in this transaction, so that they fit in any event;
/// `None` where there is no ledger, or for the moment no room in it.
pub fn promise_moved(resource: &[u8], units: i64) -> Option<Promise> {
    begin_count(resource)?;
    promise_at_most(resource, units, i64::MAX)
}

/// Begins to count a resource's units; `None` where there is no room for an account. To be followed by a look
/// with a new snapshot.
pub fn begin_count(resource: &[u8]) -> Option<Count> {
    let memory = shared::memory()?;
    let name = Name::of(resource);
    locked(memory, name.stripe, LWLockMode::LW_EXCLUSIVE, |stripe| {
        let account = match stripe.account(name) {
            Some(account) => account,
            None => open(memory, stripe, name)?,
        };
        Some(Count {
            name,
            opened: account.opened.load(Relaxed),
            added: account.added.load(Relaxed),
            in_flight: account.in_flight.load(Relaxed),
        })
    })
}

/// Opens an account, in place of one that is free, or of which nothing is in flight.
fn open<'a>(memory: &Memory, stripe: &'a Stripe, name: Name) -> Option<&'a Account> {
    let number = memory.last_count.fetch_add(1, Relaxed) + 1;
    let is_free = |account: &&Account| account.name[1].load(Relaxed) == 0;
    let mut idle = stripe
        .accounts
        .iter()
        .cycle()
        .skip(number as usize % stripe.accounts.len());
    let account = stripe.accounts.iter().find(is_free).or_else(|| {
        let mut few = idle.by_ref().take(stripe.accounts.len());
        few.find(|account| account.in_flight.load(Relaxed) == 0)
    })?;
    for (to, hash) in account.name.iter().zip(name.hashes) {
        to.store(hash, Relaxed);
    }
    account.opened.store(number, Relaxed);
    account.count.store(number, Relaxed);
    account.counted_at.store(i64::MIN, Relaxed);
    account.units.store(UNKNOWN, Relaxed);
    account.added.store(0, Relaxed);
    account.in_flight.store(0, Relaxed);
    stripe.has_accounts.store(true, Relaxed);
    Some(account)
}

impl Count {
    /// Writes down that `most` units may be taken, as of a look at `t` that was taken after the beginning.
    pub fn finish(self, most: i64, t: Timestamp) {
        let Some(memory) = shared::memory() else {
            return;
        };
        locked(
            memory,
            self.name.stripe,
            LWLockMode::LW_EXCLUSIVE,
            |stripe| {
                let account = stripe.account(self.name);
                let Some(account) = account.filter(|a| a.opened.load(Relaxed) == self.opened)
                else {
                    return;
                };
                let since = account.added.load(Relaxed) - self.added;
                let number = memory.last_count.fetch_add(1, Relaxed) + 1;
                account.units.store(most + since + self.in_flight, Relaxed);
                account.counted_at.store(t.raw(), Relaxed);
                account.count.store(number, Relaxed);
            },
        );
    }
}

fn locked<R>(
    memory: &'static Memory,
    stripe: usize,
    mode: LWLockMode::Type,
    work: impl FnOnce(&'static Stripe) -> R,
) -> R {
    let lock = shared::lock(Lock::Stripe(stripe)).expect("it comes with the memory");
    let stripe = &memory.stripes[stripe];
    // SAFETY: a lock of softlock's tranche; `work` raises no error. Who is inside the resource's mutex has it
    // already, and would wait for itself.
    unsafe {
        if pg_sys::LWLockHeldByMe(lock) {
            return work(stripe);
        }
        pg_sys::LWLockAcquire(lock, mode);
        let result = work(stripe);
        pg_sys::LWLockRelease(lock);
        result
    }
}

/// Remembers what to subtract at the end of the transaction or savepoint.
fn remember(name: Name, count: u64, on_commit: i64, on_abort: i64) {
    register();
    PENDING.with_borrow_mut(|pending| {
        let changes = &mut pending.current().0;
        if changes.len() < MOST {
            changes.push(Pending {
                name,
                count,
                on_commit,
                on_abort,
            });
        }
    });
}

/// Subtracts, if the account has not been counted since.
fn subtract(name: Name, count: u64, units: i64) {
    let Some(memory) = shared::memory().filter(|_| units != 0) else {
        return;
    };
    locked(memory, name.stripe, LWLockMode::LW_EXCLUSIVE, |stripe| {
        let account = stripe.account(name);
        if let Some(account) = account.filter(|a| a.count.load(Relaxed) == count) {
            account.units.fetch_sub(units, Relaxed);
        }
    });
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
    if let Some(promise) = PROMISE.get() {
        promise.settle(false);
    }
}

/// What this transaction has gathered, at its end.
fn take() -> Vec<Pending> {
    let changes = PENDING.with_borrow_mut(BySavepoint::take);
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
            PENDING.with_borrow_mut(|pending| pending.released(ended, parent));
        }
        SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
            settle_what_failed();
            let changes = PENDING.with_borrow_mut(|pending| pending.rolled_back(ended));
            for change in changes.into_iter().flat_map(|changes| changes.0) {
                subtract(change.name, change.count, change.on_abort);
            }
        }
        _ => (),
    }
}
