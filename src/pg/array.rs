//! Array arguments. Their elements are counted before anything is copied: where memory is short the
//! server raises an error, while Rust would end the process, and with it everybody's session.

use std::marker::PhantomData;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::nullable::Nullable;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, pg_sys};

use super::text_datum::RawText;

/// What an array can be of.
pub trait Element: FromDatum {
    const ARRAY: &'static str;
    const OID: pg_sys::Oid;
    const LENGTH: i32;
    const BY_VALUE: bool;
    const ALIGN: u8;
}

impl Element for RawText {
    const ARRAY: &'static str = "text[]";
    const OID: pg_sys::Oid = pg_sys::TEXTOID;
    const LENGTH: i32 = -1;
    const BY_VALUE: bool = false;
    const ALIGN: u8 = b'i';
}

impl Element for i64 {
    const ARRAY: &'static str = "bigint[]";
    const OID: pg_sys::Oid = pg_sys::INT8OID;
    const LENGTH: i32 = 8;
    const BY_VALUE: bool = true;
    const ALIGN: u8 = b'd';
}

impl Element for i32 {
    const ARRAY: &'static str = "integer[]";
    const OID: pg_sys::Oid = pg_sys::INT4OID;
    const LENGTH: i32 = 4;
    const BY_VALUE: bool = true;
    const ALIGN: u8 = b'i';
}

/// An array argument, of any dimensions; it lives as long as the call.
pub struct RawArray<T> {
    array: *mut pg_sys::ArrayType,
    element: PhantomData<T>,
}

impl<T: Element> RawArray<T> {
    pub fn len(&self) -> usize {
        // SAFETY: the dimensions follow the header.
        unsafe {
            let dimensions = self.array.add(1).cast::<i32>();
            pg_sys::ArrayGetNItems((*self.array).ndim, dimensions) as usize
        }
    }

    /// The elements, in the order in which they are stored.
    pub fn elements(&self) -> Vec<Option<T>> {
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        // SAFETY: the array's elements are of this type; values and nulls come palloc'd, so many.
        unsafe {
            pg_sys::deconstruct_array(
                self.array,
                T::OID,
                T::LENGTH,
                T::BY_VALUE,
                T::ALIGN as std::ffi::c_char,
                &mut values,
                &mut nulls,
                &mut count,
            );
            (0..count as usize)
                .map(|at| T::from_datum(*values.add(at), *nulls.add(at)))
                .collect()
        }
    }
}

impl<T> FromDatum for RawArray<T> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: the caller vouches for an array datum.
        (!is_null).then(|| RawArray {
            array: unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast() },
            element: PhantomData,
        })
    }
}

// SAFETY: the argument is declared an array of the element (below), so the datum is one.
unsafe impl<'fcx, T: Element> ArgAbi<'fcx> for RawArray<T> {
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

// SAFETY: an array of the element is what the conversion above reads.
unsafe impl<T: Element> SqlTranslatable for RawArray<T> {
    const TYPE_IDENT: &'static str = T::ARRAY;
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal(T::ARRAY));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal(T::ARRAY)));
}
