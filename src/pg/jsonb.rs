//! `jsonb` as the text the server writes. pgrx's own JsonB goes through floating-point numbers and
//! would change metadata such as `{"ean": 12345678901234567890123}`.

use std::ffi::CString;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::nullable::Nullable;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, direct_function_call_as_datum, pg_sys};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A jsonb value, kept as its text.
#[derive(Debug, Clone)]
pub struct Jsonb(Box<RawValue>);

impl Jsonb {
    /// What serde makes of a value that has no map with other than string keys.
    pub fn of(value: &impl Serialize) -> Self {
        Jsonb(serde_json::value::to_raw_value(value).expect("answers are plain structs"))
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl Serialize for Jsonb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller vouches for a jsonb datum; jsonb_out detoasts it and answers with a
        // palloc'd, NUL-terminated text.
        let text = unsafe {
            let out = direct_function_call_as_datum(pg_sys::jsonb_out, &[Some(datum)])?;
            std::ffi::CStr::from_ptr(out.cast_mut_ptr())
                .to_string_lossy()
                .into_owned()
        };
        Some(Jsonb(
            RawValue::from_string(text).expect("jsonb_out writes JSON"),
        ))
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = CString::new(self.as_str()).expect("JSON text holds no NUL");
        // SAFETY: jsonb_in reads a NUL-terminated text, which outlives the call.
        unsafe { direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text.as_ptr().into())]) }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: the argument is declared jsonb (below), so the datum is one.
unsafe impl<'fcx> ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        unsafe {
            arg.unbox_arg_using_from_datum()
                .expect("argument must not be null")
        }
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: the result is declared jsonb (below), and into_datum makes one.
unsafe impl BoxRet for Jsonb {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

// SAFETY: jsonb is what the conversions above read and write.
unsafe impl SqlTranslatable for Jsonb {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Jsonb);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}
