//! Errors, warnings and log lines in the database's encoding and with SQLSTATEs of softlock's own. pgrx
//! knows PostgreSQL's SQLSTATEs only, and would have texts in UTF-8.

use std::borrow::Cow;
use std::ffi::{CString, c_char, c_int};

use pgrx::{PgLogLevel, pg_sys};

// Kept from pgrx's bindings, which want errors to be raised by its own means.
unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(code: c_int) -> c_int;
    fn errmsg_internal(format: *const c_char, ...) -> c_int;
    fn errdetail_internal(format: *const c_char, ...) -> c_int;
    fn errhint(format: *const c_char, ...) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

/// How loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Debug1 = PgLogLevel::DEBUG1 as isize,
    Log = PgLogLevel::LOG as isize,
    Notice = PgLogLevel::NOTICE as isize,
    Warning = PgLogLevel::WARNING as isize,
    Error = PgLogLevel::ERROR as isize,
}

/// What is said, in the database's encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Five characters.
    pub sqlstate: Cow<'static, str>,
    pub message: Vec<u8>,
    pub detail: Option<Vec<u8>>,
    pub hint: Option<&'static str>,
}

impl Report {
    /// A line without SQLSTATE, DETAIL or HINT.
    pub fn line(message: Vec<u8>) -> Self {
        Report {
            sqlstate: "00000".into(),
            message,
            detail: None,
            hint: None,
        }
    }

    /// What is still to be said, with the SQLSTATE of an error of the server's.
    pub fn with_code(code: c_int) -> Self {
        Report {
            sqlstate: decode(code).into(),
            ..Report::line(Vec::new())
        }
    }

    /// The SQLSTATE as the server packs it.
    pub fn code(&self) -> c_int {
        encode(&self.sqlstate)
    }

    /// Says it, and goes on. Not for errors.
    pub fn emit(self, level: Level) {
        debug_assert!(level != Level::Error);
        // SAFETY: below ERROR the calls return; the texts live until they have.
        unsafe { self.report(level) };
    }

    /// Raises it as an error of the statement.
    ///
    /// The server jumps out of here over the frames of the caller, so this is the last thing that a SQL
    /// function does: what has a destructor has been dropped by then, this report included.
    pub fn raise(self) -> ! {
        let palloc = |text: CString| {
            // SAFETY: copies as many bytes as there are, with the NUL, into memory that the server frees.
            unsafe { pg_sys::pstrdup(text.as_ptr()).cast_const() }
        };
        let texts = self.into_texts();
        let sqlstate = texts.sqlstate;
        let message = palloc(texts.message);
        let detail = texts.detail.map_or(std::ptr::null(), palloc);
        let hint = texts.hint.map_or(std::ptr::null(), palloc);
        // SAFETY: the texts are palloc'd; nothing here has a destructor any more.
        unsafe { report(Level::Error, sqlstate, message, detail, hint) };
        unreachable!("an error has been raised");
    }

    /// # Safety
    /// The level must be below ERROR.
    unsafe fn report(self, level: Level) {
        let texts = self.into_texts();
        let pointer =
            |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
        let (detail, hint) = (pointer(&texts.detail), pointer(&texts.hint));
        // SAFETY: as the caller says; the texts live until the call returns.
        unsafe { report(level, texts.sqlstate, texts.message.as_ptr(), detail, hint) };
    }

    fn into_texts(self) -> Texts {
        let text = |bytes: Vec<u8>| CString::new(bytes).expect("a text of the server's has no NUL");
        Texts {
            sqlstate: encode(&self.sqlstate),
            message: text(self.message),
            detail: self.detail.map(text),
            hint: self.hint.map(|hint| text(hint.into())),
        }
    }
}

struct Texts {
    sqlstate: c_int,
    message: CString,
    detail: Option<CString>,
    hint: Option<CString>,
}

/// Five characters of six bits each, as the server packs them.
fn encode(sqlstate: &str) -> c_int {
    let bits = |byte: u8| c_int::from(byte.wrapping_sub(b'0') & 0x3F);
    sqlstate
        .bytes()
        .rev()
        .fold(0, |code, byte| (code << 6) | bits(byte))
}

/// The other way.
fn decode(code: c_int) -> String {
    let character = |at| ((code >> (6 * at) & 0x3F) as u8 + b'0') as char;
    (0..5).map(character).collect()
}

/// # Safety
/// The texts must be NUL-terminated, or null; where the level is ERROR, nothing on the stack up to the
/// server may have a destructor.
unsafe fn report(
    level: Level,
    sqlstate: c_int,
    message: *const c_char,
    detail: *const c_char,
    hint: *const c_char,
) {
    // SAFETY: the order of calls that the server wants; texts go through a format of their own.
    unsafe {
        if errstart(level as c_int, std::ptr::null()) {
            errcode(sqlstate);
            errmsg_internal(c"%s".as_ptr(), message);
            if !detail.is_null() {
                errdetail_internal(c"%s".as_ptr(), detail);
            }
            if !hint.is_null() {
                errhint(c"%s".as_ptr(), hint);
            }
            errfinish(c"softlock".as_ptr(), 0, c"softlock".as_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn a_sqlstate_is_packed_as_the_server_does_it() {
        assert_eq!(encode("00000"), 0);
        // MAKE_SQLSTATE('2','2','0','2','3')
        assert_eq!(encode("22023"), 2 + (2 << 6) + (2 << 18) + (3 << 24));
        assert_eq!(encode("SL001"), 35 + (28 << 6) + (1 << 24));
        assert_eq!(decode(encode("SL001")), "SL001");
    }
}
