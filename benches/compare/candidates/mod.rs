//! The ways to hold something for a while that are measured beside each other.

mod one_statement;
mod orm;
mod redis;

use one_statement::OneStatement;
pub use one_statement::UPSERT_MANY;

use crate::server::DATABASE;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    Softlock,
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

impl Candidate {
    /// As the reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Candidate::Softlock => "softlock",
            Candidate::Upsert => "prepared upsert",
            Candidate::Plpgsql => "PL/pgSQL upsert",
            Candidate::Orm => "ORM flow",
            Candidate::Advisory => "advisory lock",
            Candidate::RedisAlways => "Redis, fsync always",
            Candidate::RedisEverysec => "Redis, fsync every second",
            Candidate::Select => "SELECT by primary key",
        }
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
        match self {
            Candidate::Softlock => Box::new(OneStatement::softlock(database, owner)),
            Candidate::Upsert => Box::new(OneStatement::upsert(database, owner)),
            Candidate::Plpgsql => Box::new(OneStatement::plpgsql(database, owner)),
            Candidate::Advisory => Box::new(OneStatement::advisory(database, owner)),
            Candidate::Select => Box::new(OneStatement::select(database, owner)),
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
