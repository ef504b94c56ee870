//! What softlock has to reach beside the others.

use std::collections::BTreeMap;

use crate::figure::Figure;
use crate::samples::Samples;

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

/// The first and the last case that was measured, since a smoke run has smaller ones.
const FIRST: &str = "first";
const LAST: &str = "last";

/// A case and a candidate.
type Of = (&'static str, &'static str);

struct Bar {
    what: &'static str,
    bound: Bound,
    workload: &'static str,
    metric: &'static str,
    ours: Of,
    /// What ours is divided by, unless the bound is about ours alone.
    theirs: Option<Of>,
}

const fn bar(
    what: &'static str,
    bound: Bound,
    measured: (&'static str, &'static str),
    ours: Of,
    theirs: Of,
) -> Bar {
    let mut bar = alone(what, bound, measured, ours);
    bar.theirs = Some(theirs);
    bar
}

const fn alone(
    what: &'static str,
    bound: Bound,
    (workload, metric): (&'static str, &'static str),
    ours: Of,
) -> Bar {
    Bar {
        what,
        bound,
        workload,
        metric,
        ours,
        theirs: None,
    }
}

const BARS: [Bar; 15] = [
    bar(
        "granted acquire, 16 connections, to the prepared upsert",
        AtLeast(0.95),
        ("uncontended", "acquire"),
        ("16 connections", "softlock"),
        ("16 connections", "prepared upsert"),
    ),
    bar(
        "granted acquire, 16 connections, to the ORM flow",
        AtLeast(1.5),
        ("uncontended", "acquire"),
        ("16 connections", "softlock"),
        ("16 connections", "ORM flow"),
    ),
    bar(
        "granted acquire, instructions on the server, to the PL/pgSQL upsert",
        AtMost(1.0),
        ("instructions", "instructions"),
        ("granted", "softlock"),
        ("granted", "PL/pgSQL upsert"),
    ),
    bar(
        "refusal, 64 connections, to the SELECT by primary key",
        AtLeast(0.8),
        ("flash sale", "refusals"),
        ("64 connections", "softlock"),
        ("64 connections", "SELECT by primary key"),
    ),
    bar(
        "refusal, 64 connections, to the refused upsert",
        AtLeast(3.0),
        ("flash sale", "refusals"),
        ("64 connections", "softlock"),
        ("64 connections", "prepared upsert"),
    ),
    alone(
        "refusal, bytes of WAL",
        AtMost(0.0),
        ("flash sale", "wal"),
        ("64 connections", "softlock"),
    ),
    alone(
        "refusal, transaction ids",
        AtMost(0.0),
        ("flash sale", "xids"),
        ("64 connections", "softlock"),
    ),
    bar(
        "cart of 100 in one call, 1 connection, to 100 calls",
        AtLeast(8.0),
        ("carts", "keys"),
        ("100 × 1 connection", "softlock, one call"),
        ("100 × 1 connection", "softlock, a call per key"),
    ),
    bar(
        "cart of 100 in one call, 16 connections, to 100 calls",
        AtLeast(8.0),
        ("carts", "keys"),
        ("100 × 16 connections", "softlock, one call"),
        ("100 × 16 connections", "softlock, a call per key"),
    ),
    bar(
        "acquire at the most live locks (10 million), to the fewest (10 thousand)",
        AtLeast(0.85),
        ("growth", "acquire"),
        (LAST, "softlock"),
        (FIRST, "softlock"),
    ),
    bar(
        "status of neighbouring kits at the most live locks (10 million), to the fewest (10 thousand)",
        AtLeast(0.85),
        ("growth", "status"),
        (LAST, "softlock"),
        (FIRST, "softlock"),
    ),
    bar(
        "status of scattered kits at the most live locks (10 million), to the fewest (10 thousand)",
        AtLeast(0.85),
        ("growth", "status, scattered"),
        (LAST, "softlock"),
        (FIRST, "softlock"),
    ),
    bar(
        "sweep, rows per second, to one DELETE",
        AtLeast(0.8),
        ("sweep", "rows"),
        ("beside live traffic", "softlock"),
        ("beside live traffic", "plain DELETE"),
    ),
    bar(
        "p99 of acquire during the sweep, to before it",
        AtMost(2.0),
        ("sweep", "p99"),
        ("during", "softlock"),
        ("before", "softlock"),
    ),
    bar(
        "churn, table and indexes at the end, to the start",
        AtMost(3.0),
        ("churn", "size"),
        (LAST, "softlock"),
        (FIRST, "softlock"),
    ),
];

/// A bar, and how it was met.
pub struct Verdict {
    pub what: &'static str,
    pub bound: String,
    /// `None` when it was not measured.
    pub measured: Option<Figure>,
    pub met: bool,
}

pub fn verdicts(samples: &Samples) -> Vec<Verdict> {
    BARS.iter().map(|bar| bar.judge(samples)).collect()
}

impl Bar {
    fn judge(&self, samples: &Samples) -> Verdict {
        let cases = samples.cases(self.workload, self.metric);
        let of = |(case, candidate): Of| {
            let case = match case {
                FIRST => cases.first(),
                LAST => cases.last(),
                _ => Some(&case),
            };
            case.map_or_else(BTreeMap::new, |case| {
                samples.of(self.workload, self.metric, case, candidate)
            })
        };
        let ours = of(self.ours);
        let measured = match self.theirs {
            Some(theirs) => Figure::of_ratios(&ours, &of(theirs)),
            None => Figure::of(ours.into_values()),
        };
        let (bound, meets): (String, fn(f64, f64) -> bool) = match self.bound {
            AtLeast(bound) => (format!("at least {bound}"), |value, bound| value >= bound),
            AtMost(bound) => (format!("at most {bound}"), |value, bound| value <= bound),
        };
        let (AtLeast(limit) | AtMost(limit)) = self.bound;
        Verdict {
            what: self.what,
            bound,
            measured,
            met: measured.is_some_and(|figure| meets(figure.median, limit)),
        }
    }
}
