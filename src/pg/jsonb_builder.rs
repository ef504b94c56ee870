//! serde to `jsonb` without a detour by text, which would cost more than the look-up that the answer
//! is about.
//!
//! Takes what answers are made of: structs and maps with string keys, sequences, strings, integers,
//! floats, booleans, None, and whole jsonb values, which come as bytes.

use std::ffi::c_int;

use pgrx::pg_sys::JsonbIteratorToken::{self, *};
use pgrx::pg_sys::jbvType;
use pgrx::{IntoDatum, direct_function_call_as_datum, pg_sys};
use serde::de::value::Error;
use serde::ser::{self, Error as _, Serialize};

/// Builds the jsonb of a struct or map, in the current memory context.
pub fn build(value: &impl Serialize) -> Result<*mut pg_sys::Jsonb, Error> {
    let mut builder = Builder {
        state: std::ptr::null_mut(),
        top: std::ptr::null_mut(),
        place: WJB_VALUE,
        strings: Vec::new(),
    };
    value.serialize(&mut builder)?;
    if builder.top.is_null() {
        return Err(Error::custom("only structs and maps can be answers"));
    }
    // SAFETY: the last push ended the outermost object and answered with it.
    Ok(unsafe { pg_sys::JsonbValueToJsonb(builder.top) })
}

struct Builder {
    state: *mut pg_sys::JsonbParseState,
    /// The object that the last end of one has closed.
    top: *mut pg_sys::JsonbValue,
    /// What the next scalar is: a key, the value of one, or an array's element.
    place: JsonbIteratorToken::Type,
    /// Copies of strings that may be gone before the outermost object is finished.
    strings: Vec<Box<str>>,
}

impl Builder {
    fn push(&mut self, token: JsonbIteratorToken::Type, value: *mut pg_sys::JsonbValue) {
        // SAFETY: tokens come in the order that serde's traits enforce; a value lives as long as the
        // call, which copies it, and what it points to as long as the builder or longer.
        self.top = unsafe { pg_sys::pushJsonbValue(&mut self.state, token, value) };
    }

    fn scalar(
        &mut self,
        kind: jbvType::Type,
        fill: impl FnOnce(&mut pg_sys::JsonbValue__bindgen_ty_1),
    ) -> Result<(), Error> {
        if self.state.is_null() {
            return Err(Error::custom("only structs and maps can be answers"));
        }
        let mut value = pg_sys::JsonbValue {
            type_: kind,
            ..Default::default()
        };
        fill(&mut value.val);
        self.push(self.place, &mut value);
        Ok(())
    }

    fn string(&mut self, value: *const u8, len: usize) -> Result<(), Error> {
        let len = c_int::try_from(len).map_err(Error::custom)?;
        self.scalar(jbvType::jbvString, |v| {
            v.string.len = len;
            v.string.val = value.cast_mut().cast();
        })
    }

    /// A number, which the server's own function makes of `datum`.
    fn number(
        &mut self,
        convert: unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum,
        datum: Option<pg_sys::Datum>,
    ) -> Result<(), Error> {
        // SAFETY: called with the one argument of its type; the numeric is palloc'd.
        let numeric = unsafe { direct_function_call_as_datum(convert, &[datum]) };
        let numeric = numeric.expect("numbers are not null").cast_mut_ptr();
        self.scalar(jbvType::jbvNumeric, |value| value.numeric = numeric)
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
    (@) => { () };
}

macro_rules! integers {
    ($($method:ident($integer:ty);)*) => {$(
        fn $method(self, value: $integer) -> Result<(), Error> {
            self.serialize_i64(value.into())
        }
    )*};
}

impl ser::Serializer for &mut Builder {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeTuple = ser::Impossible<(), Error>;
    type SerializeTupleStruct = ser::Impossible<(), Error>;
    type SerializeTupleVariant = ser::Impossible<(), Error>;
    type SerializeStructVariant = ser::Impossible<(), Error>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.scalar(jbvType::jbvBool, |v| v.boolean = value)
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        self.number(pg_sys::int8_numeric, value.into_datum())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
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

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.number(pg_sys::float8_numeric, value.into_datum())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        let copy = Box::<str>::from(value);
        let (start, len) = (copy.as_ptr(), copy.len());
        self.strings.push(copy);
        self.string(start, len)
    }

    /// A jsonb value, as the server stores it.
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        let len = c_int::try_from(value.len() - pg_sys::VARHDRSZ).map_err(Error::custom)?;
        // SAFETY: the bytes are an aligned jsonb (see Jsonb), of which the container comes behind the
        // length; it is only read, and Jsonb outlives the building.
        let data = unsafe { value.as_ptr().add(pg_sys::VARHDRSZ) };
        self.scalar(jbvType::jbvBinary, |v| {
            v.binary.len = len;
            v.binary.data = data.cast_mut().cast();
        })
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.scalar(jbvType::jbvNull, |_| ())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Error> {
        self.push(WJB_BEGIN_ARRAY, std::ptr::null_mut());
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Error> {
        self.push(WJB_BEGIN_OBJECT, std::ptr::null_mut());
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, fields: usize) -> Result<Self, Error> {
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
    ) -> Result<(), Error> {
        Err(Error::custom("a variant is not for answers"))
    }
}

impl ser::SerializeSeq for &mut Builder {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.place = WJB_ELEM;
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Error> {
        self.push(WJB_END_ARRAY, std::ptr::null_mut());
        Ok(())
    }
}

impl ser::SerializeMap for &mut Builder {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.place = WJB_KEY;
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.place = WJB_VALUE;
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Error> {
        self.push(WJB_END_OBJECT, std::ptr::null_mut());
        Ok(())
    }
}

impl ser::SerializeStruct for &mut Builder {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.place = WJB_KEY;
        self.string(key.as_ptr(), key.len())?;
        ser::SerializeMap::serialize_value(self, value)
    }

    fn end(self) -> Result<(), Error> {
        ser::SerializeMap::end(self)
    }
}
