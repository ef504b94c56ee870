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

fn bin_dir() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        let pg_config = std::env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".into());
        let output = Command::new(&pg_config).arg("--bindir").output();
        let output = output.unwrap_or_else(|error| panic!("{pg_config}: {error}"));
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
    })
}

fn is_root() -> bool {
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
}

impl Cluster {
    /// Initialises and starts a cluster that is preloaded with softlock.
    pub fn start(settings: &[&str]) -> Cluster {
        let mut all = vec!["shared_preload_libraries = 'softlock'"];
        all.extend(settings);
        Self::start_bare(&all)
    }

    /// The same without preloading.
    pub fn start_bare(settings: &[&str]) -> Cluster {
        let cluster = Cluster::empty();
        run(server_program("initdb")
            .args(["-U", "postgres", "-A", "trust", "--no-sync", "-D"])
            .arg(cluster.data()));
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
        cluster.up();
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
        Cluster { dir }
    }

    /// A standby of this cluster, started.
    pub fn standby(&self) -> Cluster {
        let standby = Cluster::empty();
        run(server_program("pg_basebackup")
            .args(["-U", "postgres", "-R", "-c", "fast", "-h"])
            .arg(&self.dir)
            .arg("-D")
            .arg(standby.data()));
        standby.set(&[&format!(
            "unix_socket_directories = '{}'",
            standby.dir.display()
        )]);
        standby.up();
        standby
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
        let mut command = server_program("pg_ctl");
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
            .dbname(database);
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
        String::from_utf8_lossy(&fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
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
