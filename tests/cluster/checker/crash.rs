//! A crash in the middle of it all: one server process is killed, so that the server throws out everybody
//! and recovers. What had been committed must be there then, and nothing else.

use std::collections::HashSet;

use fastrand::Rng;
use postgres::Client as Connection;

use super::client::now;
use super::history::{Event, Micros, Span, holds};
use crate::harness::{Cluster, as_server, run};

/// Kills the server process of a connection.
pub fn kill(pid: i32) {
    run(as_server("kill").args(["-KILL", &pid.to_string()]));
}

/// Ends the transactions that were prepared, and whose clients died, one way or the other. Answers what
/// then contradicts the history, which began at `began`.
pub fn contradictions(
    cluster: &Cluster,
    events: &[Event],
    began: Micros,
    rng: &mut Rng,
) -> Vec<String> {
    let mut client = cluster.reconnect("postgres");
    let prepared = client.query("SELECT gid FROM pg_prepared_xacts", &[]);
    for row in prepared.unwrap() {
        let end = if rng.bool() { "COMMIT" } else { "ROLLBACK" };
        let name: &str = row.get(0);
        client
            .batch_execute(&format!("{end} PREPARED '{name}'"))
            .unwrap();
    }
    let at_begin = now();
    let rows = rows(&mut client, began);
    let span = Span {
        began: at_begin,
        ended: now(),
    };
    compare(events, &rows, span)
}

/// A row of the table, lapsed or not.
pub struct Row {
    pub resource: String,
    pub owner: String,
    pub token: i64,
    pub expires: Micros,
}

/// The rows granted since `began`; tokens are times.
pub fn rows(client: &mut Connection, began: Micros) -> Vec<Row> {
    let rows = client.query(
        "SELECT resource, owner, token, (extract(epoch FROM expires_at) * 1000000)::bigint
         FROM softlock.locks WHERE token >= $1",
        &[&began],
    );
    let read = |row: &postgres::Row| Row {
        resource: row.get(0),
        owner: row.get(1),
        token: row.get(2),
        expires: row.get(3),
    };
    rows.unwrap().iter().map(read).collect()
}

/// What was committed and is not among the rows that were read during `span`, and the other way round.
pub fn compare(events: &[Event], rows: &[Row], span: Span) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut committed = HashSet::new();
    for (resource, holds) in holds(events) {
        for hold in holds {
            committed.insert((resource.clone(), hold.token));
            let is_it = |row: &&Row| {
                row.resource == resource && row.token == hold.token && row.owner == hold.owner
            };
            let until = rows.iter().find(is_it).map(|row| row.expires);
            if hold.certain > span.ended && until.is_none_or(|until| until < hold.certain) {
                wrong.push(format!(
                    "{resource}: after the crash {} (token {}) has it until {until:?} instead of {}",
                    hold.owner, hold.token, hold.certain
                ));
            }
        }
    }
    for row in rows {
        let perhaps = |event: &Event| event.lost(&row.resource, &row.owner).is_some();
        if !committed.contains(&(row.resource.clone(), row.token)) && !events.iter().any(perhaps) {
            wrong.push(format!(
                "{}: after the crash {} has it with the token {}, which was not committed",
                row.resource, row.owner, row.token
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span {
        began: 50,
        ended: 60,
    };

    fn granted(token: i64, until: Micros) -> Event {
        Event::Granted {
            resource: "k".into(),
            owner: "anna".into(),
            token,
            earliest: 1,
            from: 1,
            seen: 1,
            until,
        }
    }

    fn row(token: i64, expires: Micros) -> Row {
        Row {
            resource: "k".into(),
            owner: "anna".into(),
            token,
            expires,
        }
    }

    fn found(events: &[Event], rows: &[Row], what: &str) {
        let wrong = compare(events, rows, SPAN);
        assert!(wrong.iter().any(|w| w.contains(what)), "{wrong:?}");
    }

    #[test]
    fn what_was_committed_and_is_there_is_right() {
        assert!(compare(&[granted(1, 99)], &[row(1, 99)], SPAN).is_empty());
        assert!(compare(&[granted(1, 55)], &[], SPAN).is_empty(), "lapsed");
    }

    #[test]
    fn what_was_committed_and_is_gone_or_shorter_is_found() {
        found(&[granted(1, 99)], &[], "instead of 99");
        found(&[granted(1, 99)], &[row(1, 98)], "instead of 99");
    }

    #[test]
    fn what_was_not_committed_and_is_there_is_found() {
        found(&[], &[row(1, 99)], "not committed");
        let lost = Event::Lost {
            resource: Some("k".into()),
            owner: Some("anna".into()),
            began: 40,
            decided: Micros::MAX,
        };
        assert!(compare(&[lost], &[row(1, 99)], SPAN).is_empty());
    }
}
