//! An expression of SQL about the rows of a table, parsed as the server parses a WHERE clause, and written
//! so that it means the same in every session.

use std::ffi::{CStr, CString, c_char};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};

use super::sandbox;
use crate::text::{Text, text};

/// Why an expression won't do.
pub enum Unfit {
    /// It can't be parsed, or is not about this table; with what the server says.
    Wrong(Text),
    /// It is more than one expression.
    NotAlone,
    /// It has what may write.
    Volatile,
}

unsafe extern "C-unwind" {
    // Not in pgrx's bindings.
    fn transformWhereClause(
        state: *mut pg_sys::ParseState,
        clause: *mut pg_sys::Node,
        kind: pg_sys::ParseExprKind::Type,
        name: *const c_char,
    ) -> *mut pg_sys::Node;
}

/// The expression with every name qualified that needs it, in which the table, where it is named, is called
/// `written_as`; `given` calls it `read_as`. Names are looked up as the current role, in its search_path;
/// nothing is run. The table must be locked. Where it is unfit, an error has to follow.
pub fn canonical(
    table: pg_sys::Oid,
    given: &Text,
    read_as: &CStr,
    written_as: &CStr,
) -> Result<Text, Unfit> {
    let parsed = PgTryBuilder::new(AssertUnwindSafe(|| parse(table, given, read_as)))
        .catch_others(|error| match error {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
                Err(Unfit::Wrong(super::said(report.message())))
            }
            panic => panic.rethrow(),
        })
        .execute()?;
    // SAFETY: reads backend-local state and a parsed expression; the text is palloc'd.
    unsafe {
        if pg_sys::contain_volatile_functions(parsed) {
            return Err(Unfit::Volatile);
        }
        Ok(sandbox::run_as(pg_sys::GetUserId(), || {
            let context = pg_sys::deparse_context_for(written_as.as_ptr(), table);
            let written = pg_sys::deparse_expression(parsed, context, false, false);
            Text::from(CStr::from_ptr(written).to_bytes())
        }))
    }
}

fn parse(table: pg_sys::Oid, given: &Text, read_as: &CStr) -> Result<*mut pg_sys::Node, Unfit> {
    // On a line of its own, as it may end in a comment.
    let query = text!["SELECT (", given, "\n)"];
    let query = CString::new(query).expect("a text of the server's has no NUL");
    let no_lock = pg_sys::NoLock as pg_sys::LOCKMODE;
    let shared = pg_sys::AccessShareLock as i32;
    // SAFETY: trees that the server has made, palloc'd; the table is locked.
    unsafe {
        let clause = only_expression(pg_sys::pg_parse_query(query.as_ptr()))?;
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        let relation = pg_sys::table_open(table, no_lock);
        let alias = pg_sys::makeAlias(read_as.as_ptr(), std::ptr::null_mut());
        let item =
            pg_sys::addRangeTableEntryForRelation(state, relation, shared, alias, true, true);
        pg_sys::addNSItemToQuery(state, item, true, true, true);
        let kind = pg_sys::ParseExprKind::EXPR_KIND_WHERE;
        let expression = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            transformWhereClause(state, clause, kind, c"condition".as_ptr())
        });
        pg_sys::assign_expr_collations(state, expression);
        pg_sys::free_parsestate(state);
        pg_sys::table_close(relation, no_lock);
        Ok(expression)
    }
}

/// The expression of `SELECT expression`, where the statement is nothing else.
///
/// # Safety
/// The list must be what the server's parser answers.
unsafe fn only_expression(statements: *mut pg_sys::List) -> Result<*mut pg_sys::Node, Unfit> {
    // SAFETY: as the caller says; each node is looked at as what its tag says it is.
    unsafe {
        if pg_sys::list_length(statements) != 1 {
            return Err(Unfit::NotAlone);
        }
        let statement: *mut pg_sys::RawStmt = pg_sys::list_nth(statements, 0).cast();
        let select: *mut pg_sys::SelectStmt = (*statement).stmt.cast();
        if (*select).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Err(Unfit::NotAlone);
        }
        let select = &*select;
        let lists = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ];
        let nodes = [
            select.whereClause,
            select.havingClause,
            select.limitOffset,
            select.limitCount,
        ];
        let is_alone = select.op == pg_sys::SetOperation::SETOP_NONE
            && lists.iter().all(|list| list.is_null())
            && nodes.iter().all(|node| node.is_null())
            && select.intoClause.is_null()
            && select.withClause.is_null()
            && pg_sys::list_length(select.targetList) == 1;
        if !is_alone {
            return Err(Unfit::NotAlone);
        }
        let target: *mut pg_sys::ResTarget = pg_sys::list_nth(select.targetList, 0).cast();
        match (*target).name.is_null() {
            true => Ok((*target).val),
            false => Err(Unfit::NotAlone),
        }
    }
}
