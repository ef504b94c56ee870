//! One of the many connections: it asks, in transactions and savepoints that end in every way, and notes
//! what has become of what it was told.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use postgres::types::ToSql;
use postgres::{Client as Connection, Error, error::SqlState};
use serde_json::Value;

use super::history::{Event, Micros, Span};

/// How often something happened.
pub type Counts = BTreeMap<String, u64>;

pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_micros() as Micros
}

/// A transaction that the server has refused to go on with.
pub struct Aborted;

pub struct Client {
    pub connection: Connection,
    pub owner: String,
    pub rng: Rng,
    pub events: Vec<Event>,
    pub counts: Counts,
    /// The server has died under it: what it asked last may have happened, or not.
    pub is_lost: bool,
    /// Whether some of its transactions are prepared before they end.
    pub prepares: bool,
    /// It talks to servers that may be stopped behind a router, which does not die with them.
    pub is_routed: bool,
    /// What it asked last may have happened, or not, since the server behind the router was stopped.
    was_cut_off: bool,
    /// What a transaction still open has done, with the time at which each call began.
    pending: Vec<(Micros, Event)>,
    in_transaction: bool,
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Commit,
    RollBack,
    PrepareAndCommit,
    PrepareAndRollBack,
}

impl Client {
    pub fn new(connection: Connection, owner: String, rng: Rng) -> Self {
        Client {
            connection,
            owner,
            rng,
            events: Vec::new(),
            counts: Counts::new(),
            is_lost: false,
            prepares: true,
            is_routed: false,
            was_cut_off: false,
            pending: Vec::new(),
            in_transaction: false,
        }
    }

    /// Goes on over another connection, by when what it had asked last has happened, or never will.
    pub fn go_on(&mut self, connection: Connection) {
        self.connection = connection;
        self.is_lost = false;
        let now = now();
        for event in self.events.iter_mut().rev() {
            match event {
                Event::Lost { decided, .. } if *decided == Micros::MAX => *decided = now,
                Event::Lost { .. } => break,
                _ => {}
            }
        }
    }

    pub fn count(&mut self, what: &str) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    /// Asks for one value. An error ends the transaction; only those that a user has to expect are
    /// expected.
    pub(super) fn ask(
        &mut self,
        sql: &str,
        args: &[&(dyn ToSql + Sync)],
    ) -> Result<(Value, Span), Aborted> {
        let began = now();
        match self.connection.query_one(sql, args) {
            Ok(row) => {
                let ended = now();
                Ok((row.get(0), Span { began, ended }))
            }
            Err(error) => Err(self.aborted(sql, &error)),
        }
    }

    /// Asks for something that may write, to `resource`, or to any, of `owner`, or of anybody.
    pub(super) fn ask_to_write(
        &mut self,
        sql: &str,
        args: &[&(dyn ToSql + Sync)],
        resources: &[Option<&str>],
        owner: Option<&str>,
    ) -> Result<(Value, Span), Aborted> {
        let began = now();
        let answer = self.ask(sql, args);
        let was_cut_off = std::mem::take(&mut self.was_cut_off);
        if (self.is_lost || was_cut_off) && !self.in_transaction {
            for resource in resources {
                self.events.push(Event::Lost {
                    resource: resource.map(Into::into),
                    owner: owner.map(Into::into),
                    began,
                    decided: Micros::MAX,
                });
            }
        }
        answer
    }

    pub(super) fn run(&mut self, sql: &str) -> Result<(), Aborted> {
        let done = self.connection.batch_execute(sql);
        done.map_err(|error| self.aborted(sql, &error))
    }

    fn aborted(&mut self, sql: &str, error: &Error) -> Aborted {
        let is_broken = error.source().is_some_and(|cause| cause.is::<io::Error>());
        let is_ended = [SqlState::CRASH_SHUTDOWN, SqlState::ADMIN_SHUTDOWN];
        if is_broken || error.is_closed() || error.code().is_some_and(|c| is_ended.contains(c)) {
            self.is_lost = true;
            return Aborted;
        }
        let code = error.code().unwrap_or_else(|| panic!("{sql}: {error:?}"));
        if self.is_routed && ["55000", "57P01"].contains(&code.code()) {
            self.was_cut_off = true;
            self.count(&format!("error {}", code.code()));
            return Aborted;
        }
        let expected = [
            "SL001", // not held any more
            "SL002", // guarded, and somebody else's
            SqlState::T_R_SERIALIZATION_FAILURE.code(),
        ];
        assert!(expected.contains(&code.code()), "{sql}: {error:?}");
        self.count(&format!("error {}", code.code()));
        Aborted
    }

    /// Notes something that takes effect with the transaction.
    pub(super) fn note(&mut self, span: Span, event: Event) {
        self.pending.push((span.began, event));
        if !self.in_transaction {
            self.settle(span.ended);
        }
    }

    /// The transaction has been committed, before `ended`.
    fn settle(&mut self, ended: Micros) {
        for (began, mut event) in self.pending.drain(..) {
            match &mut event {
                Event::Ended { span, .. } => *span = Span { began, ended },
                Event::Renewed { seen, .. } => *seen = ended,
                Event::Granted { from, seen, .. } => {
                    // A lock that was moved has its new token at the commit at the latest.
                    *from = (*from).min(ended + 1);
                    *seen = ended;
                }
                _ => {}
            }
            self.events.push(event);
        }
    }

    /// The transaction may have been committed when the server died, or not.
    fn lose(&mut self) {
        for (began, event) in self.pending.drain(..) {
            let (resource, owner) = match event {
                Event::Granted {
                    resource, owner, ..
                } => (Some(resource), owner),
                Event::Ended {
                    resource, owner, ..
                } => (Some(resource), owner),
                Event::Renewed { .. } => (None, self.owner.clone()),
                _ => continue,
            };
            self.events.push(Event::Lost {
                resource,
                owner: Some(owner),
                began,
                decided: Micros::MAX,
            });
        }
    }

    /// Runs `work` in a transaction, which ends like `end`.
    pub fn transaction(
        &mut self,
        level: &str,
        end: End,
        work: impl FnOnce(&mut Self) -> Result<(), Aborted>,
    ) -> Result<(), Aborted> {
        self.run(&format!("BEGIN ISOLATION LEVEL {level}"))?;
        self.in_transaction = true;
        let done = work(self);
        self.in_transaction = false;
        let done = done.and_then(|()| self.end(end));
        match done {
            Ok(()) => self.settle(now()),
            Err(Aborted) if self.is_lost => self.pending.clear(),
            Err(Aborted) => {
                self.pending.clear();
                let _ = self.run("ROLLBACK");
                self.count("rolled back");
            }
        }
        done
    }

    /// Ends the transaction; whoever dies from here on does not know how.
    fn end(&mut self, end: End) -> Result<(), Aborted> {
        let name = format!("{:x}", self.rng.u64(..));
        let ended = match end {
            End::RollBack => return Err(Aborted),
            End::Commit => self.run("COMMIT"),
            End::PrepareAndCommit | End::PrepareAndRollBack => {
                self.run(&format!("PREPARE TRANSACTION '{name}'"))
            }
        };
        let ended = ended.and_then(|()| {
            if end == End::Commit {
                return Ok(());
            }
            self.count("prepared");
            self.idle(3);
            if end == End::PrepareAndCommit {
                return self.run(&format!("COMMIT PREPARED '{name}'"));
            }
            self.run(&format!("ROLLBACK PREPARED '{name}'"))?;
            Err(Aborted)
        });
        if self.is_lost {
            self.lose();
        }
        if ended.is_ok() {
            self.count("committed");
        }
        ended
    }

    /// Runs `work` in a savepoint, which is rolled back to, or released.
    pub fn savepoint(
        &mut self,
        roll_back: bool,
        work: impl FnOnce(&mut Self) -> Result<(), Aborted>,
    ) -> Result<(), Aborted> {
        let before = self.pending.len();
        self.run("SAVEPOINT s")?;
        work(self)?;
        if roll_back {
            self.run("ROLLBACK TO s; RELEASE s")?;
            self.pending.truncate(before);
            self.count("savepoint rolled back");
        } else {
            self.run("RELEASE s")?;
            self.count("savepoint released");
        }
        Ok(())
    }

    /// Stays away for up to `ms`, so that locks lapse.
    pub fn idle(&mut self, ms: u64) {
        thread::sleep(Duration::from_millis(self.rng.u64(..=ms)));
    }
}
