//! serde to `jsonb` without a detour by text, which would cost more than the look-up that the answer
//! is about: a tree of the server's own JsonbValues, which it turns into a jsonb in one go.
//!
//! Takes what answers are made of: structs and maps with string keys, sequences, strings, integers,
//! floats, booleans, None, and whole jsonb values, which come as bytes.

use std::cell::RefCell;
use std::ffi::c_int;

use pgrx::pg_sys::{JsonbPair, JsonbValue, jbvType};
use pgrx::{IntoDatum, direct_function_call_as_datum, pg_sys};
use serde::de::value::Error;
use serde::ser::{self, Error as _, Serialize};

/// Builds the jsonb of a struct or map, in the current memory context.
pub fn build(value: &impl Serialize) -> Result<*mut pg_sys::Jsonb, Error> {
    let kept = Kept::default();
    let mut top = value.serialize(&kept)?;
    if top.type_ != jbvType::jbvObject {
        return Err(Error::custom("only structs and maps can be answers"));
    }
    // SAFETY: what the tree points to is kept until here, or palloc'd.
    Ok(unsafe { pg_sys::JsonbValueToJsonb(&mut top) })
}

/// What the values of a tree point to. It only grows, and what it has stays where it is.
#[derive(Default)]
struct Kept {
    strings: RefCell<Vec<Box<str>>>,
    elements: RefCell<Vec<Vec<JsonbValue>>>,
    pairs: RefCell<Vec<Vec<JsonbPair>>>,
}

fn scalar(
    kind: jbvType::Type,
    fill: impl FnOnce(&mut pg_sys::JsonbValue__bindgen_ty_1),
) -> JsonbValue {
    let mut value = JsonbValue {
        type_: kind,
        ..Default::default()
    };
    fill(&mut value.val);
    value
}

fn count(len: usize) -> Result<c_int, Error> {
    c_int::try_from(len).map_err(Error::custom)
}

/// A string that outlives the tree.
fn string(value: &str) -> Result<JsonbValue, Error> {
    let len = count(value.len())?;
    Ok(scalar(jbvType::jbvString, |v| {
        v.string.len = len;
        v.string.val = value.as_ptr().cast_mut().cast();
    }))
}

/// A number, which the server's own function makes of `datum`.
fn number(
    convert: unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum,
    datum: Option<pg_sys::Datum>,
) -> JsonbValue {
    // SAFETY: called with the one argument of its type; the numeric is palloc'd.
    let numeric = unsafe { direct_function_call_as_datum(convert, &[datum]) };
    let numeric = numeric.expect("numbers are not null").cast_mut_ptr();
    scalar(jbvType::jbvNumeric, |value| value.numeric = numeric)
}

/// The tree of a whole jsonb.
///
/// # Safety
/// The pointer must be that of a jsonb, which outlives the tree.
unsafe fn unpack(jsonb: *const pg_sys::Jsonb) -> JsonbValue {
    use pg_sys::JsonbIteratorToken::{WJB_BEGIN_ARRAY, WJB_DONE};
    // SAFETY: iterates over the jsonb to its end, and answers with what the last push has closed.
    unsafe {
        let root = &raw const (*jsonb).root;
        let mut iterator = pg_sys::JsonbIteratorInit(root.cast_mut());
        let mut state = std::ptr::null_mut();
        let mut value = JsonbValue::default();
        let mut tree = std::ptr::null_mut();
        loop {
            let token = pg_sys::JsonbIteratorNext(&mut iterator, &mut value, false);
            if token == WJB_DONE {
                return *tree;
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

/// Serializer's methods that take what answers have none of, or that lead to another method.
macro_rules! otherwise {
    ($($method:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<otherwise!(@ $($result)?), Error> {
            Err(Error::custom(concat!(stringify!($method), " is not for answers")))
        }
    )*};
    (@ $result:ty) => { $result };
    (@) => { JsonbValue };
}

macro_rules! integers {
    ($($method:ident($integer:ty);)*) => {$(
        fn $method(self, value: $integer) -> Result<JsonbValue, Error> {
            self.serialize_i64(value.into())
        }
    )*};
}

impl<'a> ser::Serializer for &'a Kept {
    type Ok = JsonbValue;
    type Error = Error;
    type SerializeSeq = Array<'a>;
    type SerializeMap = Object<'a>;
    type SerializeStruct = Object<'a>;
    type SerializeTuple = ser::Impossible<JsonbValue, Error>;
    type SerializeTupleStruct = ser::Impossible<JsonbValue, Error>;
    type SerializeTupleVariant = ser::Impossible<JsonbValue, Error>;
    type SerializeStructVariant = ser::Impossible<JsonbValue, Error>;

    fn serialize_bool(self, value: bool) -> Result<JsonbValue, Error> {
        Ok(scalar(jbvType::jbvBool, |v| v.boolean = value))
    }

    fn serialize_i64(self, value: i64) -> Result<JsonbValue, Error> {
        Ok(number(pg_sys::int8_numeric, value.into_datum()))
    }

    fn serialize_u64(self, value: u64) -> Result<JsonbValue, Error> {
        self.serialize_i64(i64::try_from(value).map_err(Error::custom)?)
    }

    integers! {
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
    }

    fn serialize_f64(self, value: f64) -> Result<JsonbValue, Error> {
        Ok(number(pg_sys::float8_numeric, value.into_datum()))
    }

    fn serialize_f32(self, value: f32) -> Result<JsonbValue, Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_str(self, value: &str) -> Result<JsonbValue, Error> {
        let copy = Box::<str>::from(value);
        let kept = string(&copy);
        self.strings.borrow_mut().push(copy);
        kept
    }

    /// A jsonb value, as the server stores it.
    fn serialize_bytes(self, value: &[u8]) -> Result<JsonbValue, Error> {
        // SAFETY: the bytes are a jsonb, aligned (see Jsonb), which is part of the answer.
        Ok(unsafe { unpack(value.as_ptr().cast()) })
    }

    fn serialize_none(self) -> Result<JsonbValue, Error> {
        Ok(scalar(jbvType::jbvNull, |_| ()))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<JsonbValue, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<JsonbValue, Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Array<'a>, Error> {
        Ok(Array {
            kept: self,
            elements: Vec::with_capacity(len.unwrap_or(0)),
        })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Object<'a>, Error> {
        Ok(Object {
            kept: self,
            pairs: Vec::with_capacity(len.unwrap_or(8)),
        })
    }

    fn serialize_struct(self, _: &'static str, fields: usize) -> Result<Object<'a>, Error> {
        self.serialize_map(Some(fields))
    }

    otherwise! {
        serialize_char(char);
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<JsonbValue, Error> {
        Err(Error::custom("a variant is not for answers"))
    }
}

struct Array<'a> {
    kept: &'a Kept,
    elements: Vec<JsonbValue>,
}

impl ser::SerializeSeq for Array<'_> {
    type Ok = JsonbValue;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.elements.push(value.serialize(self.kept)?);
        Ok(())
    }

    fn end(mut self) -> Result<JsonbValue, Error> {
        let len = count(self.elements.len())?;
        let value = scalar(jbvType::jbvArray, |v| {
            v.array.nElems = len;
            v.array.elems = self.elements.as_mut_ptr();
            v.array.rawScalar = false;
        });
        self.kept.elements.borrow_mut().push(self.elements);
        Ok(value)
    }
}

struct Object<'a> {
    kept: &'a Kept,
    pairs: Vec<JsonbPair>,
}

impl Object<'_> {
    fn push(&mut self, key: JsonbValue) {
        self.pairs.push(JsonbPair {
            key,
            ..Default::default()
        });
    }

    fn finish(mut self) -> Result<JsonbValue, Error> {
        let len = count(self.pairs.len())?;
        // The order in which the server looks keys up: by length, then by bytes.
        self.pairs.sort_unstable_by_key(|pair| {
            // SAFETY: keys are strings, which outlive the tree.
            unsafe {
                let key = pair.key.val.string;
                let bytes = std::slice::from_raw_parts(key.val.cast::<u8>(), key.len as usize);
                (key.len, bytes)
            }
        });
        let value = scalar(jbvType::jbvObject, |v| {
            v.object.nPairs = len;
            v.object.pairs = self.pairs.as_mut_ptr();
        });
        self.kept.pairs.borrow_mut().push(self.pairs);
        Ok(value)
    }
}

impl ser::SerializeMap for Object<'_> {
    type Ok = JsonbValue;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let key = key.serialize(self.kept)?;
        if key.type_ != jbvType::jbvString {
            return Err(Error::custom("keys are strings"));
        }
        self.push(key);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let value = value.serialize(self.kept)?;
        let pair = self.pairs.last_mut();
        pair.ok_or_else(|| Error::custom("a value comes after its key"))?
            .value = value;
        Ok(())
    }

    fn end(self) -> Result<JsonbValue, Error> {
        self.finish()
    }
}

impl ser::SerializeStruct for Object<'_> {
    type Ok = JsonbValue;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.push(string(key)?);
        ser::SerializeMap::serialize_value(self, value)
    }

    fn end(self) -> Result<JsonbValue, Error> {
        self.finish()
    }
}
