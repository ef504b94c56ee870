//! A server that is restarted with another build of the library while tills take and release.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use fastrand::Rng;
use postgres::{Client, Error, NoTls, SimpleQueryMessage};

use super::Builds;
use crate::harness::{Ask, Cluster, wait_until};

const TILLS: usize = 3;
/// How many resources the tills contend for.
const KITS: usize = 12;

/// What the tills were told, all of them.
#[derive(Default)]
struct Told {
    /// The last grant's token of each resource.
    tokens: Mutex<BTreeMap<String, i64>>,
    answers: AtomicU64,
    is_over: AtomicBool,
}

/// What one till knows of its locks.
#[derive(Default)]
struct Till {
    name: String,
    /// Told to have them, and these tokens of theirs.
    held: BTreeMap<String, i64>,
    /// Asked for, or given back, when the connection broke: they may be held or not.
    in_doubt: BTreeSet<String>,
}

impl Till {
    fn work(mut self, cluster: &Cluster, told: &Told) -> Till {
        let mut rng = Rng::new();
        while !told.is_over.load(Relaxed) {
            let Ok(mut client) = cluster.config("postgres").connect(NoTls) else {
                continue;
            };
            while !told.is_over.load(Relaxed) {
                let resource = format!("kit:{}", rng.usize(..KITS));
                if let Err(error) = self.turn(&mut client, &resource, told) {
                    let code = error.code().map(|code| code.code());
                    // Shutting down, crashed, starting, not yet there; else the connection is closed.
                    assert!(
                        code.is_none_or(|code| code.starts_with("57P0")),
                        "{resource}: {error:?}"
                    );
                    self.held.remove(&resource);
                    self.in_doubt.insert(resource);
                    break;
                }
            }
        }
        self
    }

    /// Releases the resource if it is the till's, else asks for it.
    fn turn(&mut self, client: &mut Client, resource: &str, told: &Told) -> Result<(), Error> {
        let (name, known) = (&self.name, self.held.get(resource));
        let call = match known {
            Some(token) => format!("softlock_release('{resource}', '{name}', {token})"),
            None => format!("softlock_acquire('{resource}', '{name}', '1 h')"),
        };
        let query = format!("SELECT a->>'outcome', a->>'token' FROM {call} AS a");
        let messages = client.simple_query(&query)?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((row.get(0), row.get(1))),
            _ => None,
        });
        let (outcome, token) = row.expect("an answer");
        let token = token.map(|token| token.parse::<i64>().expect("a token"));
        match outcome.expect("an outcome") {
            "granted" => {
                let token = token.expect("a token");
                let mut tokens = told.tokens.lock().unwrap();
                let before = tokens.insert(resource.to_owned(), token).unwrap_or(0);
                assert!(token > before, "{resource}: {token} after {before}");
                self.in_doubt.remove(resource);
                self.held.insert(resource.to_owned(), token);
            }
            "renewed" => {
                assert!(self.in_doubt.remove(resource), "{resource}: held before");
                self.held
                    .insert(resource.to_owned(), token.expect("a token"));
            }
            "released" => drop(self.held.remove(resource)),
            outcome => {
                assert!(
                    ["held", "contended"].contains(&outcome) && known.is_none(),
                    "{resource}: {outcome}, while {known:?} is {name}'s"
                );
            }
        }
        told.answers.fetch_add(1, Relaxed);
        Ok(())
    }
}

#[test]
fn a_restart_with_a_new_library_under_live_traffic_loses_no_lock() {
    let cluster = Cluster::start(&[]);
    drop(cluster.with_extension("postgres"));
    let builds = Builds::of(&cluster);
    let told = Told::default();
    let tills = thread::scope(|scope| {
        let tills = [(); TILLS].iter().enumerate().map(|(number, ())| {
            let till = Till {
                name: format!("till {number}"),
                ..Till::default()
            };
            let (cluster, told) = (&cluster, &told);
            scope.spawn(move || till.work(cluster, told))
        });
        let tills: Vec<_> = tills.collect();
        let traffic = || {
            let before = told.answers.load(Relaxed);
            wait_until("traffic", || {
                told.answers.load(Relaxed) > before + 300 || tills.iter().any(|t| t.is_finished())
            });
        };
        for (number, how) in ["fast", "immediate", "fast", "immediate"]
            .iter()
            .enumerate()
        {
            traffic();
            builds.place(number);
            traffic();
            cluster.stop(how);
            cluster.up();
        }
        traffic();
        told.is_over.store(true, Relaxed);
        let tills = tills.into_iter().map(|till| till.join().expect("a till"));
        tills.collect::<Vec<_>>()
    });

    let mut client = cluster.connect("postgres");
    let mut known = 0;
    for till in &tills {
        for (resource, token) in &till.held {
            let query =
                format!("SELECT owner, token FROM softlock.locks WHERE resource = '{resource}'");
            let row = client.query_one(&query, &[]).expect("a lock");
            let found: (String, i64) = (row.get(0), row.get(1));
            assert_eq!(found, (till.name.clone(), *token), "{resource}");
            known += 1;
        }
    }
    let doubtful: BTreeSet<_> = tills.iter().flat_map(|till| &till.in_doubt).collect();
    let found = client.rows() as usize;
    assert!((known..=known + doubtful.len()).contains(&found), "{found}");
    for death in ["terminated by signal", "PANIC"] {
        assert_eq!(cluster.log_count(death), 0, "{}", cluster.log());
    }
    assert_eq!(client.ask("SELECT count(*) > 0 FROM softlock_active"), "t");
}
