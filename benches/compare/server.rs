//! The server that benches/run has started, on the socket that PGHOST names.

use std::path::Path;
use std::{env, fs};

use postgres::{Client, Config, NoTls};

/// The database that has softlock and its peers, but for the growth workload's own.
pub const DATABASE: &str = "postgres";

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set; start this by benches/run"))
}

pub fn connect(database: &str) -> Client {
    Config::new()
        .host_path(variable("PGHOST"))
        .user(&variable("PGUSER"))
        .dbname(database)
        .connect(NoTls)
        .expect("the server accepts connections")
}

/// Installs softlock and its peers.
pub fn set_up(database: &str) {
    connect(database)
        .batch_execute(include_str!("peers.sql"))
        .expect("softlock and its peers can be created");
}

/// Takes away every lock, held in whatever way. The rows left are those that connections warm up on.
pub fn clear() {
    connect(DATABASE)
        .batch_execute(
            "TRUNCATE softlock.locks, upsert_locks, plpgsql_locks, reservation;
             INSERT INTO reservation (kit) SELECT 'warm:' || n FROM generate_series(0, 63) AS n;
             CHECKPOINT",
        )
        .expect("the tables can be emptied");
    for setting in ["always", "everysec"] {
        redis::cmd("FLUSHALL").exec(&mut redis(setting)).unwrap();
    }
}

/// Loads `count` locks into `table`, of which the first is number `first` and every `step`th follows,
/// held by a thousand owners. The first lapses after `lapse`, the rest in the half hour after it.
pub fn load(client: &mut Client, table: &str, first: i64, step: i64, count: i64, lapse: &str) {
    client
        .batch_execute(&format!(
            "INSERT INTO {table} (resource, owner, session, token, role, acquired_at, expires_at)
             SELECT 'kit:' || {first} + n * {step}, 'till ' || n % 1000, 'cart ' || n / 5,
                 nextval('softlock.token'), current_role::regrole, t,
                 t + interval '{lapse}' + interval '30 minutes' * n / {count}
             FROM generate_series(0, {count} - 1) AS n, (SELECT clock_timestamp() AS t OFFSET 0) AS now"
        ))
        .expect("the locks are loaded");
}

/// Changes a setting of the running server.
pub fn set(setting: &str, value: &str) {
    let mut client = connect(DATABASE);
    for command in [
        format!("ALTER SYSTEM SET {setting} = '{value}'"),
        "SELECT pg_reload_conf()".into(),
    ] {
        client.batch_execute(&command).expect("a superuser may");
    }
}

/// What the server has logged so far.
pub fn log() -> String {
    let log = Path::new(&variable("PGHOST")).join("log");
    fs::read_to_string(log).expect("the server's log can be read")
}

/// Does now what autovacuum and the checkpointer would do at a time of their own choice.
pub fn settle(database: &str) {
    let mut client = connect(database);
    for command in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(command).expect("a superuser may");
    }
}

/// The Redis with this `appendfsync`.
pub fn redis(appendfsync: &str) -> redis::Connection {
    let socket = format!("redis+unix://{}/redis-{appendfsync}", variable("PGHOST"));
    redis::Client::open(socket)
        .and_then(|client| client.get_connection())
        .expect("Redis accepts connections")
}
