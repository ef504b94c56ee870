//! `CREATE EXTENSION softlock SCHEMA softlock` where there is no such schema yet: the server wants a schema
//! that is named to be there, and tells it before the extension's script could make it. So it is made just
//! before, as CREATE SCHEMA by the same role would.
//!
//! Every utility statement of the server passes through here, so nothing else is looked at, and nothing
//! is caught: errors of the statements themselves go by as if this were not there.

use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_sys::{self, NodeTag};
use pgrx::prelude::*;

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

/// Called while the library is preloaded.
pub fn register() {
    // SAFETY: in the postmaster, which has one thread; each hook calls the one before it.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

/// The hook, with the arguments that it has in this version.
macro_rules! hook {
    ($($argument:ident: $type:ty),* $(,)?) => {
        // Kept from pgrx's bindings, which would catch the statement's errors.
        unsafe extern "C-unwind" {
            fn standard_ProcessUtility(statement: *mut pg_sys::PlannedStmt, query: *const c_char, $($argument: $type),*);
        }

        unsafe extern "C-unwind" fn process_utility(
            statement: *mut pg_sys::PlannedStmt,
            query: *const c_char,
            $($argument: $type),*
        ) {
            // SAFETY: the server's statement; nothing here has a destructor that an error would pass over.
            unsafe {
                if (*(*statement).utilityStmt).type_ == NodeTag::T_CreateExtensionStmt {
                    make_schema((*statement).utilityStmt.cast());
                }
                match PREVIOUS {
                    Some(previous) => previous(statement, query, $($argument),*),
                    None => standard_ProcessUtility(statement, query, $($argument),*),
                }
            }
        }
    };
}

#[cfg(feature = "pg13")]
hook! {
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
}

#[cfg(not(feature = "pg13"))]
hook! {
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
}

unsafe extern "C-unwind" {
    /// The server's CREATE SCHEMA; not in pgrx's bindings.
    fn CreateSchemaCommand(
        statement: *mut pg_sys::CreateSchemaStmt,
        query: *const c_char,
        location: c_int,
        length: c_int,
    ) -> pg_sys::Oid;
}

/// Makes the schema, where the statement is about softlock and names it, and it is not there.
#[pg_guard]
unsafe extern "C-unwind" fn make_schema(statement: *const pg_sys::CreateExtensionStmt) {
    // SAFETY: a parsed statement; the new one is complete, and palloc'd as the server's own are.
    unsafe {
        let name = c"softlock";
        if CStr::from_ptr((*statement).extname) != name || !names_schema((*statement).options, name)
        {
            return;
        }
        if pg_sys::get_namespace_oid(name.as_ptr(), true) != pg_sys::InvalidOid {
            return;
        }
        let create: *mut pg_sys::CreateSchemaStmt =
            pg_sys::palloc0(size_of::<pg_sys::CreateSchemaStmt>()).cast();
        (*create).type_ = NodeTag::T_CreateSchemaStmt;
        (*create).schemaname = pg_sys::pstrdup(name.as_ptr());
        (*create).if_not_exists = true;
        let query = c"CREATE SCHEMA softlock".as_ptr();
        pg_sys::ffi::pg_guard_ffi_boundary(|| CreateSchemaCommand(create, query, -1, -1));
        pg_sys::CommandCounterIncrement();
    }
}

/// Whether the statement says SCHEMA with this name.
///
/// # Safety
/// The list must be the options of a statement.
unsafe fn names_schema(options: *mut pg_sys::List, name: &CStr) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        (0..pg_sys::list_length(options)).any(|at| {
            let option: *mut pg_sys::DefElem = pg_sys::list_nth(options, at).cast();
            CStr::from_ptr((*option).defname) == c"schema"
                && CStr::from_ptr(pg_sys::defGetString(option)) == name
        })
    }
}
