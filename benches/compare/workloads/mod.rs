//! What is done, candidate by candidate and round by round.

mod carts;
mod churn;
mod flash_sale;
mod growth;
mod sweep;
mod uncontended;

use std::path::Path;

use crate::plan::Plan;
use crate::samples::Recorder;
use crate::server;

type Workload = fn(&Plan, &mut Recorder);

/// By their numbers from 1 on; the count of instructions, number 7, is `benches/instructions`.
const ALL: [(&str, Workload); 6] = [
    ("uncontended", uncontended::run),
    ("flash sale", flash_sale::run),
    ("carts", carts::run),
    ("growth", growth::run),
    ("sweep", sweep::run),
    ("churn", churn::run),
];

pub fn run(plan: &Plan, directory: &Path) {
    let mut recorder = Recorder::create(directory);
    server::set_up(server::DATABASE);
    for (number, (name, workload)) in (1..).zip(ALL) {
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
