//! What the rest needs of the server below SQL: all of softlock's FFI and unsafe code is in this
//! folder (the worker's process handling is in `worker/process.rs`).

pub mod altered;
mod answer;
mod array;
pub mod at_commit;
pub mod clock;
pub mod condition;
mod heavy;
pub mod history_table;
pub mod holds;
mod json;
mod jsonb;
pub mod ledger;
pub mod mutex;
mod nap;
mod own_schema;
pub mod owners;
pub mod pace;
pub mod policies;
pub mod probe;
pub mod queue;
pub mod relations;
mod report;
pub mod row;
pub mod sandbox;
mod savepoints;
mod scan_key;
mod scans;
mod shared;
pub mod shared_text;
pub mod spi;
pub mod subtransaction;
pub mod tally;
mod text_datum;
mod timestamp;
pub mod trigger;
pub mod visibility;
pub mod walk;
pub mod workers;
pub mod writer;

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::text::Text;

pub use answer::{Answer, Raw, Rows};
pub use array::RawArray;
pub use heavy::{hash, stored_hash};
pub use json::{Json, Object, Part};
pub use jsonb::{Jsonb, Kind, RawJsonb};
pub use report::{Level, Report};
pub use row::Place;
pub use text_datum::{RawText, text_datum, utf8_datum};
pub use timestamp::Timestamp;

/// Asks for softlock's shared memory, and puts its hook in place, where the library is being preloaded.
pub fn register_preloaded() {
    // SAFETY: reads a process-wide flag.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        shared::register();
        own_schema::register();
        ledger::watch();
    }
}

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

/// Whether the server replays what another one writes.
pub fn is_standby() -> bool {
    // SAFETY: reads shared state that goes from true to false once.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Whether this transaction may not write: it is read only, or the server is a standby.
pub fn is_read_only() -> bool {
    // SAFETY: reads backend-local state.
    unsafe { pg_sys::XactReadOnly || pg_sys::RecoveryInProgress() }
}

/// Whether the server is a standby, or recovers.
pub fn is_in_recovery() -> bool {
    // SAFETY: reads shared state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Whether the client's end of the connection is still open; also where there is no way to tell.
pub fn is_client_there() -> bool {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: reads this process's own connection, if it has one; asks the system without waiting.
        unsafe {
            if pg_sys::MyProcPort.is_null() {
                return true;
            }
            let mut poll = libc::pollfd {
                // The first field in every version; pgrx knows no fields of it.
                fd: *pg_sys::MyProcPort.cast(),
                events: libc::POLLRDHUP,
                revents: 0,
            };
            libc::poll(&mut poll, 1, 0) <= 0
        }
    }
    #[cfg(not(target_os = "linux"))]
    true
}

/// The role whose privileges count, as everywhere in the server: the one of SET ROLE, inside a
/// SECURITY DEFINER function its owner, in an index expression under ANALYZE the table's owner.
pub fn current_role() -> pg_sys::Oid {
    // SAFETY: reads backend-local state.
    unsafe { pg_sys::GetUserId() }
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

/// Whether the transaction has written something, or locked a row.
pub fn has_written() -> bool {
    // SAFETY: reads backend-local state.
    unsafe { pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId }
}

/// What an error of the server's said. pgrx has it in UTF-8; where the database has another encoding, what is
/// not ASCII is lost.
pub fn said(message: &str) -> Text {
    // SAFETY: reads backend-local state.
    match unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32 {
        true => Text::from(message),
        false => Text::from(message.replace(|c: char| !c.is_ascii(), "?").as_str()),
    }
}

/// The name of a role, or its number where it has been dropped.
pub fn role_name(role: pg_sys::Oid) -> Text {
    // SAFETY: a catalog look-up that answers with a palloc'd string, or NULL for no such role.
    let name = unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        (!name.is_null()).then(|| Text::from(CStr::from_ptr(name).to_bytes()))
    };
    name.unwrap_or_else(|| Text::from(u32::from(role).to_string().as_str()))
}
