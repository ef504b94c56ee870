//! How long and how large: the whole run, or with `BENCH_QUICK` a smoke run of a minute or two.

use std::env;
use std::time::Duration;

pub struct Plan {
    /// The numbers of the workloads to run; all when empty.
    only: Vec<String>,
    /// How long each candidate is measured at a time.
    pub slice: Duration,
    /// How often each candidate gets its turn.
    pub rounds: usize,
    /// Live locks in the databases of the growth workload, and what the reports call them.
    pub growth: [(&'static str, i64); 3],
    /// Lapsed locks that a sweep finds.
    pub lapsed: i64,
    /// Acquire and release in the churn, by each candidate.
    pub churn: i64,
    /// How often a key has been taken and freed when its calls are measured.
    pub wear: [i32; 3],
}

impl Plan {
    pub fn from_environment() -> Plan {
        let seconds = |default| {
            let given = env::var("BENCH_SECONDS").ok();
            Duration::from_secs_f64(given.map_or(default, |given| {
                given.parse().expect("BENCH_SECONDS is a number")
            }))
        };
        let only = env::var("BENCH_ONLY").unwrap_or_default();
        let only = only.split_whitespace().map(str::to_owned).collect();
        if env::var_os("BENCH_QUICK").is_some_and(|value| !value.is_empty()) {
            Plan {
                only,
                slice: seconds(0.1),
                rounds: 3,
                growth: [
                    ("1 thousand", 1_000),
                    ("10 thousand", 10_000),
                    ("100 thousand", 100_000),
                ],
                lapsed: 50_000,
                churn: 20_000,
                wear: [100, 1_000, 10_000],
            }
        } else {
            Plan {
                only,
                slice: seconds(1.0),
                rounds: 7,
                growth: [
                    ("10 thousand", 10_000),
                    ("1 million", 1_000_000),
                    ("10 million", 10_000_000),
                ],
                lapsed: 1_000_000,
                churn: 2_000_000,
                wear: [1_000, 10_000, 100_000],
            }
        }
    }

    pub fn includes(&self, number: usize) -> bool {
        self.only.is_empty() || self.only.contains(&number.to_string())
    }

    pub fn rounds(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.rounds
    }
}
