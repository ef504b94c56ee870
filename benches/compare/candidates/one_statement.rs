//! Candidates that need one prepared statement to take, and one to free.

use postgres::types::ToSql;
use postgres::{Client, Row, Statement};
use serde_json::Value;

use super::{Till, acquired};

const UPSERT: &str = include_str!("../by_hand/upsert.sql");

/// The upsert of many keys, `$1`, in one statement.
pub const UPSERT_MANY: &str = include_str!("../by_hand/upsert_many.sql");

/// What a statement's rows say: whether it did what it was to do.
type Succeeded = fn(&[Row]) -> bool;

pub struct OneStatement {
    client: Client,
    owner: String,
    acquire: Statement,
    granted: Succeeded,
    /// `None` where nothing is left to free.
    release: Option<(Statement, Succeeded)>,
}

impl OneStatement {
    pub fn softlock(client: Client, owner: &str) -> OneStatement {
        OneStatement::prepare(client, owner, "SELECT softlock_acquire($1, $2)", |rows| {
            acquired(&rows[0])
        })
        .and_release("SELECT softlock_release($1, $2)", |rows| {
            rows[0].get::<_, Value>(0)["released"] == true
        })
    }

    pub fn unsynced_softlock(mut client: Client, owner: &str) -> OneStatement {
        client
            .batch_execute("SET synchronous_commit = off")
            .expect("anyone may set that");
        OneStatement::softlock(client, owner)
    }

    pub fn upsert(client: Client, owner: &str) -> OneStatement {
        OneStatement::prepare(client, owner, UPSERT, |rows| !rows.is_empty())
            .and_release(
                "DELETE FROM upsert_locks
                 WHERE resource = $1 AND owner = $2 AND expires_at > clock_timestamp() RETURNING token",
                |rows| !rows.is_empty(),
            )
    }

    pub fn plpgsql(client: Client, owner: &str) -> OneStatement {
        OneStatement::prepare(client, owner, "SELECT plpgsql_acquire($1, $2)", |rows| {
            rows[0].get::<_, Option<i64>>(0).is_some()
        })
        .and_release("SELECT plpgsql_release($1, $2)", |rows| rows[0].get(0))
    }

    /// Gone when its transaction ends, and with nobody's name on it.
    pub fn advisory(client: Client, owner: &str) -> OneStatement {
        let acquire = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";
        OneStatement::prepare(client, owner, acquire, |rows| rows[0].get(0))
    }

    /// Who has it: the least that a refusal has to find out. It reads what the upsert holds.
    pub fn select(client: Client, owner: &str) -> OneStatement {
        let select = "SELECT owner, metadata, expires_at FROM upsert_locks
                      WHERE resource = $1 AND expires_at > clock_timestamp()";
        OneStatement::prepare(client, owner, select, |rows| rows.is_empty())
    }

    fn prepare(mut client: Client, owner: &str, acquire: &str, granted: Succeeded) -> OneStatement {
        let acquire = client.prepare(acquire).expect("the statement is valid");
        OneStatement {
            client,
            owner: owner.into(),
            acquire,
            granted,
            release: None,
        }
    }

    fn and_release(mut self, release: &str, released: Succeeded) -> OneStatement {
        let release = self
            .client
            .prepare(release)
            .expect("the statement is valid");
        self.release = Some((release, released));
        self
    }
}

/// Executes a statement of the key alone, or of the key and the owner.
fn execute(client: &mut Client, statement: &Statement, key: &str, owner: &str) -> Vec<Row> {
    let arguments: [&(dyn ToSql + Sync); 2] = [&key, &owner];
    client
        .query(statement, &arguments[..statement.params().len()])
        .expect("the statement succeeds")
}

impl Till for OneStatement {
    fn acquire(&mut self, key: &str) -> bool {
        (self.granted)(&execute(&mut self.client, &self.acquire, key, &self.owner))
    }

    fn release(&mut self, key: &str) -> bool {
        let Some((release, released)) = &self.release else {
            return true;
        };
        released(&execute(&mut self.client, release, key, &self.owner))
    }
}
