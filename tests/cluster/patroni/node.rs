//! A server under Patroni: on the loopback, with a directory and ports of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use postgres::config::TargetSessionAttrs;
use postgres::{Client, Config, NoTls};
use serde_json::Value;

use super::ports::{free_port, listen};
use super::proxy::Proxy;
use crate::harness::{bin_dir, is_root};

/// Seconds after which a leader that has not been heard of is none any more; Patroni's default is 30.
pub const TTL: u32 = 10;

/// What `tests/run` says the place of.
pub fn place(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("tests/run sets {name}"))
}

fn signal(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(signal).args(pids).output();
}

/// Starts a program as the server's user, with `log` to write to. It does not outlive this process.
pub fn spawn(program: &str, arguments: &[&str], home: &Path, log: &str) -> Child {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(home.join(log))
        .expect("a log");
    command
        .args(["--pdeathsig=KILL", program])
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("PYTHONPATH", place("SOFTLOCK_PATRONI_PYTHONPATH"))
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log again"))
        .stderr(log);
    command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Asks an HTTP server on the loopback. None where there is no answer in JSON.
pub fn http(port: u16, method: &str, path: &str, body: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}

pub struct Node {
    pub name: String,
    dir: PathBuf,
    pub port: u16,
    pub rest: u16,
    pub etcd: Proxy,
    patroni: Mutex<Option<Child>>,
}

impl Node {
    /// One in a directory of that name in `home`, with its configuration, which finds etcd at a port.
    pub fn new(home: &Path, name: &str, etcd: u16, synchronous: bool) -> Node {
        let node = Node {
            name: name.into(),
            dir: home.join(name),
            port: free_port(),
            rest: free_port(),
            etcd: Proxy::start(listen(), etcd),
            patroni: Mutex::new(None),
        };
        fs::create_dir_all(&node.dir).expect("a directory");
        node.configure(synchronous);
        node
    }

    fn configure(&self, synchronous: bool) {
        let Node {
            name, port, rest, ..
        } = self;
        let (dir, bin) = (self.dir.display(), bin_dir().display());
        let etcd = self.etcd.port;
        let configuration = format!(
            "scope: softlock
name: {name}
restapi: {{listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}'}}
etcd3: {{proxy: 'http://127.0.0.1:{etcd}'}}
bootstrap:
  dcs:
    ttl: {TTL}
    loop_wait: 1
    retry_timeout: 3
    synchronous_mode: {synchronous}
    synchronous_mode_strict: {synchronous}
    postgresql:
      use_pg_rewind: true
      parameters:
        shared_preload_libraries: softlock
        softlock.sweep_interval: 1
        wal_log_hints: on
        wal_keep_size: 1GB
        wal_retrieve_retry_interval: 500ms
        shared_buffers: 16MB
        max_connections: 60
        fsync: off
        log_line_prefix: '%m [%p] %b '
  initdb: [encoding: UTF8, auth: trust, no-sync]
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {dir}/data
  bin_dir: {bin}
  pgpass: {dir}/pgpass
  authentication: {{superuser: {{username: postgres}}, replication: {{username: postgres}}}}
  parameters: {{unix_socket_directories: {dir}}}
  pg_hba: [host all all 127.0.0.1/32 trust, host replication all 127.0.0.1/32 trust]
"
        );
        fs::write(self.dir.join("patroni.yml"), configuration).expect("a configuration");
    }

    pub fn start(&self) {
        let configuration = self.dir.join("patroni.yml");
        let arguments = [configuration.to_str().expect("UTF-8")];
        let patroni = spawn(&place("SOFTLOCK_PATRONI"), &arguments, &self.dir, "log");
        *self.patroni.lock().unwrap() = Some(patroni);
    }

    fn patroni_pid(&self) -> Option<u32> {
        self.patroni.lock().unwrap().as_ref().map(Child::id)
    }

    /// The postmaster, and then its processes; those whose title has `kind` only.
    fn postgres(&self, kind: &str) -> Vec<u32> {
        let file = fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap_or_default();
        let Some(Ok(postmaster)) = file.lines().next().map(str::parse::<u32>) else {
            return Vec::new();
        };
        let found = Command::new("pgrep")
            .args(["-P", &postmaster.to_string(), "-f", kind])
            .output()
            .expect("pgrep");
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        let children = found.lines().map(|pid| pid.parse().expect("a pid"));
        [postmaster].into_iter().chain(children).collect()
    }

    /// Ends Patroni, also one that hangs, while PostgreSQL goes on.
    fn end_patroni(&self) {
        if let Some(mut patroni) = self.patroni.lock().unwrap().take() {
            let _ = patroni.kill();
            let _ = patroni.wait();
        }
    }

    /// Kills Patroni and its PostgreSQL at once, as if the machine had lost its power.
    pub fn kill(&self) {
        let patroni = self.patroni_pid();
        let all: Vec<_> = patroni.into_iter().chain(self.postgres(".")).collect();
        signal("-KILL", &all);
        self.end_patroni();
    }

    pub fn restart_patroni(&self) {
        self.end_patroni();
        self.start();
    }

    /// Patroni hangs, PostgreSQL goes on.
    pub fn freeze_patroni(&self) {
        signal("-STOP", &[self.patroni_pid().expect("Patroni runs")]);
    }

    /// The standbys hear nothing new any more.
    pub fn stop_sending(&self) {
        signal("-STOP", &self.postgres("walsender")[1..]);
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .dbname("postgres")
            .connect_timeout(Duration::from_secs(2))
            .options("-c statement_timeout=120s");
        config
    }

    /// Connects to it if it takes writes.
    pub fn connect_to_write(&self) -> Option<Client> {
        self.config()
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect(NoTls)
            .ok()
    }

    pub fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let from = log.len().saturating_sub(6000);
        log.get(from..).unwrap_or(&log).to_owned()
    }

    /// Stops it, for good.
    pub fn stop(&self) {
        self.end_patroni();
        // Also those that were stopped.
        let all = self.postgres(".");
        signal("-QUIT", &all[..all.len().min(1)]);
        signal("-CONT", &all);
        let data = self.dir.join("data/postmaster.pid");
        for _ in 0..100 {
            if !data.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        signal("-KILL", &self.postgres("."));
    }
}
