//! Answers: trees of the server's own JsonbValues, which it turns into a jsonb in one go. A detour by text
//! would cost more than the look-up that an answer is about.
//!
//! A tree points to what it tells of where that is; the rest is palloc'd in the call's memory context, and
//! goes with it.

use std::ffi::c_int;
use std::marker::PhantomData;

use pgrx::pg_sys::{self, JsonbPair, JsonbValue, jbvType};
use pgrx::{IntoDatum, direct_function_call_as_datum};

use super::{Jsonb, Timestamp};
use crate::text::Text;

/// Enough for the tree of an answer that lists a cart of some hundred locks, in one piece: once glibc has taken
/// back a piece of this size it keeps as much for the next call. Until then it gives what calls have needed beyond
/// 128 kB back to the kernel each time, only to ask for it again.
const LISTING: usize = 256 * 1024;

/// An answer: a jsonb in the call's memory context.
pub struct Json(pg_sys::Datum);

impl Json {
    /// An answer that may list much: its tree has memory of its own, which goes as soon as the jsonb is made.
    pub fn listing<'a>(answer: impl FnOnce() -> Object<'a>) -> Self {
        // SAFETY: the jsonb is copied out of the memory that everything else was made in. An ERROR leaves that to
        // the call's memory, whose child it is.
        unsafe {
            let memory = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"softlock answer".as_ptr(),
                0,
                LISTING,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let outer = pg_sys::MemoryContextSwitchTo(memory);
            let Json(jsonb) = answer().into();
            pg_sys::MemoryContextSwitchTo(outer);
            let copy = pg_sys::pg_detoast_datum_copy(jsonb.cast_mut_ptr());
            pg_sys::MemoryContextDelete(memory);
            Json(copy.into())
        }
    }

    pub fn into_datum(self) -> pg_sys::Datum {
        self.0
    }
}

/// A JSON value that is part of an answer, and tells of what lives as long as `'a`.
pub struct Part<'a>(JsonbValue, PhantomData<&'a [u8]>);

fn scalar<'a>(
    kind: jbvType::Type,
    fill: impl FnOnce(&mut pg_sys::JsonbValue__bindgen_ty_1),
) -> Part<'a> {
    let mut value = JsonbValue {
        type_: kind,
        ..Default::default()
    };
    fill(&mut value.val);
    Part(value, PhantomData)
}

/// A string that is where `bytes` says.
fn string<'a>(bytes: *const u8, length: usize) -> Part<'a> {
    scalar(jbvType::jbvString, |v| {
        v.string.len = length as c_int;
        v.string.val = bytes.cast_mut().cast();
    })
}

/// A palloc'd copy of plain values.
fn copy<T: Copy>(values: &[T]) -> *mut T {
    // SAFETY: there is room for so many, and nothing in them has to be dropped.
    unsafe {
        let copy: *mut T = pg_sys::palloc(size_of_val(values).max(1)).cast();
        std::ptr::copy_nonoverlapping(values.as_ptr(), copy, values.len());
        copy
    }
}

/// The numeric that a conversion of the server's makes.
///
/// # Safety
/// The argument must be of the function's type.
unsafe fn called_with(
    convert: unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum,
    argument: Option<pg_sys::Datum>,
) -> pg_sys::Numeric {
    // SAFETY: as the caller says.
    let numeric = unsafe { direct_function_call_as_datum(convert, &[argument]) };
    numeric.expect("numbers are not null").cast_mut_ptr()
}

/// A number, which the server's own function makes.
fn number<'a>(numeric: pg_sys::Numeric) -> Part<'a> {
    scalar(jbvType::jbvNumeric, |value| value.numeric = numeric)
}

impl Part<'_> {
    pub fn null() -> Self {
        scalar(jbvType::jbvNull, |_| ())
    }

    /// A string of a copy of these bytes.
    fn copied(bytes: &[u8]) -> Self {
        string(copy(bytes), bytes.len())
    }
}

impl<'a> Part<'a> {
    /// An array of values.
    pub fn array(elements: impl Iterator<Item = Part<'a>>) -> Self {
        let elements: Vec<_> = elements.map(|part| part.0).collect();
        scalar(jbvType::jbvArray, |v| {
            v.array.nElems = elements.len() as c_int;
            v.array.elems = copy(&elements);
            v.array.rawScalar = false;
        })
    }
}

/// An object in the making: keys and values.
pub struct Object<'a>(Vec<JsonbPair>, PhantomData<&'a [u8]>);

impl Default for Object<'_> {
    /// With room for what most answers have.
    fn default() -> Self {
        Object(Vec::with_capacity(8), PhantomData)
    }
}

impl<'a> Object<'a> {
    pub fn with(mut self, key: &'static str, value: impl Into<Part<'a>>) -> Self {
        self.0.push(JsonbPair {
            key: Part::from(key).0,
            value: value.into().0,
            ..Default::default()
        });
        self
    }
}

impl<'a> From<Object<'a>> for Part<'a> {
    fn from(Object(mut pairs, _): Object<'a>) -> Part<'a> {
        // The order in which the server looks keys up: by length, then by bytes.
        pairs.sort_unstable_by_key(|pair| {
            // SAFETY: keys are strings, of so many bytes.
            unsafe {
                let key = pair.key.val.string;
                let bytes = std::slice::from_raw_parts(key.val.cast::<u8>(), key.len as usize);
                (key.len, bytes)
            }
        });
        scalar(jbvType::jbvObject, |v| {
            v.object.nPairs = pairs.len() as c_int;
            v.object.pairs = copy(&pairs);
        })
    }
}

impl From<Object<'_>> for Json {
    fn from(object: Object) -> Json {
        let Part(mut tree, _) = object.into();
        // SAFETY: what the tree points to is palloc'd, or lives as long as the object.
        Json(unsafe { pg_sys::JsonbValueToJsonb(&mut tree).into() })
    }
}

impl From<bool> for Part<'_> {
    fn from(value: bool) -> Self {
        scalar(jbvType::jbvBool, |v| v.boolean = value)
    }
}

impl From<i64> for Part<'_> {
    fn from(value: i64) -> Self {
        // SAFETY: the numeric is palloc'd.
        unsafe {
            #[cfg(feature = "pg13")]
            let numeric = called_with(pg_sys::int8_numeric, value.into_datum());
            #[cfg(not(feature = "pg13"))]
            let numeric = pg_sys::int64_to_numeric(value);
            number(numeric)
        }
    }
}

impl From<f64> for Part<'_> {
    fn from(value: f64) -> Self {
        // SAFETY: called with the one argument of its type.
        number(unsafe { called_with(pg_sys::float8_numeric, value.into_datum()) })
    }
}

impl From<&'static str> for Part<'_> {
    /// ASCII, which is the same in every encoding.
    fn from(value: &'static str) -> Self {
        string(value.as_ptr(), value.len())
    }
}

impl<'a> From<&'a Text> for Part<'a> {
    fn from(value: &'a Text) -> Self {
        let bytes = value.as_bytes();
        string(bytes.as_ptr(), bytes.len())
    }
}

impl From<Text> for Part<'_> {
    fn from(value: Text) -> Self {
        Part::copied(value.as_bytes())
    }
}

impl From<Timestamp> for Part<'_> {
    fn from(value: Timestamp) -> Self {
        Part::copied(&value.to_rfc3339())
    }
}

impl<'a, T: Into<Part<'a>>> From<Option<T>> for Part<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(Part::null, Into::into)
    }
}

impl From<&Jsonb> for Part<'_> {
    fn from(value: &Jsonb) -> Self {
        use pg_sys::JsonbIteratorToken::{WJB_BEGIN_ARRAY, WJB_DONE};
        // SAFETY: iterates over a copy of the jsonb, which lives as long as the tree, to its end, and
        // answers with what the last push has closed.
        unsafe {
            let copy: *mut pg_sys::Jsonb = value.to_datum().cast_mut_ptr();
            let mut iterator = pg_sys::JsonbIteratorInit(&raw mut (*copy).root);
            let mut state = std::ptr::null_mut();
            let mut value = JsonbValue::default();
            let mut tree = std::ptr::null_mut();
            loop {
                let token = pg_sys::JsonbIteratorNext(&mut iterator, &mut value, false);
                if token == WJB_DONE {
                    return Part(*tree, PhantomData);
                }
                // Beginnings and ends have no value.
                let value = match token < WJB_BEGIN_ARRAY {
                    true => &raw mut value,
                    false => std::ptr::null_mut(),
                };
                tree = pg_sys::pushJsonbValue(&mut state, token, value);
            }
        }
    }
}
