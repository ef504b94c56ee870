//! What an ORM does with a row of the application's: lock it, look, write it, commit. Four round trips.

use postgres::{Client, Statement};

use super::Till;
use crate::server;

pub struct Flow {
    client: Client,
    owner: String,
    select: Statement,
    update: Statement,
}

impl Flow {
    pub fn connect(database: &str, owner: &str) -> Flow {
        let mut client = server::connect(database);
        let select = client
            .prepare(
                "SELECT id, reserved_by, reserved_until > clock_timestamp() FROM reservation
                 WHERE kit = $1 FOR UPDATE",
            )
            .expect("the statement is valid");
        let update = client
            .prepare(
                "UPDATE reservation SET reserved_by = $2::text,
                     reserved_until = CASE WHEN $2::text IS NOT NULL THEN clock_timestamp() + interval '30 minutes' END
                 WHERE id = $1",
            )
            .expect("the statement is valid");
        Flow {
            client,
            owner: owner.into(),
            select,
            update,
        }
    }

    /// Writes `new` as who has it, if `may` says so of who has it now.
    fn write(&mut self, key: &str, new: Option<&str>, may: impl Fn(Option<&str>) -> bool) -> bool {
        let client = &mut self.client;
        client.batch_execute("BEGIN").expect("a transaction begins");
        let rows = client
            .query(&self.select, &[&key])
            .expect("the row is locked");
        let done = rows.first().is_some_and(|row| {
            let live = row.get::<_, Option<bool>>(2).unwrap_or(false);
            may(row.get::<_, Option<&str>>(1).filter(|_| live))
        });
        if done {
            let id: i64 = rows[0].get(0);
            client
                .execute(&self.update, &[&id, &new])
                .expect("the row is written");
        }
        client.batch_execute("COMMIT").expect("it commits");
        done
    }
}

impl Till for Flow {
    fn acquire(&mut self, key: &str) -> bool {
        let owner = self.owner.clone();
        self.write(key, Some(&owner), |holder| {
            holder.is_none_or(|holder| holder == owner)
        })
    }

    fn release(&mut self, key: &str) -> bool {
        let owner = self.owner.clone();
        self.write(key, None, |holder| holder == Some(&owner))
    }
}
