//! What is done, candidate by candidate and round by round.

mod adopted;
mod carts;
mod churn;
mod decay;
mod events;
mod flash_sale;
mod growth;
mod large_carts;
mod same_carts;
mod sweep;
mod uncontended;
mod units;

use std::path::Path;

use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server::{self, Server};

type Workload = fn(&Plan, &mut Recorder);

/// By their numbers; the count of instructions, number 9, is `benches/instructions`.
const ALL: [(usize, &str, Workload); 11] = [
    (1, "uncontended", uncontended::run),
    (2, "flash sale", flash_sale::run),
    (3, "carts", carts::run),
    (4, "growth", growth::run),
    (5, "sweep", sweep::run),
    (6, "churn", churn::run),
    (7, "decay", decay::run),
    (8, "large carts", large_carts::run),
    (10, "events", events::run),
    (11, "units", units::run),
    (12, "same carts", same_carts::run),
];

pub fn run(plan: &Plan, directory: &Path) {
    let mut recorder = Recorder::create(directory);
    Server::all().for_each(|server| server.set_up(server::DATABASE));
    for (number, name, workload) in ALL {
        if plan.includes(number) {
            server::clear();
            recorder.begin(name);
            workload(plan, &mut recorder);
        }
    }
}

/// As the reports call it.
fn connections(count: usize) -> String {
    format!("{count} connection{}", if count == 1 { "" } else { "s" })
}
