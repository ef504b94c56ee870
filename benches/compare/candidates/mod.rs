//! The ways to hold something for a while that are measured beside each other.

mod one_statement;
mod orm;
mod redis;

use postgres::Row;
use postgres::types::Json;
use serde::Deserialize;

use one_statement::OneStatement;
pub use one_statement::UPSERT_MANY;

use crate::server::{DATABASE, Server};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    Softlock,
    /// The version before.
    Before,
    /// With commits that don't wait for the disk.
    Unsynced,
    Upsert,
    Plpgsql,
    Orm,
    Advisory,
    RedisAlways,
    RedisEverysec,
    Select,
}

/// One connection that takes and frees, each time in a transaction of its own.
pub trait Till: Send {
    /// Whether the key was granted.
    fn acquire(&mut self, key: &str) -> bool;
    /// Whether the key was held by this till, and has been freed.
    fn release(&mut self, key: &str) -> bool;
}

/// What is read of softlock's answer. The rest is not made anything of, as it is not of the upsert's rows: what
/// is measured is not the client's JSON.
#[derive(Deserialize)]
struct Answer {
    acquired: bool,
}

/// Whether softlock has given what was asked for.
pub fn acquired(answer: &Row) -> bool {
    answer.get::<_, Json<Answer>>(0).0.acquired
}

impl Candidate {
    /// As the reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Candidate::Softlock => "softlock",
            Candidate::Before => "softlock before",
            Candidate::Unsynced => "softlock, synchronous_commit = off",
            Candidate::Upsert => "prepared upsert",
            Candidate::Plpgsql => "PL/pgSQL upsert",
            Candidate::Orm => "ORM flow",
            Candidate::Advisory => "advisory lock",
            Candidate::RedisAlways => "Redis, fsync always",
            Candidate::RedisEverysec => "Redis, fsync every second",
            Candidate::Select => "SELECT by primary key",
        }
    }

    /// Where it is measured.
    pub fn server(self) -> Server {
        match self {
            Candidate::Before => Server::Before,
            _ => Server::Now,
        }
    }

    pub fn is_there(self) -> bool {
        self.server().directory().is_some()
    }

    pub fn is_redis(self) -> bool {
        matches!(self, Candidate::RedisAlways | Candidate::RedisEverysec)
    }

    /// Whether a hold outlives the statement that took it.
    pub fn holds(self) -> bool {
        !matches!(self, Candidate::Advisory | Candidate::Select)
    }

    pub fn connect(self, owner: &str) -> Box<dyn Till> {
        self.connect_to(DATABASE, owner)
    }

    pub fn connect_to(self, database: &str, owner: &str) -> Box<dyn Till> {
        let client = || self.server().connect(database);
        match self {
            Candidate::Softlock | Candidate::Before => {
                Box::new(OneStatement::softlock(client(), owner))
            }
            Candidate::Unsynced => Box::new(OneStatement::unsynced_softlock(client(), owner)),
            Candidate::Upsert => Box::new(OneStatement::upsert(client(), owner)),
            Candidate::Plpgsql => Box::new(OneStatement::plpgsql(client(), owner)),
            Candidate::Advisory => Box::new(OneStatement::advisory(client(), owner)),
            Candidate::Select => Box::new(OneStatement::select(client(), owner)),
            Candidate::Orm => Box::new(orm::Flow::connect(database, owner)),
            Candidate::RedisAlways => Box::new(redis::Keys::connect("always", owner)),
            Candidate::RedisEverysec => Box::new(redis::Keys::connect("everysec", owner)),
        }
    }

    /// Connects many tills with owners of their own, which have used every statement before: so
    /// plans are made and caches filled when the clock starts.
    pub fn connect_many(self, database: &str, count: usize) -> Vec<Box<dyn Till>> {
        // From its sixth execution on, a prepared statement may keep its plan.
        const WARM_UP: usize = 6;
        (0..count)
            .map(|number| {
                let mut till = self.connect_to(database, &format!("till {number}"));
                for _ in 0..WARM_UP {
                    let key = format!("warm:{number}");
                    till.acquire(&key);
                    till.release(&key);
                }
                till
            })
            .collect()
    }
}
