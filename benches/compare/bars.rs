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

/// After the most wear, to the start.
const fn decay(what: &'static str, metric: &'static str) -> Bar {
    let (worn, new) = ((LAST, "softlock"), (FIRST, "softlock"));
    bar(what, AtMost(2.0), ("decay", metric), worn, new)
}

/// What so many clients get of carts of the same things, to one of them alone.
const fn share(what: &'static str, bound: f64, carts: &'static str, clients: &'static str) -> Bar {
    let (ours, alone) = ((carts, clients), (carts, "softlock, one alone"));
    bar(what, AtLeast(bound), ("same carts", "carts"), ours, alone)
}

/// Instructions, to the version before.
const fn before(what: &'static str, bound: Bound, case: &'static str) -> Bar {
    let counted = ("instructions", "instructions");
    let (now, before) = ((case, "softlock"), (case, "softlock before"));
    bar(what, bound, counted, now, before)
}

/// Instructions of a call that statistics take.
const fn statistics(what: &'static str, case: &'static str) -> Bar {
    let counted = ("instructions", "statistics");
    alone(what, AtMost(300.0), counted, (case, "softlock"))
}

const BARS: [Bar; 49] = [
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
        "sweep of an adopted table, rows per second, to one UPDATE",
        AtLeast(0.8),
        ("sweep", "adopted"),
        ("nobody beside it", "softlock"),
        ("nobody beside it", "plain UPDATE"),
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
    before(
        "granted, instructions, to the version before",
        AtMost(1.05),
        "granted",
    ),
    before(
        "renewed, instructions, to the version before",
        AtMost(1.0),
        "renewed",
    ),
    before(
        "refused, instructions, to the version before",
        AtMost(0.85),
        "refused",
    ),
    before(
        "released, instructions, to the version before",
        AtMost(1.0),
        "released",
    ),
    statistics("granted, instructions for statistics", "granted"),
    statistics("renewed, instructions for statistics", "renewed"),
    statistics("refused, instructions for statistics", "refused"),
    statistics("released, instructions for statistics", "released"),
    bar(
        "units of one resource, 64 connections, to a resource each",
        AtLeast(0.5),
        ("units", "grants"),
        ("64 connections", "one resource"),
        ("64 connections", "a resource each"),
    ),
    bar(
        "a unit taken beside 10 000 holders, instructions, to beside 100",
        AtMost(3.0),
        ("instructions", "units"),
        ("taken beside 10000", "softlock"),
        ("taken beside 100", "softlock"),
    ),
    bar(
        "cart of 100 renewed in one call, instructions, to 100 calls",
        AtMost(0.2),
        ("instructions", "instructions"),
        ("cart of 100 renewed", "softlock"),
        ("cart of 100 renewed", "softlock, a call per key"),
    ),
    bar(
        "granted without policies, instructions for looking them up, to the call",
        AtMost(0.01),
        ("instructions", "policies"),
        ("granted, no policy", "softlock, the look-up"),
        ("granted, no policy", "softlock, the call"),
    ),
    bar(
        "granted with 100 policies, instructions, to none",
        AtMost(1.03),
        ("instructions", "policies"),
        ("granted, 100 policies", "softlock, the call"),
        ("granted, no policy", "softlock, the call"),
    ),
    bar(
        "status of 100 neighbouring kits at the fewest live locks, to the SELECT by hand",
        AtLeast(1.1),
        ("growth", "status"),
        (FIRST, "softlock"),
        (FIRST, "prepared upsert"),
    ),
    bar(
        "status of 100 neighbouring kits at the most live locks, to the SELECT by hand",
        AtLeast(1.1),
        ("growth", "status"),
        (LAST, "softlock"),
        (LAST, "prepared upsert"),
    ),
    bar(
        "cart of 100 in one call, 1 connection, to one upsert by hand",
        AtLeast(1.0),
        ("carts", "keys"),
        ("100 × 1 connection", "softlock, one call"),
        ("100 × 1 connection", "prepared upsert, one call"),
    ),
    bar(
        "p99 of acquire beside carts of 1000, to beside as much written to another table",
        AtMost(3.0),
        ("large carts", "p99"),
        ("carts of 1000", "softlock"),
        ("as much written to another table", "softlock"),
    ),
    share(
        "carts of the same 50, 2 clients, to one alone",
        0.25,
        "the same 50",
        "softlock, 2 clients",
    ),
    share(
        "carts of the same 50, 16 clients, to one alone",
        0.25,
        "the same 50",
        "softlock, 16 clients",
    ),
    share(
        "carts of the same 1000, 2 clients, to one alone",
        0.1,
        "the same 1000",
        "softlock, 2 clients",
    ),
    share(
        "carts of the same 1000, 16 clients, to one alone",
        0.1,
        "the same 1000",
        "softlock, 16 clients",
    ),
    decay("decay of take and free, time", "take and free"),
    decay("decay of take and free, pages", "take and free, pages"),
    decay("decay of renewal, time", "renewal"),
    decay("decay of renewal, pages", "renewal, pages"),
    decay("decay of refusal, time", "refusal"),
    decay("decay of refusal, pages", "refusal, pages"),
    decay("decay of status, time", "status"),
    decay("decay of status, pages", "status, pages"),
    decay("decay of consume, time", "consume"),
    decay("decay of consume, pages", "consume, pages"),
    decay("decay of a sweep, time", "sweep"),
    decay("decay of a sweep, pages", "sweep, pages"),
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
