//! One file per verb: look, decide, call the store, answer. The SQL functions themselves are in
//! `functions.rs`, the trigger function's in `guard.rs`.

pub mod acquire;
pub mod acquire_many;
pub mod breaking;
pub mod consume;
pub mod guard;
mod hold;
pub mod release;
pub mod release_all;
pub mod renew;
mod seize;
pub mod status;
pub mod sweep;
