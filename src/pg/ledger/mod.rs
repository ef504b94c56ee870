//! How many units of a resource may be taken, in shared memory, so that taking one does not mean looking
//! at every other holder.
//!
//! An account never says less than is held and taken, whatever becomes of the transactions at it: taking
//! adds at once, ending subtracts when its transaction has committed, a rollback subtracts what it had
//! added. It may say more: locks lapse, accounts are counted anew, prepared transactions end elsewhere. So
//! it can only grant. Who finds no room by it looks at all holders, and where there is room after all,
//! counts it anew.
//!
//! Rows that are written otherwise than by softlock's calls void all accounts: see `brought`.
//!
//! What a transaction has ended itself it may take itself, though it is in the account until it has
//! committed: it has that much credit.
//!
//! Counting takes no lock: what is promised meanwhile is added to what was seen. Promised units go into the
//! table after the stripe's lock has been given back; until then they are in flight, and who wants the
//! whole resource waits for them to land.

mod at_end;
mod brought;

use std::sync::atomic::Ordering::Relaxed;

use pgrx::pg_sys::{self, LWLockMode};

use super::Timestamp;
use super::heavy;
use super::shared::{self, Account, Lock, Memory, Stripe};
use at_end::{credit, remember_credit, remember_ended, remember_taken};
pub use brought::watch;

/// What an account says that has not been counted: nothing fits.
const UNKNOWN: i64 = i64::MAX / 4;

/// A resource's name in the ledger.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    stripe: usize,
    hashes: [u64; 2],
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
    last_void: u64,
    added: i64,
    in_flight: i64,
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

/// How many units an account says may be taken.
fn said(memory: &Memory, account: &Account) -> i64 {
    match account.count.load(Relaxed) > brought::last_void(memory) {
        true => account.units.load(Relaxed),
        false => UNKNOWN,
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
        remember_taken(name, account.count.load(Relaxed), units);
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
        remember_ended(name, count, units.into());
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
            account.is_some_and(|account| said(memory, account) + units <= i64::from(capacity))
        })
}

/// Promises so many more units, if they fit as far as the account knows. They are to be written, and the
/// promise to be settled, at once.
pub fn promise(resource: &[u8], units: i64, capacity: i32) -> Option<Promise> {
    promise_at_most(resource, units, capacity.into())
}

fn promise_at_most(resource: &[u8], units: i64, capacity: i64) -> Option<Promise> {
    let memory = shared::memory()?;
    let name = Name::of(resource);
    let promise = locked(memory, name.stripe, LWLockMode::LW_EXCLUSIVE, |stripe| {
        let account = stripe.account(name)?;
        let count = account.count.load(Relaxed);
        let all = said(memory, account) + units;
        if all > capacity && all - credit(name, count) > capacity {
            return None;
        }
        account.units.fetch_add(units, Relaxed);
        account.added.fetch_add(units, Relaxed);
        account.in_flight.fetch_add(units, Relaxed);
        stripe.writes.fetch_add(1, Relaxed);
        Some(Promise { name, count, units })
    });
    at_end::unsettled(promise);
    promise
}

impl Promise {
    /// To be said when the units are in the table, or that they will not be.
    pub fn settle(self, is_written: bool) {
        at_end::unsettled(None);
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
            remember_taken(self.name, self.count, self.units);
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
            last_void: brought::last_void(memory),
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
    /// Writes down that `most` units may be taken, as of a look at `t` that was taken after the beginning, of which
    /// this transaction has ended so many itself: they are in the account until it has committed.
    pub fn finish(self, most: i64, ended: i64, t: Timestamp) {
        let Some(memory) = shared::memory() else {
            return;
        };
        let count = locked(
            memory,
            self.name.stripe,
            LWLockMode::LW_EXCLUSIVE,
            |stripe| {
                let account = stripe.account(self.name);
                let account = account.filter(|a| a.opened.load(Relaxed) == self.opened)?;
                if brought::last_void(memory) != self.last_void {
                    return None;
                }
                let since = account.added.load(Relaxed) - self.added;
                let number = memory.last_count.fetch_add(1, Relaxed) + 1;
                account.units.store(most + since + self.in_flight, Relaxed);
                account.counted_at.store(t.raw(), Relaxed);
                account.count.store(number, Relaxed);
                Some(number)
            },
        );
        if let Some(count) = count.filter(|_| ended > 0) {
            remember_credit(self.name, count, ended);
        }
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
