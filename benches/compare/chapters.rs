//! The parts of the report: which metrics of which workload it shows, and how.

pub struct Chapter {
    pub workload: &'static str,
    pub title: &'static str,
    pub text: &'static str,
    pub metrics: &'static [Metric],
}

pub struct Metric {
    /// As in the samples.
    pub name: &'static str,
    pub title: &'static str,
    /// The candidate that the others are compared to, where that says something.
    pub compared: Option<&'static str>,
    /// The picture's file name, where there is one.
    pub chart: Option<&'static str>,
    /// Those that the picture leaves out, since the others would look alike beside them.
    pub not_drawn: &'static [&'static str],
}

const fn metric(name: &'static str, title: &'static str) -> Metric {
    Metric {
        name,
        title,
        compared: None,
        chart: None,
        not_drawn: &[],
    }
}

impl Metric {
    const fn compared_to(mut self, candidate: &'static str) -> Metric {
        self.compared = Some(candidate);
        self
    }

    const fn drawn(mut self, file: &'static str) -> Metric {
        self.chart = Some(file);
        self
    }

    const fn without(mut self, candidates: &'static [&'static str]) -> Metric {
        self.not_drawn = candidates;
        self
    }
}

/// What a crash takes away.
const NOT_DURABLE: [&str; 3] = [
    "advisory lock",
    "softlock, synchronous_commit = off",
    "Redis, fsync every second",
];

pub const CHAPTERS: [Chapter; 12] = [
    Chapter {
        workload: "uncontended",
        title: "1. Uncontended acquire and release",
        text: "Every connection takes keys of its own as fast as it can, then frees them. An advisory lock \
               ends with its transaction and writes nothing: a bound, not a peer. The pictures show what is durable.",
        metrics: &[
            metric("acquire", "Granted acquires per second")
                .compared_to("softlock")
                .drawn("acquire.svg")
                .without(&NOT_DURABLE),
            metric("release", "Releases per second")
                .compared_to("softlock")
                .drawn("release.svg")
                .without(&NOT_DURABLE),
        ],
    },
    Chapter {
        workload: "flash sale",
        title: "2. Flash sale: everyone wants what is held",
        text: "64 connections want the same 10 keys, all held by somebody else.",
        metrics: &[
            metric("refusals", "Refusals per second")
                .compared_to("softlock")
                .drawn("refusals.svg"),
            metric("wal", "Bytes of WAL per refusal"),
            metric("xids", "Transaction ids per refusal"),
        ],
    },
    Chapter {
        workload: "carts",
        title: "3. Carts",
        text: "Carts of 1, 10 and 100 free keys, taken in one call or with a call per key, each call a transaction.",
        metrics: &[metric("keys", "Keys taken per second")
            .compared_to("softlock, one call")
            .drawn("carts.svg")],
    },
    Chapter {
        workload: "growth",
        title: "4. Growth: beside ever more live locks",
        text: "16 connections take and free keys scattered among the live ones, and ask for the state of 100 kits, half of them held.",
        metrics: &[
            metric("acquire", "Granted acquires per second")
                .compared_to("softlock")
                .drawn("growth-acquire.svg"),
            metric("release", "Releases per second").compared_to("softlock"),
            metric("status", "Pages of 100 neighbouring kits per second")
                .compared_to("softlock")
                .drawn("growth-status.svg"),
            metric(
                "status, scattered",
                "Pages of 100 kits from anywhere, per second",
            )
            .compared_to("softlock"),
        ],
    },
    Chapter {
        workload: "sweep",
        title: "5. Sweep beside live traffic",
        text: "Lapsed locks are deleted among 100 thousand live ones, while 4 connections take and free 200 times \
               a second each: softlock's sweep in batches, and one plain DELETE. And as many lapsed holds in a shop's own table that is \
               adopted are cleared, by the sweep and by one plain UPDATE.",
        metrics: &[
            metric("rows", "Rows deleted per second").compared_to("softlock"),
            metric("p99", "p99 of acquire, ms")
                .compared_to("softlock")
                .drawn("sweep.svg"),
            metric("adopted", "Rows of an adopted table cleared per second")
                .compared_to("softlock"),
        ],
    },
    Chapter {
        workload: "churn",
        title: "6. Churn: 10 thousand keys, freed and taken again and again",
        text: "Both candidates at the same time, with autovacuum at its defaults, which looks once a minute: the sizes at the start, with every key \
               taken once, and after so many pairs of release and acquire.",
        metrics: &[
            metric("size", "Table and indexes, MB").drawn("churn.svg"),
            metric("table", "Table alone, MB"),
            metric("indexes", "Indexes alone, MB"),
            metric("pairs", "Pairs per second"),
        ],
    },
    Chapter {
        workload: "decay",
        title: "7. Decay: one key taken, freed and renewed ever more often, under an old snapshot",
        text: "While a transaction of hours ago keeps vacuum from cleaning up: at the start, and after so many pairs of take and free and a \
               fifth as many renewals of the key. The others would take hours to get as far as softlock. The sweep finds a single lock, at the start and after so many have \
               lapsed and been swept. Pages are those of the server's cache that a call touches, each time it does.",
        metrics: &[
            metric("take and free", "Take and free, µs")
                .compared_to("softlock")
                .drawn("decay.svg"),
            metric("take and free, pages", "Take and free, pages"),
            metric("renewal", "Renewal, µs").compared_to("softlock"),
            metric("renewal, pages", "Renewal, pages"),
            metric("refusal", "Refusal, µs").compared_to("softlock"),
            metric("refusal, pages", "Refusal, pages"),
            metric("status", "Status, µs").compared_to("softlock"),
            metric("status, pages", "Status, pages"),
            metric("consume", "Consume, µs").compared_to("softlock"),
            metric("consume, pages", "Consume, pages"),
            metric("sweep", "Sweep, ms"),
            metric("sweep, pages", "Sweep, pages"),
        ],
    },
    Chapter {
        workload: "large carts",
        title: "8. Single grants beside large carts",
        text: "4 connections take and free single keys 200 times a second each, while one client takes and frees carts of 1000 other keys all the time; \
               and the same while it writes carts by hand to another table.",
        metrics: &[
            metric("p99", "p99 of acquire, ms"),
            metric("carts", "Carts of 1000 per second"),
        ],
    },
    Chapter {
        workload: "instructions",
        title: "9. Instructions on the server per call",
        text: "Counted by callgrind in a server of one process; they can be repeated where times can't.",
        metrics: &[
            metric("instructions", "Instructions per call").compared_to("softlock"),
            metric("statistics", "Of these, for pg_stat_softlock"),
            metric("units", "A unit, beside so many holders"),
            metric("policies", "Of a call, for looking up its kind's policy"),
        ],
    },
    Chapter {
        workload: "events",
        title: "10. Events and history",
        text: "16 connections take keys of their own as fast as they can, then free them, while so many others listen, on the same machine; \
               with softlock.notify and softlock.history at their settings. A grant is told with `all`, a release with `ends`, too.",
        metrics: &[
            metric("acquire", "Granted acquires per second").compared_to("softlock"),
            metric("release", "Releases per second").compared_to("softlock"),
        ],
    },
    Chapter {
        workload: "units",
        title: "11. Units: many take of the same",
        text: "64 connections take one unit at a time as fast as they can, each time for another holder: of one resource of which there are \
               1,000,000, and of a resource each.",
        metrics: &[metric("grants", "Units granted per second").compared_to("one resource")],
    },
    Chapter {
        workload: "same carts",
        title: "12. Carts of the same things",
        text: "Each client asks for the same 50 or 1000 keys, or for any 3 of 20, in an order of its own each time, and gives back \
               at once what it has got; whoever is refused asks again without a pause.",
        metrics: &[
            metric("carts", "Carts granted per second, all clients together")
                .compared_to("softlock, 16 clients"),
        ],
    },
];
