//! What a SQL function gives back: its value, or its error, raised as softlock's own.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

use super::Json;
use crate::error::Error;

/// A verb's answer, declared jsonb.
pub struct Answer(Result<Json, Error>);

impl Answer {
    /// The answer that `verb` comes to.
    pub fn of(verb: impl FnOnce() -> Result<Json, Error>) -> Self {
        Answer(verb())
    }
}

// SAFETY: the result is declared jsonb (below), and into_datum makes one.
unsafe impl BoxRet for Answer {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.0 {
            Ok(json) => unsafe { fcinfo.return_raw_datum(json.into_datum()) },
            Err(error) => error.raise(),
        }
    }
}

// SAFETY: as above; it is no argument.
unsafe impl SqlTranslatable for Answer {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Answer);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}

/// A datum of the type that the function's own SQL declares.
pub struct Raw(pub pg_sys::Datum);

// SAFETY: who makes one has a datum of that type.
unsafe impl BoxRet for Raw {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

// SAFETY: only for functions that come with SQL of their own.
unsafe impl SqlTranslatable for Raw {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Raw);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        Ok(SqlMappingRef::literal("internal"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("internal")));
}

/// The rows of a set-returning function, written one by one to where the server keeps them.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    /// What a row is made of, until it is stored.
    memory: pg_sys::MemoryContext,
}

impl Rows {
    /// Runs `fill` with the place for the rows of the call. To be the whole of a function that returns a
    /// set.
    pub fn of(
        fcinfo: pg_sys::FunctionCallInfo,
        fill: impl FnOnce(&Rows) -> Result<(), Error>,
    ) -> Raw {
        match Rows::open(fcinfo).and_then(|rows| fill(&rows)) {
            // The server takes the rows from where they are; nobody looks at the datum.
            Ok(()) => Raw(pg_sys::Datum::from(0)),
            Err(error) => error.raise(),
        }
    }

    fn open(fcinfo: pg_sys::FunctionCallInfo) -> Result<Rows, Error> {
        // SAFETY: the fields are those of the call; what the rows live in is made in the query's memory,
        // as the server asks of a function that answers with a store.
        unsafe {
            let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let materialize = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            if result.is_null() || (*result).allowedModes as u32 & materialize == 0 {
                return Err(Error::SetNotAllowed);
            }
            let query = (*(*result).econtext).ecxt_per_query_memory;
            let before = pg_sys::MemoryContextSwitchTo(query);
            let mut descriptor = std::ptr::null_mut();
            pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &mut descriptor);
            let store = pg_sys::tuplestore_begin_heap(
                (*result).allowedModes as u32
                    & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random
                    != 0,
                false,
                pg_sys::work_mem,
            );
            pg_sys::MemoryContextSwitchTo(before);
            (*result).returnMode = materialize;
            (*result).setResult = store;
            (*result).setDesc = descriptor;
            Ok(Rows {
                store,
                descriptor,
                memory: pg_sys::AllocSetContextCreateInternal(
                    pg_sys::CurrentMemoryContext,
                    c"softlock row".as_ptr(),
                    pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                    pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                    pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
                ),
            })
        }
    }

    /// Adds the row that `make` makes, of as many columns as the function returns, in their order and of
    /// their types. What it is made of is freed once it is stored.
    pub fn put<const N: usize>(&self, make: impl FnOnce() -> [Option<pg_sys::Datum>; N]) {
        // SAFETY: the store copies the row, and nothing else refers to what the row's memory has.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.memory);
            let columns = make();
            let mut values = columns.map(|column| column.unwrap_or(pg_sys::Datum::from(0)));
            let mut nulls = columns.map(|column| column.is_none());
            assert_eq!((*self.descriptor).natts as usize, N, "columns");
            pg_sys::tuplestore_putvalues(
                self.store,
                self.descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.memory);
        }
    }
}
