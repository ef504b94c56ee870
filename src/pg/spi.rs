//! SQL, for what is not a lock: statements in the database's encoding, which pgrx would have in UTF-8.

use std::ffi::{CString, c_char, c_int};

use pgrx::{IntoDatum, pg_sys};

use super::Timestamp;
use super::text_datum::{text_datum, text_from_datum};
use crate::text::Text;

/// A parameter of a statement.
#[derive(Clone, Copy)]
pub enum Parameter<'a> {
    Text(Option<&'a Text>),
    Texts(&'a [Text]),
    Oid(pg_sys::Oid),
    Number(i64),
    /// A timestamptz.
    Time(Option<Timestamp>),
    /// A timestamp without time zone, as the server counts them.
    Local(Option<i64>),
}

impl Parameter<'_> {
    fn kind(&self) -> pg_sys::Oid {
        match self {
            Parameter::Text(_) => pg_sys::TEXTOID,
            Parameter::Texts(_) => pg_sys::TEXTARRAYOID,
            Parameter::Oid(_) => pg_sys::OIDOID,
            Parameter::Number(_) => pg_sys::INT8OID,
            Parameter::Time(_) => pg_sys::TIMESTAMPTZOID,
            Parameter::Local(_) => pg_sys::TIMESTAMPOID,
        }
    }

    fn datum(&self) -> Option<pg_sys::Datum> {
        match *self {
            Parameter::Text(text) => text.map(|text| text_datum(text.as_bytes())),
            Parameter::Texts(texts) => Some(text_array(texts)),
            Parameter::Oid(oid) => oid.into_datum(),
            Parameter::Number(number) => number.into_datum(),
            Parameter::Time(time) => time.and_then(|time| time.raw().into_datum()),
            Parameter::Local(time) => time.and_then(IntoDatum::into_datum),
        }
    }
}

fn text_array(texts: &[Text]) -> pg_sys::Datum {
    let mut elements: Vec<_> = texts
        .iter()
        .map(|text| text_datum(text.as_bytes()))
        .collect();
    // SAFETY: so many texts, with what the server knows of their type; the array is palloc'd.
    unsafe {
        pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as c_int,
            pg_sys::TEXTOID,
            -1,
            false,
            b'i' as c_char,
        )
        .into()
    }
}

/// A row of an answer.
pub struct Row(Vec<Option<Cell>>);

enum Cell {
    /// A value of up to eight bytes of a type that is counted, not written.
    Raw(i64),
    Text(Text),
}

impl Row {
    /// A number, an OID, a boolean as 0 or 1, or a point in time; `None` for NULL.
    pub fn raw(&self, at: usize) -> Option<i64> {
        match self.0.get(at)?.as_ref()? {
            Cell::Raw(raw) => Some(*raw),
            Cell::Text(_) => None,
        }
    }

    /// A boolean; NULL is false.
    pub fn is_true(&self, at: usize) -> bool {
        self.raw(at).is_some_and(|raw| raw != 0)
    }

    /// An OID; NULL is none.
    pub fn oid(&self, at: usize) -> pg_sys::Oid {
        self.raw(at)
            .map_or(pg_sys::InvalidOid, |raw| pg_sys::Oid::from(raw as u32))
    }

    /// Anything else, as text.
    pub fn text(&self, at: usize) -> Option<&Text> {
        match self.0.get(at)?.as_ref()? {
            Cell::Raw(_) => None,
            Cell::Text(text) => Some(text),
        }
    }
}

/// Runs one statement as the current role, with its search_path, and answers its rows.
pub fn run(statement: &[u8], parameters: &[Parameter]) -> Vec<Row> {
    let statement = c_string(statement);
    let mut kinds = kinds(parameters);
    // SAFETY: the arrays are of one length, and live as long as the call.
    connected(parameters, |values, nulls| unsafe {
        pg_sys::SPI_execute_with_args(
            statement.as_ptr(),
            kinds.len() as c_int,
            kinds.as_mut_ptr(),
            values,
            nulls,
            false,
            0,
        )
    })
}

/// A statement with its plan, to be run many times, in one transaction after the other: planned once, for
/// whatever parameters, and again where the server finds that something has changed.
pub struct Kept(pg_sys::SPIPlanPtr);

impl Kept {
    /// Plans it for parameters like these, as the role and with the search_path that it is to be run with.
    pub fn new(statement: &[u8], parameters: &[Parameter]) -> Kept {
        let statement = c_string(statement);
        let mut kinds = kinds(parameters);
        // SAFETY: the arguments live as long as the call, and the plan until it is freed, once it is kept.
        // Connect and finish are paired, or an error ends the transaction or savepoint that this is in.
        unsafe {
            pg_sys::SPI_connect();
            let plan = pg_sys::SPI_prepare_cursor(
                statement.as_ptr(),
                kinds.len() as c_int,
                kinds.as_mut_ptr(),
                pg_sys::CURSOR_OPT_GENERIC_PLAN as c_int,
            );
            assert!(!plan.is_null(), "SPI prepares nothing");
            let code = pg_sys::SPI_keepplan(plan);
            pg_sys::SPI_finish();
            assert!(code == 0, "SPI answers {code}");
            Kept(plan)
        }
    }

    pub fn run(&self, parameters: &[Parameter]) -> Vec<Row> {
        // SAFETY: the plan is kept; so many parameters it was made for.
        connected(parameters, |values, nulls| unsafe {
            pg_sys::SPI_execute_plan(self.0, values, nulls, false, 0)
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: it was kept, and is nobody else's. Raises nothing, whatever the transaction has come to.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

fn c_string(statement: &[u8]) -> CString {
    CString::new(statement).expect("a text of the server's has no NUL")
}

fn kinds(parameters: &[Parameter]) -> Vec<pg_sys::Oid> {
    parameters.iter().map(Parameter::kind).collect()
}

/// Has `execute` run a statement with these parameters, and answers its rows.
fn connected(
    parameters: &[Parameter],
    execute: impl FnOnce(*mut pg_sys::Datum, *const c_char) -> c_int,
) -> Vec<Row> {
    // SAFETY: connect and finish are paired, or an error ends the transaction or savepoint that this is in;
    // the parameters live until the statement has been run, its rows until `finish`.
    unsafe {
        pg_sys::SPI_connect();
        let values: Vec<_> = parameters.iter().map(Parameter::datum).collect();
        let nulls: Vec<_> = values
            .iter()
            .map(|value| if value.is_none() { b'n' } else { b' ' } as c_char)
            .collect();
        let mut values: Vec<_> = values
            .into_iter()
            .map(|value| value.unwrap_or(pg_sys::Datum::from(0)))
            .collect();
        let code = execute(values.as_mut_ptr(), nulls.as_ptr());
        assert!(code >= 0, "SPI answers {code}");
        let rows = match pg_sys::SPI_tuptable {
            table if table.is_null() => Vec::new(),
            table => (0..pg_sys::SPI_processed as usize)
                .map(|at| row(*(*table).vals.add(at), (*table).tupdesc))
                .collect(),
        };
        pg_sys::SPI_finish();
        rows
    }
}

/// # Safety
/// The tuple must be of this descriptor.
unsafe fn row(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Row {
    // SAFETY: as the caller says; columns count from 1.
    unsafe {
        let columns = 1..=(*descriptor).natts;
        Row(columns
            .map(|column| {
                let kind = pg_sys::SPI_gettypeid(descriptor, column);
                let mut is_null = false;
                let datum = pg_sys::SPI_getbinval(tuple, descriptor, column, &mut is_null);
                (!is_null).then(|| match kind {
                    pg_sys::BOOLOID => Cell::Raw(i64::from(datum.value() as u8 != 0)),
                    pg_sys::INT4OID => Cell::Raw(i64::from(datum.value() as i32)),
                    pg_sys::OIDOID => Cell::Raw(i64::from(datum.value() as u32)),
                    pg_sys::INT8OID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => {
                        Cell::Raw(datum.value() as i64)
                    }
                    pg_sys::TEXTOID => Cell::Text(text_from_datum(datum)),
                    _ => unreachable!("a statement of softlock's answers texts and numbers"),
                })
            })
            .collect())
    }
}
