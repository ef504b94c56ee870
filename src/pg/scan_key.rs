//! Conditions on the columns of an index.

use pgrx::pg_sys::{self, Datum, ScanKeyData};

use super::Timestamp;

/// timestamptz_gt, _le and _ge, by the numbers that they have in every version.
const TIMESTAMPTZ_GT: u32 = 1157;
const TIMESTAMPTZ_LE: u32 = 1155;
const TIMESTAMPTZ_GE: u32 = 1156;

pub fn equal_text(column: i16, text: Datum) -> ScanKeyData {
    let function = pg_sys::F_TEXTEQ;
    key(
        column,
        pg_sys::BTEqualStrategyNumber,
        function,
        pg_sys::C_COLLATION_OID,
        text,
    )
}

pub fn text_until(column: i16, text: Datum) -> ScanKeyData {
    let (strategy, function) = (pg_sys::BTLessEqualStrategyNumber, pg_sys::F_TEXT_LE);
    key(column, strategy, function, pg_sys::C_COLLATION_OID, text)
}

/// int4le and int4ge, by the numbers that they have in every version.
const INT4LE: u32 = 149;
const INT4GE: u32 = 150;

pub fn int_since(column: i16, number: i32) -> ScanKeyData {
    let strategy = pg_sys::BTGreaterEqualStrategyNumber;
    key(column, strategy, INT4GE, pg_sys::InvalidOid, number.into())
}

pub fn int_until(column: i16, number: i32) -> ScanKeyData {
    let strategy = pg_sys::BTLessEqualStrategyNumber;
    key(column, strategy, INT4LE, pg_sys::InvalidOid, number.into())
}

pub fn time_after(column: i16, t: Timestamp) -> ScanKeyData {
    time(column, pg_sys::BTGreaterStrategyNumber, TIMESTAMPTZ_GT, t)
}

pub fn time_since(column: i16, t: Timestamp) -> ScanKeyData {
    time(
        column,
        pg_sys::BTGreaterEqualStrategyNumber,
        TIMESTAMPTZ_GE,
        t,
    )
}

pub fn time_until(column: i16, t: Timestamp) -> ScanKeyData {
    time(column, pg_sys::BTLessEqualStrategyNumber, TIMESTAMPTZ_LE, t)
}

pub fn number_after(column: i16, number: i64) -> ScanKeyData {
    let (strategy, function) = (pg_sys::BTGreaterStrategyNumber, pg_sys::F_INT8GT);
    key(
        column,
        strategy,
        function,
        pg_sys::InvalidOid,
        number.into(),
    )
}

fn time(column: i16, strategy: u32, function: u32, t: Timestamp) -> ScanKeyData {
    key(
        column,
        strategy,
        function,
        pg_sys::InvalidOid,
        t.raw().into(),
    )
}

fn key(
    column: i16,
    strategy: u32,
    function: u32,
    collation: pg_sys::Oid,
    argument: Datum,
) -> ScanKeyData {
    let mut key = ScanKeyData::default();
    // SAFETY: fills the key; looks the function up.
    unsafe {
        pg_sys::ScanKeyEntryInitialize(
            &mut key,
            0,
            column,
            strategy as pg_sys::StrategyNumber,
            pg_sys::InvalidOid,
            collation,
            pg_sys::RegProcedure::from(function),
            argument,
        );
    }
    key
}
