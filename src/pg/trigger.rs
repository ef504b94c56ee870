//! The row that a trigger fires for.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::PgTrigger;

/// The value of a column before the write, as its type's output function writes it; `None` for
/// NULL. `Err` when the table has no such column.
pub fn old_text(trigger: &PgTrigger, column: &str) -> Result<Option<String>, ()> {
    let column = CString::new(column).map_err(drop)?;
    let data = trigger.trigger_data();
    // SAFETY: in a row-level trigger the relation and the old row are valid until it returns; the
    // number is one of that relation's columns; the value is a palloc'd, NUL-terminated text.
    unsafe {
        let columns = (*data.tg_relation).rd_att;
        let number = pg_sys::SPI_fnumber(columns, column.as_ptr());
        if number < 1 {
            return Err(());
        }
        let value = pg_sys::SPI_getvalue(data.tg_trigtuple, columns, number);
        Ok((!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned()))
    }
}
