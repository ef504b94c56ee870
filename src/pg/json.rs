//! Answers: trees of the server's own JsonbValues, which it turns into a jsonb in one go. A detour by text
//! would cost more than the look-up that an answer is about.
//!
//! What a tree points to is palloc'd in the call's memory context, and goes with it.

use std::ffi::c_int;

use pgrx::pg_sys::{self, JsonbPair, JsonbValue, jbvType};
use pgrx::{IntoDatum, direct_function_call_as_datum};

use super::{Jsonb, Timestamp};
use crate::text::Text;

/// A JSON value that is part of an answer.
pub struct Json(JsonbValue);

fn scalar(kind: jbvType::Type, fill: impl FnOnce(&mut pg_sys::JsonbValue__bindgen_ty_1)) -> Json {
    let mut value = JsonbValue {
        type_: kind,
        ..Default::default()
    };
    fill(&mut value.val);
    Json(value)
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
fn number(numeric: pg_sys::Numeric) -> Json {
    scalar(jbvType::jbvNumeric, |value| value.numeric = numeric)
}

impl Json {
    pub fn null() -> Self {
        scalar(jbvType::jbvNull, |_| ())
    }

    fn bytes(bytes: &[u8]) -> Self {
        scalar(jbvType::jbvString, |v| {
            v.string.len = bytes.len() as c_int;
            v.string.val = copy(bytes).cast();
        })
    }

    /// An array of values.
    pub fn array(elements: impl Iterator<Item = Json>) -> Self {
        let elements: Vec<_> = elements.map(|Json(value)| value).collect();
        scalar(jbvType::jbvArray, |v| {
            v.array.nElems = elements.len() as c_int;
            v.array.elems = copy(&elements);
            v.array.rawScalar = false;
        })
    }

    /// The jsonb of an object, in the current memory context.
    pub fn into_datum(mut self) -> pg_sys::Datum {
        // SAFETY: what the tree points to is palloc'd.
        unsafe { pg_sys::JsonbValueToJsonb(&mut self.0).into() }
    }
}

/// An object in the making: keys and values.
pub struct Object(Vec<JsonbPair>);

impl Default for Object {
    /// With room for what most answers have.
    fn default() -> Self {
        Object(Vec::with_capacity(8))
    }
}

impl Object {
    pub fn with(mut self, key: &'static str, value: impl Into<Json>) -> Self {
        let Json(key) = key.into();
        let Json(value) = value.into();
        self.0.push(JsonbPair {
            key,
            value,
            ..Default::default()
        });
        self
    }
}

impl From<Object> for Json {
    fn from(Object(mut pairs): Object) -> Json {
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

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        scalar(jbvType::jbvBool, |v| v.boolean = value)
    }
}

impl From<i64> for Json {
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

impl From<f64> for Json {
    fn from(value: f64) -> Self {
        // SAFETY: called with the one argument of its type.
        number(unsafe { called_with(pg_sys::float8_numeric, value.into_datum()) })
    }
}

impl From<&'static str> for Json {
    /// ASCII, which is the same in every encoding; it is not copied.
    fn from(value: &'static str) -> Self {
        scalar(jbvType::jbvString, |v| {
            v.string.len = value.len() as c_int;
            v.string.val = value.as_ptr().cast_mut().cast();
        })
    }
}

impl From<&Text> for Json {
    fn from(value: &Text) -> Self {
        Json::bytes(value.as_bytes())
    }
}

impl From<Timestamp> for Json {
    fn from(value: Timestamp) -> Self {
        Json::bytes(&value.to_rfc3339())
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(Json::null, Into::into)
    }
}

impl From<&Jsonb> for Json {
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
                    return Json(*tree);
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
