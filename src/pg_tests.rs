//! Tests inside a server: the decision table, cell by cell. What needs two transactions is in
//! `tests/isolation`, bad input and privileges in `tests/pg_regress`.

mod acquire;
mod answers;
mod carts;
mod holding;
mod sweeping;

use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::Value;

/// Asks one of the functions. The tests run at the same time, each in a transaction, and would
/// find each other's keys contended: they take turns.
fn ask(call: &str) -> Value {
    take_turn();
    let answer = Spi::get_one::<JsonB>(&format!("SELECT {call}"));
    answer.expect("the call works").expect("an answer").0
}

fn take_turn() {
    Spi::run("SELECT pg_advisory_xact_lock(1)").expect("a turn");
}

fn number(query: &str) -> i64 {
    Spi::get_one(query)
        .expect("the query works")
        .expect("a number")
}

/// Takes `k` for `owner` and waits until it has lapsed.
fn lapsed(owner: &str) -> Value {
    let answer = ask(&format!("softlock_acquire('k', '{owner}', '1 ms')"));
    while number("SELECT count(*) FROM softlock_active WHERE resource = 'k'") > 0 {}
    answer
}

#[track_caller]
fn check(answer: &Value, verdict: &str, said: bool, outcome: &str) {
    assert_eq!(answer[verdict], said, "{answer}");
    assert_eq!(answer["outcome"], outcome, "{answer}");
}

fn keys(answer: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = answer
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}
