//! One file per verb: look, decide, call the store, answer. The SQL functions themselves are in
//! `functions.rs`, the trigger function's in `guard.rs`.

pub mod acquire;
pub mod acquire_any;
pub mod acquire_many;
pub mod adopt;
pub mod break_all;
pub mod breaking;
pub mod check;
pub mod conflict;
pub mod consume;
pub mod guard;
pub mod hold;
pub mod quota;
pub mod release;
pub mod release_all;
pub mod renew;
pub mod renew_all;
pub mod seize;
pub mod share;
pub mod status;
pub mod sweep;
pub mod transfer;
