//! Throw-away clusters for the tests: each in a directory of its own, on a socket in it, stopped and
//! removed when the test ends, however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls, SimpleQueryMessage};

pub const PATIENCE: Duration = Duration::from_secs(90);
/// What makes the server load softlock when it starts.
pub const PRELOAD: &str = "shared_preload_libraries = 'softlock'";

/// Waits until `condition` holds; panics, saying what did not happen, when it does not in time.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "{what}: did not happen within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn bin_dir() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        let pg_config = std::env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".into());
        let output = Command::new(&pg_config).arg("--bindir").output();
        let output = output.unwrap_or_else(|error| panic!("{pg_config}: {error}"));
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
    })
}

pub fn is_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| {
        Command::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|output| output.stdout.starts_with(b"0\n"))
    })
}

/// A command of the user that the server runs as: `postgres` where the tests run as root.
pub fn as_server(program: &str) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", program]);
        command
    } else {
        Command::new(program)
    };
    // Else every error of the server carries a stack trace in its DETAIL.
    command.env_remove("RUST_BACKTRACE").current_dir("/");
    command
}

/// libfaketime, which `tests/run` says the place of.
fn clock_library() -> String {
    std::env::var("SOFTLOCK_FAKETIME").expect("SOFTLOCK_FAKETIME names libfaketime")
}

fn server_program(name: &str) -> Command {
    as_server(bin_dir().join(name).to_str().expect("a path in UTF-8"))
}

#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A PostgreSQL cluster of the test's own.
pub struct Cluster {
    dir: PathBuf,
    /// Whether its server goes by a clock of its own, which `set_clock` sets.
    has_clock: bool,
}

impl Cluster {
    /// Initialises and starts a cluster that is preloaded with softlock.
    pub fn start(settings: &[&str]) -> Cluster {
        let mut all = vec![PRELOAD];
        all.extend(settings);
        Self::start_bare(&all)
    }

    /// The same without preloading.
    pub fn start_bare(settings: &[&str]) -> Cluster {
        let cluster = Cluster::init(settings);
        cluster.up();
        cluster
    }

    /// Starts a cluster whose server has a clock of its own, which reads `time`.
    pub fn start_with_clock(time: &str, settings: &[&str]) -> Cluster {
        let mut cluster = Cluster::init(settings);
        cluster.has_clock = true;
        cluster.set_clock(time);
        cluster.up();
        cluster
    }

    /// Sets the server's own clock, also while it runs: to an offset from the time, as `-1h` or `+0`, or to
    /// a time at which it stands still.
    pub fn set_clock(&self, time: &str) {
        let (new, clock) = (self.dir.join("clock.new"), self.dir.join("clock"));
        fs::write(&new, time).expect("the clock can be written");
        fs::rename(&new, &clock).expect("the clock can be set");
    }

    fn init(settings: &[&str]) -> Cluster {
        let cluster = Cluster::empty();
        match std::env::var("SOFTLOCK_TEMPLATE") {
            // A tenth of the time.
            Ok(template) => run(as_server("cp").arg("-a").arg(template).arg(cluster.data())),
            Err(_) => run(server_program("initdb")
                .args(["-U", "postgres", "-A", "trust", "--no-sync", "-D"])
                .arg(cluster.data())),
        };
        cluster.set(&[
            "listen_addresses = ''",
            &format!("unix_socket_directories = '{}'", cluster.dir.display()),
            "fsync = off",
            "shared_buffers = 16MB",
            "max_connections = 60",
            "max_prepared_transactions = 4",
            "log_line_prefix = '%m [%p] %b '",
            "wal_level = replica",
        ]);
        cluster.set(settings);
        cluster
    }

    fn empty() -> Cluster {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/tmp/softlock-{}-{number}", std::process::id()));
        fs::create_dir(&dir).expect("the directory is new");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&dir));
        }
        Cluster {
            dir,
            has_clock: false,
        }
    }

    /// A standby of this cluster, started.
    pub fn standby(&self) -> Cluster {
        let standby = self.backup(&["-R"]);
        standby.up();
        standby
    }

    /// A base backup of this cluster, which can be started as a cluster of its own.
    pub fn backup(&self, options: &[&str]) -> Cluster {
        let copy = Cluster::empty();
        run(server_program("pg_basebackup")
            .args(["-U", "postgres", "-c", "fast", "-h"])
            .arg(&self.dir)
            .arg("-D")
            .arg(copy.data())
            .args(options));
        copy.set(&[&format!(
            "unix_socket_directories = '{}'",
            copy.dir.display()
        )]);
        copy
    }

    /// Makes a standby a cluster of its own.
    pub fn promote(&self) {
        run(&mut self.pg_ctl(&["promote", "-t", "90"]));
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Appends settings to postgresql.conf.
    pub fn set(&self, settings: &[&str]) {
        let file = self.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&file).expect("postgresql.conf");
        for setting in settings {
            text.push_str(setting);
            text.push('\n');
        }
        fs::write(&file, text).expect("postgresql.conf can be written");
    }

    /// Changes settings and has the server read them.
    pub fn reload(&self, settings: &[&str]) {
        self.set(settings);
        run(&mut self.pg_ctl(&["reload"]));
    }

    pub fn pg_ctl(&self, arguments: &[&str]) -> Command {
        let program = bin_dir().join("pg_ctl");
        let mut command = match self.has_clock {
            false => as_server(program.to_str().expect("a path in UTF-8")),
            true => {
                let mut command = as_server("env");
                command
                    .arg(format!("LD_PRELOAD={}", clock_library()))
                    .arg(format!(
                        "FAKETIME_TIMESTAMP_FILE={}",
                        self.dir.join("clock").display()
                    ))
                    // Waits are as long as ever, and files as old.
                    .args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"])
                    .args(["NO_FAKE_STAT=1", "FAKETIME_DISABLE_SHM=1"])
                    .arg(program);
                command
            }
        };
        command
            .arg("-D")
            .arg(self.data())
            .arg("-l")
            .arg(self.dir.join("log"))
            .arg("-w")
            .args(arguments);
        command
    }

    pub fn up(&self) {
        run(&mut self.pg_ctl(&["start", "-t", "90"]));
    }

    pub fn stop(&self, mode: &str) {
        run(&mut self.pg_ctl(&["stop", "-m", mode, "-t", "90"]));
    }

    /// A program such as pg_dump, set to connect to this cluster.
    pub fn program(&self, name: &str) -> Command {
        let mut command = server_program(name);
        command.args(["-U", "postgres", "-h"]).arg(&self.dir);
        command
    }

    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.dir)
            .user("postgres")
            .dbname(database)
            // What hangs fails instead.
            .options("-c statement_timeout=180s");
        config
    }

    #[track_caller]
    pub fn connect(&self, database: &str) -> Client {
        self.config(database)
            .connect(NoTls)
            .expect("the server accepts connections")
    }

    /// Connects as soon as the server lets one in.
    #[track_caller]
    pub fn reconnect(&self, database: &str) -> Client {
        let mut client = None;
        wait_until("a connection", || {
            client = self.config(database).connect(NoTls).ok();
            client.is_some()
        });
        client.expect("connected")
    }

    /// Creates a database with the extension, and connects to it.
    pub fn with_extension(&self, database: &str) -> Client {
        if database != "postgres" {
            self.connect("postgres")
                .batch_execute(&format!("CREATE DATABASE {database}"))
                .unwrap();
        }
        let mut client = self.connect(database);
        client.batch_execute("CREATE EXTENSION softlock").unwrap();
        client
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log_bytes()).into_owned()
    }

    /// The log as it was written, each line in the encoding of its database.
    pub fn log_bytes(&self) -> Vec<u8> {
        fs::read(self.dir.join("log")).unwrap_or_default()
    }

    pub fn log_count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            eprintln!(
                "the end of the server's log:\n{}",
                log.get(from..).unwrap_or(&log)
            );
        }
        let _ = self.pg_ctl(&["stop", "-m", "immediate"]).output();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What the tests ask of a connection.
pub trait Ask {
    /// The first column of the first row, as text.
    fn ask(&mut self, query: &str) -> String;

    /// How many rows are live.
    fn rows(&mut self) -> i64 {
        self.ask("SELECT count(*) FROM softlock.locks")
            .parse()
            .expect("a count")
    }

    /// Takes `resource` and waits until the lock has lapsed, unswept.
    fn lapse(&mut self, resource: &str) {
        self.ask(&format!(
            "SELECT softlock_acquire('{resource}', 'anna', '1 ms')"
        ));
        wait_until("the lock's lapse", || {
            self.ask(&format!(
                "SELECT is_locked FROM softlock_status(ARRAY['{resource}'])"
            )) == "f"
        });
    }
}

impl Ask for Client {
    #[track_caller]
    fn ask(&mut self, query: &str) -> String {
        let messages = self
            .simple_query(query)
            .unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let first = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("").to_owned()),
            _ => None,
        });
        first.unwrap_or_else(|| panic!("{query}: no row"))
    }
}
