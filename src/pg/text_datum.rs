//! `text` arguments and values, as the server has them: bytes in the database's encoding. pgrx's `&str`
//! would need them to be UTF-8.

use std::borrow::Cow;

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::nullable::Nullable;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, pg_sys, varlena};

use crate::text::Text;

/// A `text` argument, not copied and not checked yet; it lives as long as the call.
#[derive(Clone, Copy)]
pub struct RawText(*const [u8]);

impl RawText {
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the server keeps an argument, or its detoasted copy, for as long as the call.
        unsafe { &*self.0 }
    }

    /// Whether the bytes are text in the database's encoding; where that is SQL_ASCII, which takes any
    /// bytes for text, whether they are UTF-8.
    pub fn is_valid(&self) -> bool {
        let bytes = self.as_bytes();
        // SAFETY: reads so many bytes.
        unsafe {
            let encoding = match pg_sys::GetDatabaseEncoding() {
                encoding if encoding == pg_sys::pg_enc::PG_SQL_ASCII as i32 => {
                    pg_sys::pg_enc::PG_UTF8 as i32
                }
                encoding => encoding,
            };
            pg_sys::pg_verify_mbstr(encoding, bytes.as_ptr().cast(), bytes.len() as i32, true)
        }
    }
}

impl FromDatum for RawText {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: the caller vouches for a text datum.
        (!is_null).then(|| unsafe {
            let plain = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
            RawText(contents(plain))
        })
    }
}

/// The bytes of a text that is not toasted.
///
/// # Safety
/// The pointer must be that of a plain or short varlena.
unsafe fn contents(text: *const pg_sys::varlena) -> *const [u8] {
    // SAFETY: the header says how many bytes there are.
    unsafe {
        let bytes = varlena::varsize_any_exhdr(text);
        std::ptr::slice_from_raw_parts(varlena::vardata_any(text).cast(), bytes)
    }
}

/// The bytes of a text of the table's or of an index's: where they are, or a copy where that has them compressed
/// or elsewhere.
///
/// # Safety
/// The datum must be a text's, which stays where it is for as long as its bytes are looked at.
pub(super) unsafe fn text_bytes<'a>(datum: pg_sys::Datum) -> Cow<'a, [u8]> {
    // SAFETY: as the caller says; a detoasted copy is given back.
    unsafe {
        let value: *mut pg_sys::varlena = datum.cast_mut_ptr();
        if !varlena::varatt_is_4b_c(value) && !varlena::varatt_is_1b_e(value) {
            return Cow::Borrowed(&*contents(value));
        }
        let plain = pg_sys::pg_detoast_datum_packed(value);
        let bytes = (*contents(plain)).to_vec();
        pg_sys::pfree(plain.cast());
        Cow::Owned(bytes)
    }
}

/// A copy of a text of the table's.
///
/// # Safety
/// The datum must be a text's.
pub unsafe fn text_from_datum(datum: pg_sys::Datum) -> Text {
    // SAFETY: as the caller says.
    unsafe { Text::from(&*text_bytes(datum)) }
}

/// A text in the current memory context.
pub fn text_datum(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: copies so many bytes into memory that the server frees.
    unsafe { pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32).into() }
}

/// The same of UTF-8, in the database's encoding; where that is another one, with a question mark for all
/// that is not ASCII.
pub fn utf8_datum(text: &str) -> pg_sys::Datum {
    // SAFETY: reads backend-local state.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    match encoding == pg_sys::pg_enc::PG_UTF8 as i32 {
        true => text_datum(text.as_bytes()),
        false => text_datum(text.replace(|c: char| !c.is_ascii(), "?").as_bytes()),
    }
}

/// A text lent to the server for a while, to compare with or to write, in the form with a header of one byte where
/// it is short enough, so that most need no memory of their own.
pub enum LentText {
    Short([u8; LentText::SHORT]),
    Long(pg_sys::Datum),
}

impl LentText {
    /// As many bytes as the header of one byte can count, itself included.
    const SHORT: usize = 127;

    pub fn of(bytes: &[u8]) -> Self {
        let length = bytes.len() + 1;
        if length > Self::SHORT {
            return LentText::Long(text_datum(bytes));
        }
        let mut short = [0; Self::SHORT];
        short[0] = match cfg!(target_endian = "little") {
            true => (length << 1) as u8 | 1,
            false => length as u8 | 0x80,
        };
        short[1..length].copy_from_slice(bytes);
        LentText::Short(short)
    }

    /// Valid while this lives where it is.
    pub fn datum(&self) -> pg_sys::Datum {
        match self {
            LentText::Short(short) => short.as_ptr().into(),
            LentText::Long(datum) => *datum,
        }
    }
}

impl Drop for LentText {
    fn drop(&mut self) {
        if let LentText::Long(datum) = self {
            // SAFETY: palloc'd by `of`. While an ERROR unwinds, its memory goes with the call's.
            if !std::thread::panicking() {
                unsafe { pg_sys::pfree(datum.cast_mut_ptr()) };
            }
        }
    }
}

// SAFETY: the argument is declared text (below), so the datum is one.
unsafe impl<'fcx> ArgAbi<'fcx> for RawText {
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

// SAFETY: text is what the conversion above reads.
unsafe impl SqlTranslatable for RawText {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(RawText);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("text"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("text")));
}
