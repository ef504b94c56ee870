//! `jsonb` values as the server stores them. pgrx's own JsonB goes through floating-point numbers and
//! would change metadata such as `{"ean": 12345678901234567890123}`.

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::nullable::Nullable;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, direct_function_call_as_datum, pg_sys, varlena};
use serde::{Serialize, Serializer};

use super::jsonb_builder;

/// A jsonb value: its varlena, in words, which keep it aligned as the server needs it. The first one is
/// its header with the length, the last one may be padded.
#[derive(Debug, Clone)]
pub struct Jsonb(Box<[u32]>);

impl Jsonb {
    /// The answer that serde makes of a struct.
    pub fn of(value: &impl Serialize) -> Self {
        let built = jsonb_builder::build(value).expect("answers are plain structs");
        // SAFETY: it was built just now, and is not compressed or short.
        unsafe { Jsonb::copy(built.cast()) }
    }

    /// The text that the server writes.
    pub fn to_text(&self) -> String {
        // SAFETY: jsonb_out reads a whole jsonb and answers with a palloc'd, NUL-terminated text.
        unsafe {
            let value = pg_sys::Datum::from(self.0.as_ptr());
            let text = direct_function_call_as_datum(pg_sys::jsonb_out, &[Some(value)]);
            let text = text.expect("jsonb_out answers").cast_mut_ptr();
            std::ffi::CStr::from_ptr(text)
                .to_string_lossy()
                .into_owned()
        }
    }

    fn as_bytes(&self) -> &[u8] {
        // SAFETY: the header says how many bytes there are.
        unsafe {
            let bytes = varlena::varsize_any(self.0.as_ptr().cast());
            std::slice::from_raw_parts(self.0.as_ptr().cast(), bytes)
        }
    }

    /// # Safety
    /// `value` must point to a jsonb with a four-byte header, not compressed.
    unsafe fn copy(value: *const pg_sys::varlena) -> Self {
        // SAFETY: the header says how many bytes may be read, and the words have room for them.
        unsafe {
            let bytes = varlena::varsize_any(value);
            let mut words = vec![0u32; bytes.div_ceil(4)].into_boxed_slice();
            std::ptr::copy_nonoverlapping(value.cast::<u8>(), words.as_mut_ptr().cast(), bytes);
            Jsonb(words)
        }
    }
}

/// As bytes, which jsonb_builder takes over as they are.
impl Serialize for Jsonb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
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
        // SAFETY: the caller vouches for a jsonb datum; detoasting makes it plain.
        unsafe {
            let plain = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            Some(Jsonb::copy(plain))
        }
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // SAFETY: copies the value into memory that the server frees.
        unsafe {
            let bytes = self.as_bytes();
            let copy = pg_sys::palloc(bytes.len());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy.cast(), bytes.len());
            Some(copy.into())
        }
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
