//! What the rest needs of the server below SQL: all of softlock's FFI and unsafe code is in this
//! folder (the worker's process handling is in `worker/process.rs`).

mod jsonb;
mod jsonb_builder;
pub mod key_lock;
mod nap;
pub mod probe;
mod row;
pub mod subtransaction;
mod timestamp;
pub mod trigger;
pub mod writer;

use std::ffi::CStr;

use pgrx::pg_sys;

pub use jsonb::Jsonb;
pub use nap::nap;
pub use row::Place;
pub use timestamp::Timestamp;

/// Reserves a prefix, so that a misspelt setting is reported instead of stored.
pub fn reserve_setting_prefix(prefix: &'static CStr) {
    // SAFETY: the prefix is a NUL-terminated string that lives as long as the process.
    unsafe {
        #[cfg(any(feature = "pg13", feature = "pg14"))]
        pg_sys::EmitWarningsOnPlaceholders(prefix.as_ptr());
        #[cfg(not(any(feature = "pg13", feature = "pg14")))]
        pg_sys::MarkGUCPrefixReserved(prefix.as_ptr());
    }
}

/// Raises 25006 in a read-only transaction and on a standby, naming the command.
pub fn require_writable(command: &'static CStr) {
    // SAFETY: reads backend-local state; raises an ERROR, which pgrx turns into an unwinding panic.
    unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) }
}

/// The role a session acts as: the one of SET ROLE, else the login role; never the definer of the
/// SECURITY DEFINER function that is running.
pub fn outer_role() -> pg_sys::Oid {
    // SAFETY: reads backend-local state.
    unsafe { pg_sys::GetOuterUserId() }
}

/// Whether `member` is `role`, or inherits its privileges, or is a superuser.
pub fn has_privileges_of(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up, inside a transaction as every SQL call is.
    member == role || unsafe { pg_sys::has_privs_of_role(member, role) }
}

/// Whether the transaction keeps one snapshot: REPEATABLE READ and SERIALIZABLE.
pub fn uses_transaction_snapshot() -> bool {
    // SAFETY: reads backend-local state.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// The name of a role, or its number where it has been dropped.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: a catalog look-up that answers with a palloc'd string, or NULL for no such role.
    let name = unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    };
    name.unwrap_or_else(|| u32::from(role).to_string())
}
