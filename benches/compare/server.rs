//! The servers that benches/run has started, each with its socket in a directory that the environment
//! names.

use std::path::PathBuf;
use std::{env, fs};

use postgres::{Client, Config, NoTls};

/// The database that has softlock and its peers, but for the growth workload's own.
pub const DATABASE: &str = "postgres";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// What is measured, and its peers.
    Now,
    /// The version before, if there is one; the settings are the same.
    Before,
}

impl Server {
    pub fn all() -> impl Iterator<Item = Server> {
        let is_there = |server: &Server| server.directory().is_some();
        [Server::Now, Server::Before].into_iter().filter(is_there)
    }

    /// Where its socket and its log are.
    pub fn directory(self) -> Option<PathBuf> {
        let variable = match self {
            Server::Now => "PGHOST",
            Server::Before => "BENCH_BEFORE",
        };
        let given = env::var(variable).ok();
        given.filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn existing_directory(self) -> PathBuf {
        self.directory()
            .expect("the server is there; start this by benches/run")
    }

    pub fn connect(self, database: &str) -> Client {
        Config::new()
            .host_path(self.existing_directory())
            .user(&env::var("PGUSER").expect("PGUSER is set"))
            .dbname(database)
            .connect(NoTls)
            .expect("the server accepts connections")
    }

    /// Installs softlock and its peers.
    pub fn set_up(self, database: &str) {
        self.connect(database)
            .batch_execute(include_str!("peers.sql"))
            .expect("softlock and its peers can be created");
    }

    /// Changes a setting while the server runs.
    pub fn set(self, setting: &str, value: &str) {
        let mut client = self.connect(DATABASE);
        for command in [
            format!("ALTER SYSTEM SET {setting} = '{value}'"),
            "SELECT pg_reload_conf()".into(),
        ] {
            client.batch_execute(&command).expect("a superuser may");
        }
    }

    /// What it has logged so far.
    pub fn log(self) -> String {
        let log = self.existing_directory().join("log");
        fs::read_to_string(log).expect("the server's log can be read")
    }

    /// Does now what autovacuum and the checkpointer would do at a time of their own choice.
    pub fn settle(self, database: &str) {
        let mut client = self.connect(database);
        for command in ["VACUUM ANALYZE", "CHECKPOINT"] {
            client.batch_execute(command).expect("a superuser may");
        }
    }
}

/// A connection to what is measured.
pub fn connect(database: &str) -> Client {
    Server::Now.connect(database)
}

/// Takes away every lock, held in whatever way, and what sweeps remember of them. The rows left are
/// those that connections warm up on.
pub fn clear() {
    for server in Server::all() {
        server
            .connect(DATABASE)
            .batch_execute(
                "TRUNCATE softlock.locks, upsert_locks, plpgsql_locks, reservation;
                 SELECT setval(to_regclass('softlock.swept'), 1, false);
                 INSERT INTO reservation (kit) SELECT 'warm:' || n FROM generate_series(0, 63) AS n;
                 CHECKPOINT",
            )
            .expect("the tables can be emptied");
    }
    for setting in ["always", "everysec"] {
        redis::cmd("FLUSHALL").exec(&mut redis(setting)).unwrap();
    }
}

/// Loads `count` locks into `table`, of which the first is number `first` and every `step`th follows,
/// held by a thousand owners. The first lapses after `lapse`, the rest in the half hour after it.
pub fn load(client: &mut Client, table: &str, first: i64, step: i64, count: i64, lapse: &str) {
    let columns =
        "SELECT 1 FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'version'";
    let columns = client.query(columns, &[&table]).expect("the table exists");
    // What a row of softlock has besides.
    let (names, values) = match columns.is_empty() {
        true => ("", ""),
        false => (", slot, version, units", ", 0, token, 1"),
    };
    client
        .batch_execute(&format!(
            "INSERT INTO {table} (resource, owner, session, token, role, acquired_at, expires_at{names})
             SELECT 'kit:' || {first} + n * {step}, 'till ' || n % 1000, 'cart ' || n / 5, token,
                 current_role::regrole, t, t + interval '{lapse}' + interval '30 minutes' * n / {count}{values}
             FROM generate_series(0, {count} - 1) AS n,
                 (SELECT t, (extract(epoch FROM t) * 1000000)::bigint AS token
                  FROM (SELECT clock_timestamp() AS t OFFSET 0) AS clock) AS now"
        ))
        .expect("the locks are loaded");
}

/// The Redis with this `appendfsync`.
pub fn redis(appendfsync: &str) -> redis::Connection {
    let directory = Server::Now.existing_directory();
    let socket = format!("redis+unix://{}/redis-{appendfsync}", directory.display());
    redis::Client::open(socket)
        .and_then(|client| client.get_connection())
        .expect("Redis accepts connections")
}
