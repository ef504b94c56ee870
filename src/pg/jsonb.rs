//! `jsonb` values as the server stores them. pgrx's own JsonB goes through floating-point numbers and
//! would change metadata such as `{"ean": 12345678901234567890123}`.

use std::ffi::CStr;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::nullable::Nullable;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, direct_function_call_as_datum, pg_sys, varlena};

/// A jsonb argument, not copied yet; it lives as long as the call.
#[derive(Clone, Copy)]
pub struct RawJsonb(*const pg_sys::varlena);

/// What stands at the top of a jsonb.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Boolean,
    Null,
    Number,
}

impl RawJsonb {
    /// What it is, and how many bytes its text has.
    pub fn describe(&self) -> (Kind, usize) {
        // SAFETY: jsonb_out reads a whole jsonb and answers with a palloc'd, NUL-terminated text.
        unsafe {
            let value = pg_sys::Datum::from(self.0);
            let text = direct_function_call_as_datum(pg_sys::jsonb_out, &[Some(value)]);
            let text: *mut std::ffi::c_char = text.expect("jsonb_out answers").cast_mut_ptr();
            let bytes = CStr::from_ptr(text).to_bytes();
            let kind = match bytes.first() {
                Some(b'{') => Kind::Object,
                Some(b'[') => Kind::Array,
                Some(b'"') => Kind::String,
                Some(b't' | b'f') => Kind::Boolean,
                Some(b'n') => Kind::Null,
                _ => Kind::Number,
            };
            let length = bytes.len();
            pg_sys::pfree(text.cast());
            (kind, length)
        }
    }

    /// A copy that outlives the call.
    pub fn to_owned(self) -> Jsonb {
        // SAFETY: it was detoasted, so its header says how many bytes may be read.
        unsafe { Jsonb::copy(self.0) }
    }
}

/// A jsonb value: its varlena, in words, which keep it aligned as the server needs it. The first one is
/// its header with the length, the last one may be padded.
#[derive(Debug, Clone)]
pub struct Jsonb(Box<[u32]>);

impl Jsonb {
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

    /// The value in the current memory context.
    pub fn to_datum(&self) -> pg_sys::Datum {
        // SAFETY: copies as many bytes as the header says into memory that the server frees.
        unsafe {
            let bytes = varlena::varsize_any(self.0.as_ptr().cast());
            let copy = pg_sys::palloc(bytes);
            std::ptr::copy_nonoverlapping(self.0.as_ptr().cast::<u8>(), copy.cast(), bytes);
            copy.into()
        }
    }
}

/// As a column has it; a detoasted copy is given back.
impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: the caller vouches for a jsonb datum; detoasting makes it plain.
        (!is_null).then(|| unsafe {
            let value = datum.cast_mut_ptr();
            let plain = pg_sys::pg_detoast_datum(value);
            let copy = Jsonb::copy(plain);
            if plain != value {
                pg_sys::pfree(plain.cast());
            }
            copy
        })
    }
}

impl FromDatum for RawJsonb {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: the caller vouches for a jsonb datum; detoasting makes it plain.
        (!is_null).then(|| RawJsonb(unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) }))
    }
}

// SAFETY: the argument is declared jsonb (below), so the datum is one.
unsafe impl<'fcx> ArgAbi<'fcx> for RawJsonb {
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

// SAFETY: jsonb is what the conversion above reads.
unsafe impl SqlTranslatable for RawJsonb {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(RawJsonb);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}
