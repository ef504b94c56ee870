//! The checker's connections while the leader goes: each that loses its own looks for the new leader, as
//! libpq finds it, and goes on there.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::fleet::Fleet;
use crate::checker::client::{Client, Counts, now};
use crate::checker::crash;
use crate::checker::history::{Event, Span};
use crate::checker::{Load, add, load};

/// What becomes of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    SwitchedOver,
    /// Patroni and PostgreSQL, with kill -9.
    Killed,
    /// From etcd.
    CutOff,
    /// Patroni hangs and PostgreSQL does not: the old leader goes on taking writes while there is a new one.
    Frozen,
}

/// What came of it.
pub struct Told {
    /// What was told by the old leader, or before.
    pub at_old: Vec<Event>,
    pub at_new: Vec<Event>,
    pub counts: Counts,
    /// What the new leader has not, of what had been committed, and the other way round.
    pub lost: Vec<String>,
    /// How long it took until another server took writes.
    pub promoted_after: Duration,
    /// The longest time in which nobody at all was granted anything.
    pub standstill: Duration,
}

/// Tills, and others, that want the same things.
const LOADS: [Load; 11] = [
    load::busy_keys,
    load::busy_keys,
    load::busy_keys,
    load::busy_keys,
    load::till,
    load::till,
    load::till,
    load::till,
    load::long_holds,
    load::long_holds,
    load::administrator,
];

struct Traffic<'a> {
    fleet: &'a Fleet,
    /// The leader of before.
    old: usize,
    is_over: AtomicBool,
    /// The port at which the leader was last found.
    leader: Mutex<u16>,
}

impl Traffic<'_> {
    /// Starts a connection for each load, in a thread of its own, at the leader that was found last. Answers
    /// them at their end, with the number of events until they were lost by the old leader.
    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        rng: &mut Rng,
    ) -> Vec<ScopedJoinHandle<'scope, (Client, Option<usize>)>> {
        let mut start = |(at, load): (usize, &'static Load)| {
            let leader = self.fleet.node_at(*self.leader.lock().unwrap());
            let connection = self.fleet.nodes[leader].connect_to_write();
            let connection = connection.expect("the leader takes writes");
            // Two connections act for each owner.
            let mut client = Client::new(connection, format!("owner{}", at / 2), rng.fork());
            client.prepares = false;
            let mut at_new = (leader != self.old).then_some(0);
            scope.spawn(move || {
                while !self.is_over.load(Ordering::Relaxed) {
                    if client.is_lost {
                        at_new = at_new.or(Some(client.events.len()));
                        self.find_again(&mut client);
                    } else {
                        load(&mut client);
                    }
                }
                (client, at_new)
            })
        };
        LOADS.iter().enumerate().map(&mut start).collect()
    }

    /// Connects to the leader, or waits a moment where there is none.
    fn find_again(&self, client: &mut Client) {
        let port = *self.leader.lock().unwrap();
        let leader = &self.fleet.nodes[self.fleet.node_at(port)];
        if let Some(connection) = leader.connect_to_write() {
            client.go_on(connection);
            client.count("reconnected");
            return;
        }
        let mut known = self.leader.lock().unwrap();
        if *known == port
            && let Some(found) = self.fleet.find_leader()
        {
            *known = found;
        }
        drop(known);
        thread::sleep(Duration::from_millis(50));
    }
}

/// Ends the traffic, also when something was unexpected.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Traffic for `time`, what becomes of the leader, and traffic for `time` from the new leader on. Then all
/// three are together again.
pub fn disturb(fleet: &Fleet, disturbance: Disturbance, time: Duration, rng: &mut Rng) -> Told {
    let began = now();
    let old = fleet.leader();
    let node = &fleet.nodes[old];
    let traffic = Traffic {
        fleet,
        old,
        is_over: AtomicBool::new(false),
        leader: Mutex::new(node.port),
    };
    let (mut at_old, mut at_new, mut counts) = (Vec::new(), Vec::new(), Counts::new());
    let promoted_after = thread::scope(|scope| {
        let mut runs = traffic.start(scope, rng);
        let ending = Ending(&traffic.is_over);
        thread::sleep(time);
        let since = Instant::now();
        match disturbance {
            Disturbance::SwitchedOver => fleet.switch_over(),
            Disturbance::Killed => node.kill(),
            Disturbance::CutOff => node.etcd.cut(),
            Disturbance::Frozen => node.freeze_patroni(),
        }
        let new = fleet.leader_after(old);
        let promoted_after = since.elapsed();
        if disturbance == Disturbance::Frozen {
            // libpq may find either, as both take connections that write. Whoever comes now goes to the new
            // leader; the others are still with the old one.
            assert!(node.connect_to_write().is_some(), "the old leader goes on");
            *traffic.leader.lock().unwrap() = fleet.nodes[new].port;
            runs.extend(traffic.start(scope, rng));
            thread::sleep(time);
            // One that woke up might take the lead back, with what it was about to write.
            node.restart_patroni();
        }
        thread::sleep(time);
        drop(ending);
        for run in runs {
            let (mut client, moved) = run.join().expect("the client met nothing unexpected");
            let moved = moved.unwrap_or(client.events.len());
            at_new.extend(client.events.split_off(moved));
            at_old.append(&mut client.events);
            add(&mut counts, client.counts);
        }
        promoted_after
    });
    let at_begin = now();
    let rows = crash::rows(&mut fleet.connect(), began);
    let span = Span {
        began: at_begin,
        ended: now(),
    };
    let events = [at_old.as_slice(), &at_new].concat();
    let lost = crash::compare(&events, &rows, span);
    match disturbance {
        Disturbance::Killed => node.start(),
        Disturbance::CutOff => node.etcd.mend(),
        _ => {}
    }
    fleet.wait_until_whole();
    Told {
        standstill: longest_standstill(&events),
        at_old,
        at_new,
        counts,
        lost,
        promoted_after,
    }
}

/// The longest time between two moments at which somebody was granted something that was committed.
fn longest_standstill(events: &[Event]) -> Duration {
    let granted = |event: &Event| match event {
        Event::Granted { seen, .. } => Some(*seen),
        _ => None,
    };
    let mut times: Vec<_> = events.iter().filter_map(granted).collect();
    times.sort_unstable();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    Duration::from_micros(longest.unwrap_or_default() as u64)
}

impl Told {
    pub fn events(&self) -> Vec<Event> {
        [self.at_old.as_slice(), &self.at_new].concat()
    }

    /// Each token of the new leader that is not past all that had been told before, by whomever. Nothing is
    /// said of those that an old leader draws which goes on beside the new one and knows nothing of it.
    pub fn not_past(&self) -> Vec<String> {
        let drawn = |event: &Event| match event {
            Event::Drawn {
                resource,
                token,
                span,
            } => Some((resource.clone(), *token, *span)),
            _ => None,
        };
        let all: Vec<_> = self.events().iter().filter_map(drawn).collect();
        let is_late = |(resource, token, span): &(String, i64, Span)| {
            let before = |(other, larger, told): &&(String, i64, Span)| {
                other == resource && larger >= token && told.ended < span.began
            };
            let larger = all.iter().find(before)?.1;
            Some(format!(
                "{resource}: token {token} of the new leader is not past {larger}"
            ))
        };
        let of_new = self.at_new.iter().filter_map(drawn);
        of_new.filter_map(|new| is_late(&new)).collect()
    }
}
