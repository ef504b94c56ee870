//! Three servers under Patroni, and the etcd through which they agree on a leader: on the loopback, each
//! with a directory and ports of its own, stopped and removed when the test ends, however it ends.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postgres::config::TargetSessionAttrs;
use postgres::{Client, Config, NoTls};
use serde_json::Value;

use super::proxy::Proxy;
use crate::harness::{Ask, bin_dir, is_root, run, wait_until};

/// Seconds after which a leader that has not been heard of is none any more; Patroni's default is 30.
pub const TTL: u32 = 10;

/// What `tests/run` says the place of.
fn place(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("tests/run sets {name}"))
}

/// Listens at a port where nobody did, below those that connections go out from.
fn listen() -> TcpListener {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    loop {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (number % 20_000) as u16;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener;
        }
    }
}

/// A port for a program that is started later.
fn free_port() -> u16 {
    listen().local_addr().expect("its address").port()
}

fn signal(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(signal).args(pids).output();
}

/// Starts a program as the server's user, with `log` to write to. It does not outlive this process.
fn spawn(program: &str, arguments: &[&str], home: &Path, log: &str) -> Child {
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
fn http(port: u16, method: &str, path: &str, body: &str) -> Option<Value> {
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
    rest: u16,
    pub etcd: Proxy,
    patroni: Mutex<Option<Child>>,
}

impl Node {
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

    /// Kills Patroni and its PostgreSQL at once, as if the machine had lost its power.
    pub fn kill(&self) {
        let patroni = self.patroni_pid();
        let all: Vec<_> = patroni.into_iter().chain(self.postgres(".")).collect();
        signal("-KILL", &all);
        if let Some(mut patroni) = self.patroni.lock().unwrap().take() {
            let _ = patroni.wait();
        }
    }

    /// Restarts Patroni, also one that hangs, while PostgreSQL goes on.
    pub fn restart_patroni(&self) {
        signal("-KILL", &Vec::from_iter(self.patroni_pid()));
        if let Some(mut patroni) = self.patroni.lock().unwrap().take() {
            let _ = patroni.wait();
        }
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
}

pub struct Fleet {
    dir: PathBuf,
    etcd: Child,
    pub nodes: Vec<Node>,
    is_synchronous: bool,
}

impl Fleet {
    /// Starts etcd and the nodes, the first of which makes the cluster, and creates the extension.
    pub fn start(is_synchronous: bool) -> Fleet {
        let root = PathBuf::from(place("SOFTLOCK_PATRONI_HOME"));
        let dir = root.join(["asynchronous", "synchronous"][usize::from(is_synchronous)]);
        let port = free_port();
        let nodes = (1..=3).map(|n| Node {
            name: format!("n{n}"),
            dir: dir.join(format!("n{n}")),
            port: free_port(),
            rest: free_port(),
            etcd: Proxy::start(listen(), port),
            patroni: Mutex::new(None),
        });
        let nodes: Vec<_> = nodes.collect();
        for node in &nodes {
            fs::create_dir_all(&node.dir).expect("a directory");
            node.configure(is_synchronous);
        }
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres"]).arg(&dir));
        }
        let client = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{}", free_port());
        let cluster = format!("e={peer}");
        let arguments = [
            ["--name", "e"],
            ["--data-dir", "etcd"],
            ["--listen-client-urls", &client],
            ["--advertise-client-urls", &client],
            ["--listen-peer-urls", &peer],
            ["--initial-advertise-peer-urls", &peer],
            ["--initial-cluster", &cluster],
        ];
        let etcd = spawn(
            &place("SOFTLOCK_ETCD"),
            arguments.as_flattened(),
            &dir,
            "etcd.log",
        );
        let fleet = Fleet {
            dir,
            etcd,
            nodes,
            is_synchronous,
        };
        wait_until("etcd", || http(port, "GET", "/health", "").is_some());
        // Strict synchronous mode takes writes as soon as there is a second one.
        for node in &fleet.nodes {
            node.start();
            wait_until("its REST interface", || {
                http(node.rest, "GET", "/patroni", "").is_some()
            });
        }
        fleet.wait_until_whole();
        let mut client = fleet.connect();
        client.batch_execute("CREATE EXTENSION softlock").unwrap();
        fleet
    }

    /// The port of the server that takes writes, as libpq finds it.
    pub fn find_leader(&self) -> Option<u16> {
        let ports: Vec<_> = self.nodes.iter().map(|n| n.port.to_string()).collect();
        let target = format!(
            "host={} port={} user=postgres dbname=postgres connect_timeout=2 target_session_attrs=read-write",
            ["127.0.0.1"; 3].join(","),
            ports.join(",")
        );
        let found = Command::new(bin_dir().join("psql"))
            .args(["-XAtqc", "SHOW port", "-d", &target])
            .output()
            .expect("psql");
        String::from_utf8(found.stdout).ok()?.trim().parse().ok()
    }

    pub fn node_at(&self, port: u16) -> usize {
        let at = self.nodes.iter().position(|node| node.port == port);
        at.expect("one of them")
    }

    /// Which node takes writes, as soon as one does.
    #[track_caller]
    pub fn leader(&self) -> usize {
        let mut port = None;
        wait_until("a leader", || {
            port = self.find_leader();
            port.is_some()
        });
        self.node_at(port.expect("a port"))
    }

    /// Waits until another one than `old` takes writes, and says which.
    #[track_caller]
    pub fn leader_after(&self, old: usize) -> usize {
        let mut new = None;
        wait_until("another leader", || {
            let others = (0..self.nodes.len()).filter(|&at| at != old);
            new = others
                .into_iter()
                .find(|&at| self.nodes[at].connect_to_write().is_some());
            new.is_some()
        });
        new.expect("a leader")
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        let leader = self.leader();
        self.nodes[leader].connect_to_write().expect("it does")
    }

    /// Waits until there is one leader, whom all the others follow. After a while it does what whoever operates
    /// them would: a server that has been on a timeline which the leader does not have is made anew; the
    /// leader's Patroni, which was cut off and can't write down who is synchronous, is restarted.
    #[track_caller]
    pub fn wait_until_whole(&self) {
        let follow = "SELECT coalesce(string_agg(application_name, ' '), '') FROM pg_stat_replication WHERE state = 'streaming'";
        let mut patience = Instant::now() + Duration::from_secs(30);
        wait_until("all three to be together", || {
            let roles = |cluster: &Value| {
                let members = cluster["members"].as_array().cloned().unwrap_or_default();
                let of = |role: &str| members.iter().filter(|m| m["role"] == role).count();
                (members.len(), of("leader"), of("sync_standby"))
            };
            let expected = (3, 1, usize::from(self.is_synchronous));
            let whole = |node: &Node| {
                http(node.rest, "GET", "/cluster", "").is_some_and(|c| roles(&c) == expected)
            };
            let leaders = self.nodes.iter().filter_map(|node| {
                let mut client = node.connect_to_write()?;
                Some((node, client.ask(follow)))
            });
            // Not one that goes on beside the new one, whom nobody follows.
            let leader = leaders.max_by_key(|(_, followers)| followers.len());
            let Some((leader, followers)) = leader else {
                return false;
            };
            let is_lost = |node: &&Node| {
                node.name != leader.name && !followers.split(' ').any(|name| name == node.name)
            };
            let lost: Vec<_> = self.nodes.iter().filter(is_lost).collect();
            let is_whole = lost.is_empty() && self.nodes.iter().all(whole);
            if !is_whole && Instant::now() > patience {
                patience = Instant::now() + Duration::from_secs(30);
                match lost.as_slice() {
                    [] => leader.restart_patroni(),
                    lost => lost.iter().for_each(|node| {
                        http(node.rest, "POST", "/reinitialize", "{\"force\": true}");
                    }),
                }
            }
            is_whole
        });
    }

    pub fn switch_over(&self) {
        let leader = &self.nodes[self.leader()];
        let body = format!("{{\"leader\": \"{}\"}}", leader.name);
        // Its answer is a sentence.
        let _ = http(leader.rest, "POST", "/switchover", &body);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for node in &self.nodes {
            if std::thread::panicking() {
                let log = fs::read_to_string(node.dir.join("log")).unwrap_or_default();
                let from = log.len().saturating_sub(6000);
                eprintln!(
                    "the end of {}'s log:\n{}",
                    node.name,
                    log.get(from..).unwrap_or(&log)
                );
            }
            if let Some(mut patroni) = node.patroni.lock().unwrap().take() {
                let _ = patroni.kill();
                let _ = patroni.wait();
            }
            // Also those that were stopped.
            let all = node.postgres(".");
            signal("-QUIT", &all[..all.len().min(1)]);
            signal("-CONT", &all);
            let data = node.dir.join("data/postmaster.pid");
            for _ in 0..100 {
                if !data.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            signal("-KILL", &node.postgres("."));
        }
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
