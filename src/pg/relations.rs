//! softlock's table, its indexes and its sequences: found, locked without waiting, and checked to be as
//! the extension made them.
//!
//! What was found and checked is remembered until the server says that it may have changed.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::nap::nap;
use super::{altered, history_table, policies};
use crate::error::Error;
use crate::text::Text;

/// Where everything is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Oids {
    pub table: pg_sys::Oid,
    pub primary_key: pg_sys::Oid,
    pub by_expiry: pg_sys::Oid,
    pub by_owner: pg_sys::Oid,
    pub token: pg_sys::Oid,
    pub swept: pg_sys::Oid,
    /// The role that owns them.
    pub owner: pg_sys::Oid,
}

impl Oids {
    fn all(&self) -> [pg_sys::Oid; 6] {
        let Oids {
            table,
            primary_key,
            by_expiry,
            by_owner,
            token,
            swept,
            owner: _,
        } = *self;
        [table, primary_key, by_expiry, by_owner, token, swept]
    }
}

/// What to do while somebody has the table locked: VACUUM FULL, an upgrade, DDL. On a standby, where nothing
/// is decided, one always waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Give up at once.
    None,
    /// Give up after a second, or the session's `lock_timeout` where that is shorter.
    Little,
}

/// How long a little patience lasts.
const LITTLE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

thread_local! {
    static KNOWN: Cell<Option<Oids>> = const { Cell::new(None) };
    static IS_WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Finds the relations, and locks table and primary key for reading. `TableLocked` when somebody else
/// has one of them, or is about to.
pub fn lock_for_reading(patience: Patience) -> Result<Oids, Error> {
    watch();
    loop {
        let oids = known()?;
        let reading = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        lock(oids.table, reading, patience)?;
        lock(oids.primary_key, reading, patience)?;
        // Locking has heard of what changed meanwhile.
        if KNOWN.get() == Some(oids) {
            return Ok(oids);
        }
        if find()? == oids {
            altered::check(&oids)?;
            KNOWN.set(Some(oids));
        }
    }
}

/// Locks the table for writing, too; its indexes can then be locked without waiting.
pub fn lock_for_writing(oids: &Oids, patience: Patience) -> Result<(), Error> {
    lock(
        oids.table,
        pg_sys::RowExclusiveLock as pg_sys::LOCKMODE,
        patience,
    )
}

/// Locks an index for reading, as a table that one reads may still have its index rebuilt.
pub fn lock_index(index: pg_sys::Oid, patience: Patience) -> Result<(), Error> {
    lock(index, pg_sys::AccessShareLock as pg_sys::LOCKMODE, patience)
}

/// Locks a sequence as setval does.
pub fn lock_sequence(sequence: pg_sys::Oid) -> Result<(), Error> {
    let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    lock(sequence, mode, Patience::None)
}

/// Locks any table as a reader does, and waits for that.
pub fn lock_to_read(relation: pg_sys::Oid) {
    // SAFETY: takes the lock that any statement takes, until the transaction ends.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
}

/// Locks any table as a writer does, if nobody is in the way.
pub fn try_lock_for_writing(relation: pg_sys::Oid) -> Result<(), Error> {
    let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    lock(relation, mode, Patience::None)
}

/// A relation of softlock's schema, and who owns it.
pub fn named(name: &CStr) -> Option<(pg_sys::Oid, pg_sys::Oid)> {
    in_schema(name).map(|found| (found, owner_of(found)))
}

/// A relation of softlock's schema.
pub(super) fn in_schema(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: catalog look-ups.
    let found = unsafe {
        let schema = pg_sys::get_namespace_oid(c"softlock".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    (found != pg_sys::InvalidOid).then_some(found)
}

/// What a type is based on, where it is a domain; `None` for none.
pub fn base_type(kind: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a catalog look-up.
    (kind != pg_sys::InvalidOid).then(|| unsafe { pg_sys::getBaseType(kind) })
}

/// The name of a table that is there, without its schema.
pub fn name_of(relation: pg_sys::Oid) -> CString {
    // SAFETY: a catalog look-up, of a palloc'd name.
    unsafe { CStr::from_ptr(pg_sys::get_rel_name(relation)).to_owned() }
}

pub(super) fn lock(
    relation: pg_sys::Oid,
    mode: pg_sys::LOCKMODE,
    patience: Patience,
) -> Result<(), Error> {
    // SAFETY: takes the lock that any statement takes, until the transaction ends, or does not.
    let try_lock = || unsafe { pg_sys::ConditionalLockRelationOid(relation, mode) };
    if try_lock() {
        return Ok(());
    }
    if super::is_standby() {
        // What a truncation has locked stays so there until its commit is replayed, and a replay that lags
        // by intention does that late. So one waits like any SELECT, for which the server breaks deadlocks
        // with the replay.
        // SAFETY: the same lock, in the queue for it.
        unsafe { pg_sys::LockRelationOid(relation, mode) };
        return Ok(());
    }
    if patience == Patience::Little {
        // SAFETY: reads a backend-local setting, in milliseconds.
        let timeout = match unsafe { pg_sys::LockTimeout } {
            0 => LITTLE,
            millis => LITTLE.min(Duration::from_millis(millis as u64)),
        };
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            nap(LOOK_EVERY);
            if try_lock() {
                return Ok(());
            }
        }
    }
    Err(Error::TableLocked)
}

/// Runs `work` as `owner`. An ERROR inside leaves the way back to the transaction's
/// abort, which knows who it was.
pub fn as_owner<R>(owner: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    // SAFETY: backend-local state, put back as it was; `work` is a call of the server's own.
    unsafe {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let restricted = context
            | pg_sys::SECURITY_LOCAL_USERID_CHANGE as c_int
            | pg_sys::SECURITY_RESTRICTED_OPERATION as c_int;
        pg_sys::SetUserIdAndSecContext(owner, restricted);
        let result = work();
        pg_sys::SetUserIdAndSecContext(user, context);
        result
    }
}

/// Where everything is, without a lock on it.
pub(super) fn known() -> Result<Oids, Error> {
    KNOWN.get().map_or_else(find, Ok)
}

fn find() -> Result<Oids, Error> {
    let oid = |name| oid("locks", name);
    let (table, primary_key) = (oid(c"locks")?, oid(c"locks_pkey")?);
    altered::check_version()?;
    Ok(Oids {
        table,
        primary_key,
        by_expiry: oid(c"locks_expires_at_idx")?,
        by_owner: oid(c"locks_owner_idx")?,
        token: oid(c"token")?,
        swept: oid(c"swept")?,
        owner: owner_of(oid(c"token")?),
    })
}

/// A relation in softlock's schema; `table` is named where it is missing.
pub(super) fn oid(table: &'static str, name: &'static CStr) -> Result<pg_sys::Oid, Error> {
    in_schema(name).ok_or_else(|| Error::TableAltered {
        table,
        what: Text::from(name.to_bytes()),
        how: "is missing or has been renamed",
    })
}

/// Who owns a relation; nobody where there is none.
pub fn owner_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a catalog look-up; the row is read before it is given back.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as c_int;
        let row = pg_sys::SearchSysCache1(cache, relation.into());
        if row.is_null() {
            return pg_sys::InvalidOid;
        }
        let owner = (*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(row);
        owner
    }
}

/// Has the server tell this session when the relations, or the names of schemas, may have changed.
pub(super) fn watch() {
    if IS_WATCHING.replace(true) {
        return;
    }
    // SAFETY: registered once; the functions touch nothing but this session's memory.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as c_int,
            Some(schema_changed),
            pg_sys::Datum::from(0),
        );
    }
}

unsafe extern "C-unwind" fn relation_changed(_: pg_sys::Datum, relation: pg_sys::Oid) {
    let touches = |oids: &Oids| relation == pg_sys::InvalidOid || oids.all().contains(&relation);
    if KNOWN.get().as_ref().is_some_and(touches) {
        KNOWN.set(None);
    }
    history_table::relation_changed(relation);
    policies::relation_changed(relation);
}

unsafe extern "C-unwind" fn schema_changed(_: pg_sys::Datum, _: c_int, _: u32) {
    KNOWN.set(None);
    history_table::relation_changed(pg_sys::InvalidOid);
    policies::relation_changed(pg_sys::InvalidOid);
}
