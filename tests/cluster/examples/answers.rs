//! Statements of an example, and whether they answer what the comments under them show.

use std::time::Duration;

use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, SimpleQueryMessage};
use serde_json::Value;

/// A statement, and the lines of comment under it.
pub struct Statement {
    pub sql: String,
    pub comments: Vec<String>,
}

/// What the comments show of an answer.
pub enum Shown {
    Json(String),
    /// Rows, and cells of which `…` stands for anything.
    Rows(Vec<Vec<String>>),
    Error {
        message: String,
        sqlstate: Option<String>,
        detail: Option<String>,
    },
    Notification(String),
}

/// The statements of a script: quotes, dollar quotes and comments may have semicolons in them.
pub fn statements(script: &str) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let (mut sql, mut quote) = (String::new(), None::<String>);
    for line in script.lines() {
        let between = quote.is_none() && sql.trim().is_empty();
        if let (true, Some(comment)) = (between, line.strip_prefix("--")) {
            if let Some(last) = statements.last_mut() {
                last.comments.push(comment.to_owned());
            }
            continue;
        }
        let mut rest = line;
        while let Some(next) = rest.chars().next() {
            if let Some(end) = &quote {
                let upto = rest.find(end.as_str()).map(|at| at + end.len());
                let taken = upto.unwrap_or(rest.len());
                sql.push_str(&rest[..taken]);
                rest = &rest[taken..];
                if upto.is_some() {
                    quote = None;
                }
                continue;
            }
            if rest.starts_with("--") {
                break;
            }
            match next {
                '\'' | '"' => quote = Some(next.into()),
                '$' => {
                    let tag = rest[1..].find('$').map(|at| &rest[..at + 2]);
                    quote = tag.map(str::to_owned);
                }
                _ => {}
            }
            let taken = match (next, &quote) {
                ('$', Some(tag)) => tag.len(),
                _ => next.len_utf8(),
            };
            sql.push_str(&rest[..taken]);
            rest = &rest[taken..];
            if next == ';' {
                let sql = std::mem::take(&mut sql).trim().to_owned();
                let comments = Vec::new();
                statements.push(Statement { sql, comments });
            }
        }
        sql.push('\n');
    }
    assert_eq!(sql.trim(), "", "a statement without an end");
    statements
}

impl Shown {
    /// None where the comments are words.
    pub fn of(comments: &[String]) -> Option<Shown> {
        let first = comments.first()?.trim();
        let after =
            |line: &String, key: &str| Some(line.trim().strip_prefix(key)?.trim().to_owned());
        if first.starts_with('{') {
            return Some(Shown::Json(comments.join(" ")));
        }
        if let Some(message) = after(&comments[0], "ERROR:") {
            let (message, sqlstate) = match message.split_once("(SQLSTATE ") {
                Some((message, state)) => (message.trim(), state.strip_suffix(')')),
                None => (message.as_str(), None),
            };
            return Some(Shown::Error {
                message: message.to_owned(),
                sqlstate: sqlstate.map(str::to_owned),
                detail: comments.iter().find_map(|line| after(line, "DETAIL:")),
            });
        }
        if first.starts_with("Asynchronous notification") {
            let text = comments.join(" ");
            let (start, end) = (text.find('{')?, text.rfind('}')?);
            return Some(Shown::Notification(text[start..=end].to_owned()));
        }
        if first.contains(" | ") {
            let rows = comments.iter().map(|line| {
                let cells = line.split('|').map(|cell| cell.trim().to_owned());
                cells.collect()
            });
            return Some(Shown::Rows(rows.collect()));
        }
        None
    }
}

/// Runs a statement, and says what is not as it is shown.
pub fn check(client: &mut Client, sql: &str, shown: Option<Shown>) -> Result<(), String> {
    let rows = match client.simple_query(sql) {
        Ok(messages) => rows_of(messages),
        Err(error) => return check_error(&error, shown),
    };
    match shown {
        None => {
            let refused = rows.iter().flatten().find_map(|cell| {
                let answer: Value = serde_json::from_str(cell).ok()?;
                let came_off = VERDICTS.iter().all(|key| answer[key] != false);
                (!came_off).then(|| cell.clone())
            });
            refused.map_or(Ok(()), |answer| Err(format!("is refused: {answer}")))
        }
        Some(Shown::Json(shown)) => check_json(&shown, rows.first().map_or("", |row| &row[0])),
        Some(Shown::Rows(shown)) => check_rows(&shown, &rows),
        Some(Shown::Notification(shown)) => {
            let patience = Duration::from_secs(30);
            let mut notifications = client.notifications();
            let next = notifications.timeout_iter(patience).next();
            let told = next.map_err(|error| error.to_string())?;
            check_json(&shown, told.as_ref().map_or("", |told| told.payload()))
        }
        Some(Shown::Error { message, .. }) => Err(format!("did not raise: {message}")),
    }
}

/// The keys that say whether a call came off.
const VERDICTS: [&str; 6] = [
    "acquired",
    "renewed",
    "released",
    "transferred",
    "broken",
    "disowned",
];

fn rows_of(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<String>> {
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let cells = (0..row.len()).map(|at| row.get(at).unwrap_or("").to_owned());
            Some(cells.collect())
        }
        _ => None,
    });
    rows.collect()
}

fn check_error(error: &postgres::Error, shown: Option<Shown>) -> Result<(), String> {
    let Some(Shown::Error {
        message,
        sqlstate,
        detail,
    }) = shown
    else {
        return Err(format!("{error:?}"));
    };
    let Some(raised) = error.as_db_error() else {
        return Err(format!("{error:?}"));
    };
    let same = message == raised.message()
        && sqlstate.is_none_or(|state| state == raised.code().code())
        && detail.is_none_or(|detail| masked(&detail) == masked(raised.detail().unwrap_or("")));
    same.then_some(()).ok_or_else(|| format!("{raised:?}"))
}

fn check_rows(shown: &[Vec<String>], rows: &[Vec<String>]) -> Result<(), String> {
    let same_cell = |shown: &String, cell: &String| {
        // A duration differs each time.
        let masked = shown.contains(':') && masked(shown) == masked(cell);
        shown == "…" || shown == cell || masked
    };
    let same_row = |shown: &Vec<String>, row: &Vec<String>| {
        shown.len() == row.len() && shown.iter().zip(row).all(|(a, b)| same_cell(a, b))
    };
    let same = shown.len() == rows.len() && shown.iter().zip(rows).all(|(a, b)| same_row(a, b));
    same.then_some(()).ok_or_else(|| format!("{rows:?}"))
}

fn check_json(shown: &str, answer: &str) -> Result<(), String> {
    let wrong = |what: String| format!("{what}\nshown: {shown}\nanswer: {answer}");
    let expected = serde_json::from_str(shown).map_err(|error| wrong(error.to_string()))?;
    let given = serde_json::from_str(answer).map_err(|error| wrong(error.to_string()))?;
    compare("", &expected, &given).map_err(wrong)
}

/// What differs each time.
const PASSING: [&str; 8] = [
    "token",
    "acquired_at",
    "expires_at",
    "retry_after_ms",
    "timestamp",
    "duration_ms",
    "pid",
    "time_zone",
];

fn compare(key: &str, shown: &Value, given: &Value) -> Result<(), String> {
    match (shown, given) {
        (Value::Object(shown), Value::Object(given)) => {
            let keys = shown.keys().chain(given.keys());
            for key in keys {
                let pair = (shown.get(key), given.get(key));
                let (Some(shown), Some(given)) = pair else {
                    return Err(format!("{key}: {pair:?}"));
                };
                compare(key, shown, given)?;
            }
            Ok(())
        }
        (Value::Array(shown), Value::Array(given)) if shown.len() == given.len() => {
            let mut pairs = shown.iter().zip(given);
            pairs.try_for_each(|(shown, given)| compare(key, shown, given))
        }
        (shown, given) if PASSING.contains(&key) => {
            let same = masked(&shown.to_string()) == masked(&given.to_string());
            same.then_some(()).ok_or_else(|| key.to_owned())
        }
        (shown, given) if shown == given => Ok(()),
        (shown, given) => Err(format!("{key}: {shown} is shown, {given} is the answer")),
    }
}

/// A text with a 0 for each run of digits.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if masked.ends_with('0') => {}
            true => masked.push('0'),
            false => masked.push(c),
        }
    }
    masked
}
