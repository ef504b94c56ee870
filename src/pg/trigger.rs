//! The rows that a trigger fires for.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::Raw;
use crate::text::Text;

/// A firing of a row trigger.
pub struct Firing(*mut pg_sys::TriggerData);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Insert,
    Update,
    Delete,
}

/// Why a column gives no key.
pub enum NoKey {
    /// The table has no such column.
    NoColumn,
    /// Its text is not the same for everybody; the type, as a person writes it.
    Type(Text),
}

impl Firing {
    /// The firing that a call is part of; `None` where it is called as a function.
    pub fn of(fcinfo: pg_sys::FunctionCallInfo) -> Option<Firing> {
        // SAFETY: the node's tag says what it is.
        unsafe {
            let context = (*fcinfo).context;
            let is_trigger =
                !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_TriggerData;
            is_trigger.then(|| Firing(context.cast()))
        }
    }

    fn event_bits(&self) -> u32 {
        // SAFETY: the data lives as long as the call, here and below.
        unsafe { (*self.0).tg_event }
    }

    /// Whether it fires for each row, before it is written.
    pub fn is_before_row(&self) -> bool {
        let is_row = self.event_bits() & pg_sys::TRIGGER_EVENT_ROW != 0;
        is_row
            && self.event_bits() & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE
    }

    /// What is done to the row; `None` for TRUNCATE.
    pub fn event(&self) -> Option<Event> {
        match self.event_bits() & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Some(Event::Insert),
            pg_sys::TRIGGER_EVENT_UPDATE => Some(Event::Update),
            pg_sys::TRIGGER_EVENT_DELETE => Some(Event::Delete),
            _ => None,
        }
    }

    /// The table that it fires for.
    pub fn table(&self) -> pg_sys::Oid {
        // SAFETY: the table is open while its trigger fires.
        unsafe { (*(*self.0).tg_relation).rd_id }
    }

    /// The arguments of CREATE TRIGGER.
    pub fn arguments(&self) -> Vec<Text> {
        // SAFETY: as many NUL-terminated texts as it says.
        unsafe {
            let trigger = &*(*self.0).tg_trigger;
            (0..trigger.tgnargs as usize)
                .map(|at| Text::from(CStr::from_ptr(*trigger.tgargs.add(at)).to_bytes()))
                .collect()
        }
    }

    /// The row as the trigger found it, which lets the write go on.
    pub fn row(&self) -> Raw {
        // SAFETY: an UPDATE's new row is in another place than the others' only one.
        unsafe {
            Raw(match self.event() {
                Some(Event::Update) => (*self.0).tg_newtuple.into(),
                _ => (*self.0).tg_trigtuple.into(),
            })
        }
    }

    /// The keys that the write touches: of the row as it was and as it is to be, each once. A key that is
    /// NULL is left out.
    pub fn keys(&self, column: &Text) -> Result<Vec<Text>, NoKey> {
        let column = Column::of(self, column)?;
        // SAFETY: these are the rows of the event.
        let rows = unsafe {
            match self.event() {
                Some(Event::Update) => vec![(*self.0).tg_trigtuple, (*self.0).tg_newtuple],
                _ => vec![(*self.0).tg_trigtuple],
            }
        };
        let is_new = |at: usize| self.event() == Some(Event::Insert) || at == 1;
        let keys = rows.into_iter().enumerate();
        let mut keys: Vec<_> = keys
            .filter_map(|(at, row)| column.text(row, is_new(at)))
            .collect();
        keys.dedup();
        Ok(keys)
    }
}

/// The key column of the table.
struct Column {
    table: pg_sys::Relation,
    number: i32,
    base_type: pg_sys::Oid,
    is_generated: bool,
}

impl Column {
    fn of(firing: &Firing, name: &Text) -> Result<Column, NoKey> {
        // SAFETY: reads the descriptor of the trigger's table, which is open; the name is made
        // NUL-terminated, as the server's names are.
        unsafe {
            let table = (*firing.0).tg_relation;
            let name = std::ffi::CString::new(name.as_bytes()).map_err(|_| NoKey::NoColumn)?;
            let number = pg_sys::SPI_fnumber((*table).rd_att, name.as_ptr());
            if number < 1 {
                return Err(NoKey::NoColumn);
            }
            let attribute = &*super::altered::attribute((*table).rd_att, number as usize - 1);
            let base_type = pg_sys::getBaseType(attribute.atttypid);
            let is_plain = matches!(
                base_type,
                pg_sys::TEXTOID
                    | pg_sys::VARCHAROID
                    | pg_sys::BPCHAROID
                    | pg_sys::NAMEOID
                    | pg_sys::INT2OID
                    | pg_sys::INT4OID
                    | pg_sys::INT8OID
                    | pg_sys::OIDOID
                    | pg_sys::NUMERICOID
                    | pg_sys::UUIDOID
                    | pg_sys::BOOLOID
            );
            let is_enum = pg_sys::get_typtype(base_type) as u8 == pg_sys::TYPTYPE_ENUM;
            // A virtual generated column has no value in the row.
            if !(is_plain || is_enum) || attribute.attgenerated as u8 == b'v' {
                let r#type = pg_sys::format_type_be(attribute.atttypid);
                return Err(NoKey::Type(Text::from(CStr::from_ptr(r#type).to_bytes())));
            }
            Ok(Column {
                table,
                number,
                base_type,
                is_generated: attribute.attgenerated != 0,
            })
        }
    }

    /// What `column::text` is in the row; of one that is to be written a generated column has not been
    /// computed yet.
    fn text(&self, row: pg_sys::HeapTuple, is_new: bool) -> Option<Text> {
        // SAFETY: the row is one of the table's.
        unsafe {
            if is_new && self.is_generated {
                return self.generated(row);
            }
            let mut is_null = false;
            let descriptor = (*self.table).rd_att;
            let value = pg_sys::heap_getattr(row, self.number, descriptor, &mut is_null);
            (!is_null).then(|| self.cast(value))
        }
    }

    /// The generated column's value, computed as the server is about to do it.
    ///
    /// # Safety
    /// The row must be one of the table's.
    unsafe fn generated(&self, row: pg_sys::HeapTuple) -> Option<Text> {
        // SAFETY: the expression is the column's own, and the slot of the table's shape; all of it lives
        // until the executor's state is freed.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let slot =
                pg_sys::MakeSingleTupleTableSlot((*self.table).rd_att, &pg_sys::TTSOpsHeapTuple);
            pg_sys::ExecStoreHeapTuple(row, slot, false);
            let expression = pg_sys::build_column_default(self.table, self.number);
            let expression = pg_sys::ExecPrepareExpr(expression.cast(), state);
            let context = pg_sys::MakePerTupleExprContext(state);
            (*context).ecxt_scantuple = slot;
            let mut is_null = false;
            let evaluate = (*expression).evalfunc.expect("a prepared expression");
            let value =
                pg_sys::ffi::pg_guard_ffi_boundary(|| evaluate(expression, context, &mut is_null));
            let text = (!is_null).then(|| self.cast(value));
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::FreeExecutorState(state);
            text
        }
    }

    /// `value::text`, for types whose text no setting changes.
    ///
    /// # Safety
    /// The value must be of the column's type.
    unsafe fn cast(&self, value: pg_sys::Datum) -> Text {
        // SAFETY: as the caller says; the output function's text is palloc'd and NUL-terminated.
        unsafe {
            match self.base_type {
                pg_sys::BOOLOID => Text::from(if value.value() == 0 { "false" } else { "true" }),
                pg_sys::TEXTOID | pg_sys::VARCHAROID => super::text_datum::text_from_datum(value),
                base_type => {
                    let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
                    pg_sys::getTypeOutputInfo(base_type, &mut output, &mut is_varlena);
                    let text = pg_sys::OidOutputFunctionCall(output, value);
                    let bytes = CStr::from_ptr(text).to_bytes();
                    Text::from(match base_type {
                        pg_sys::BPCHAROID => without_padding(bytes),
                        _ => bytes,
                    })
                }
            }
        }
    }
}

/// Without the blanks that char(n) is padded with, as its cast to text does it.
fn without_padding(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|&byte| byte != b' ')
        .map_or(0, |at| at + 1);
    &bytes[..end]
}
