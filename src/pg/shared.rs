//! softlock's shared memory: the mutexes of resources, how often each was used to write, how many wait,
//! what is counted, of units and for statistics, and the last number drawn. It is there when the library is preloaded; without it everything works,
//! by the server's heavyweight locks and its sequence, at a higher price.

use std::cell::UnsafeCell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64};

use pgrx::prelude::*;
use pgrx::{PgSharedMemoryInitialization, pg_shmem_init, pg_sys};

use super::tally::Tallies;

/// Resources are spread over so many mutexes by their hash.
const STRIPES: usize = 2048;
/// Resources of a stripe whose units are counted at a time.
const ACCOUNTS: usize = 2;
/// So many mutexes there are for holders, and as many for owners.
const NARROW: usize = 512;

/// What the resources of one mutex share.
pub struct Stripe {
    /// Counts what has been written under the mutex.
    pub writes: AtomicU64,
    /// How many sessions wait for a resource of this stripe.
    pub waiters: AtomicU32,
    /// Whether there is any account.
    pub has_accounts: AtomicBool,
    pub accounts: [Account; ACCOUNTS],
}

/// What is counted of a resource that has units; read and written under the stripe's lock. See `ledger`.
pub struct Account {
    /// The resource, by two hashes; zero where the account is free.
    pub name: [AtomicU64; 2],
    /// Another number each time that the account is opened.
    pub opened: AtomicU64,
    /// Another number each time that the units are counted anew.
    pub count: AtomicU64,
    /// When they were.
    pub counted_at: AtomicI64,
    /// No fewer units than are held and taken.
    pub units: AtomicI64,
    /// How many have been taken since the account was opened.
    pub added: AtomicI64,
    /// How many of them may not be in the table yet.
    pub in_flight: AtomicI64,
}

/// A session that waits for a resource, and where it can be woken.
pub struct Sleeper {
    /// Its entry in the server's array; null where the slot is free.
    pub process: AtomicPtr<pg_sys::PGPROC>,
    /// The resource, by hash.
    pub hash: AtomicU64,
}

/// So many sessions can be woken; more have to look for themselves.
const SLEEPERS: usize = 256;

pub struct Memory {
    pub stripes: [Stripe; STRIPES],
    pub sleepers: [Sleeper; SLEEPERS],
    /// The last of the accounts' counts.
    pub last_count: AtomicU64,
    /// Accounts that were counted up to this one have not heard of all that has come in.
    pub last_void: AtomicU64,
    /// The largest number drawn since the server started.
    pub last_drawn: AtomicI64,
    /// The databases in which a number has been drawn since the server started; 0 where there is room.
    databases: [AtomicU32; DATABASES],
    pub tallies: Tallies,
}

/// So many databases are remembered; in others every new session goes on from the clock's floor, and what
/// is counted is not shown.
pub const DATABASES: usize = 1024;

impl Memory {
    pub fn has_drawn_in_this_database(&self) -> bool {
        // SAFETY: set in every backend that runs SQL.
        let database = u32::from(unsafe { pg_sys::MyDatabaseId });
        let entries = self.databases.iter().map(|entry| entry.load(SeqCst));
        entries
            .take_while(|&entry| entry != 0)
            .any(|entry| entry == database)
    }

    pub fn note_drawn_in_this_database(&self) {
        // SAFETY: as above.
        let database = u32::from(unsafe { pg_sys::MyDatabaseId });
        for entry in &self.databases {
            match entry.compare_exchange(0, database, SeqCst, SeqCst) {
                Ok(_) => return,
                Err(other) if other == database => return,
                Err(_) => (),
            }
        }
    }
}

struct Shared(UnsafeCell<Option<(&'static Memory, *mut pg_sys::LWLockPadded)>>);

// SAFETY: written once, in the postmaster, before there is another process; processes have one thread.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared(UnsafeCell::new(None));

/// The stripe of a resource, by its hash.
pub fn stripe_of(hash: u64) -> usize {
    hash as usize % STRIPES
}

/// Asks for the memory; called while the library is preloaded.
pub fn register() {
    pg_shmem_init!(SHARED = ());
}

/// The memory, if the library was preloaded.
pub fn memory() -> Option<&'static Memory> {
    // SAFETY: see Shared.
    unsafe { (*SHARED.0.get()).map(|(memory, _)| memory) }
}

/// The locks that there are.
#[derive(Clone, Copy)]
pub enum Lock {
    /// Of a stripe of resources.
    Stripe(usize),
    /// Of the holds of an owner on a resource, by hash.
    Holder(u64),
    /// Of an owner's locks of a kind, by hash.
    Owner(u64),
    /// Of those who choose among several resources.
    Any,
    /// Under which the clock's floor is lifted.
    Clock,
    /// Under which tallies are given out.
    Tallies,
}

const LOCKS: usize = STRIPES + 2 * NARROW + 3;

impl Lock {
    fn position(self) -> usize {
        match self {
            Lock::Stripe(stripe) => stripe,
            Lock::Holder(hash) => STRIPES + hash as usize % NARROW,
            Lock::Owner(hash) => STRIPES + NARROW + hash as usize % NARROW,
            Lock::Any => LOCKS - 3,
            Lock::Clock => LOCKS - 2,
            Lock::Tallies => LOCKS - 1,
        }
    }
}

/// One of the locks, if the library was preloaded.
pub fn lock(lock: Lock) -> Option<*mut pg_sys::LWLock> {
    // SAFETY: see Shared; the tranche has a lock for each position.
    unsafe { (*SHARED.0.get()).map(|(_, locks)| &raw mut (*locks.add(lock.position())).lock) }
}

const NAME: &std::ffi::CStr = c"softlock";
/// The server's lock for setting up extensions' memory.
const ADDIN_SHMEM_INIT_LOCK: usize = 21;

impl PgSharedMemoryInitialization for Shared {
    type Value = ();

    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: called when the server asks for requests.
        unsafe {
            pg_sys::RequestAddinShmemSpace(size_of::<Memory>());
            pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), LOCKS as i32);
        }
    }

    unsafe fn on_shmem_startup(&'static self, _: ()) {
        // SAFETY: called when the memory is there, under the lock that the server has for it. The server
        // hands the memory out zeroed, and all zeroes is what every field starts with.
        unsafe {
            let lock = &raw mut (*pg_sys::MainLWLockArray.add(ADDIN_SHMEM_INIT_LOCK)).lock;
            pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
            let mut found = false;
            let memory = pg_sys::ShmemInitStruct(NAME.as_ptr(), size_of::<Memory>(), &mut found)
                .cast::<Memory>();
            if !found {
                std::ptr::write_bytes(memory, 0, 1);
            }
            *self.0.get() = Some((&*memory, pg_sys::GetNamedLWLockTranche(NAME.as_ptr())));
            pg_sys::LWLockRelease(lock);
        }
    }
}
