//! Three servers under Patroni, and the etcd through which they agree on a leader: stopped and removed when
//! the test ends, however it ends.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use postgres::Client;
use serde_json::Value;

use super::node::{Node, http, place, spawn};
use super::ports::free_port;
use crate::harness::{Ask, bin_dir, is_root, run, wait_until};

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
        let nodes = (1..=3).map(|n| Node::new(&dir, &format!("n{n}"), port, is_synchronous));
        let nodes: Vec<_> = nodes.collect();
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
                eprintln!("the end of {}'s log:\n{}", node.name, node.end_of_log());
            }
            node.stop();
        }
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
