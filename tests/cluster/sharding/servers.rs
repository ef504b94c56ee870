//! A router and servers behind it, set up as `docs/scaling.md` says, with its files.

use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use postgres::Client;

use crate::harness::{Ask, Cluster, bin_dir};

const PLACEMENT: &str = include_str!("../../../docs/scaling/placement.sql");
const ROUTER: &str = include_str!("../../../docs/scaling/router.sql");

pub struct Sharded {
    pub router: Cluster,
    /// All servers; the router has the first ones.
    pub servers: Vec<Cluster>,
}

impl Sharded {
    /// A router to the first `used` of so many servers.
    pub fn start(used: usize, servers: usize, settings: &[&str]) -> Sharded {
        thread::scope(|scope| {
            let router = scope.spawn(|| Cluster::start(&["softlock.serve = off"]));
            let start = || {
                let server = Cluster::start(settings);
                let mut client = server.with_extension("postgres");
                client.batch_execute(PLACEMENT).unwrap();
                server
            };
            let servers: Vec<_> = (0..servers).map(|_| scope.spawn(start)).collect();
            let servers = servers.into_iter().map(|server| server.join().unwrap());
            let sharded = Sharded {
                servers: servers.collect(),
                router: router.join().unwrap(),
            };
            sharded.set_up_router(used);
            sharded
        })
    }

    fn set_up_router(&self, used: usize) {
        let options = (0..used).map(|at| format!("p{at} '{}'", self.place(at)));
        let options: Vec<_> = options.collect();
        let mut client = self.router.connect("postgres");
        client
            .batch_execute(&format!(
                "CREATE EXTENSION plproxy;
                 CREATE SERVER softlock FOREIGN DATA WRAPPER plproxy OPTIONS ({});
                 {PLACEMENT} {ROUTER}",
                options.join(", ")
            ))
            .unwrap();
    }

    /// The connection string of a server.
    fn place(&self, at: usize) -> String {
        format!("host={} dbname=postgres", self.servers[at].dir().display())
    }

    /// A connection to the router.
    pub fn connect(&self) -> Client {
        self.router.connect("postgres")
    }

    /// Runs some SQL on every server.
    pub fn on_every_server(&self, sql: &str) {
        for server in &self.servers {
            server.connect("postgres").batch_execute(sql).unwrap();
        }
    }

    /// The number of the server that keeps a resource, of so many.
    pub fn server_of(&self, resource: &str, of: usize) -> usize {
        let number = self.connect().ask(&format!(
            "SELECT softlock_router.hash('{resource}') & {}",
            of - 1
        ));
        number.parse().unwrap()
    }

    /// Brings the servers that the router does not have yet to it.
    pub fn split(&self, tables: &str) -> Output {
        let path = std::env::var("PATH").expect("PATH");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scaling/split");
        let new = (self.servers.len() / 2..self.servers.len()).map(|at| self.place(at));
        let router = format!("host={} dbname=postgres", self.router.dir().display());
        Command::new(script)
            .arg(router)
            .args(new)
            .env("PATH", format!("{}:{path}", bin_dir().display()))
            .env("PGUSER", "postgres")
            .env("SPLIT_TABLES", tables)
            .output()
            .expect("the script starts")
    }
}
