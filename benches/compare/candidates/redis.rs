//! Redis as its manual says: set if not there, with a time to live; delete if still one's own.

use super::Till;
use crate::server;

const RELEASE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

pub struct Keys {
    connection: redis::Connection,
    owner: String,
    release: String,
}

impl Keys {
    pub fn connect(appendfsync: &str, owner: &str) -> Keys {
        let mut connection = server::redis(appendfsync);
        let release = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(RELEASE)
            .query(&mut connection)
            .expect("the script is valid");
        Keys {
            connection,
            owner: owner.into(),
            release,
        }
    }
}

impl Till for Keys {
    fn acquire(&mut self, key: &str) -> bool {
        let answer: Option<String> = redis::cmd("SET")
            .arg(key)
            .arg(&self.owner)
            .arg("NX")
            .arg("PX")
            .arg(30 * 60 * 1000)
            .query(&mut self.connection)
            .expect("SET succeeds");
        answer.is_some()
    }

    fn release(&mut self, key: &str) -> bool {
        let deleted: i64 = redis::cmd("EVALSHA")
            .arg(&self.release)
            .arg(1)
            .arg(key)
            .arg(&self.owner)
            .query(&mut self.connection)
            .expect("the script succeeds");
        deleted == 1
    }
}
