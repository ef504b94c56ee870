//! Raw samples: one line for each thing measured, written when it was measured.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const HEADER: &str = "workload\tmetric\tcase\tcandidate\tround\tvalue";

pub struct Sample {
    pub workload: String,
    pub metric: String,
    pub case: String,
    pub candidate: String,
    pub round: usize,
    pub value: f64,
}

/// The samples of a run, as they come.
pub struct Recorder {
    file: File,
    workload: &'static str,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("samples.tsv")
}

impl Recorder {
    pub fn create(directory: &Path) -> Recorder {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path(directory))
            .expect("the directory for results can be written");
        writeln!(file, "{HEADER}").expect("the samples can be written");
        Recorder { file, workload: "" }
    }

    /// What follows belongs to this workload.
    pub fn begin(&mut self, workload: &'static str) {
        eprintln!("== {workload}");
        self.workload = workload;
    }

    pub fn note(&mut self, metric: &str, case: &str, candidate: &str, round: usize, value: f64) {
        let workload = self.workload;
        let line = format!("{workload}\t{metric}\t{case}\t{candidate}\t{round}\t{value}");
        eprintln!("   {}", line.replace('\t', " | "));
        writeln!(self.file, "{line}").expect("the samples can be written");
    }
}

/// What has been measured.
pub struct Samples(Vec<Sample>);

impl Samples {
    pub fn read(directory: &Path) -> Samples {
        let text = fs::read_to_string(path(directory)).expect("samples.tsv is there");
        Samples(text.lines().skip(1).map(parse).collect())
    }

    /// The values of one metric of one candidate in one case, by round.
    pub fn of(
        &self,
        workload: &str,
        metric: &str,
        case: &str,
        candidate: &str,
    ) -> BTreeMap<usize, f64> {
        self.of_metric(workload, metric)
            .filter(|sample| sample.case == case && sample.candidate == candidate)
            .map(|sample| (sample.round, sample.value))
            .collect()
    }

    /// The cases of a metric, in the order they were measured.
    pub fn cases(&self, workload: &str, metric: &str) -> Vec<&str> {
        distinct(self.of_metric(workload, metric).map(|s| s.case.as_str()))
    }

    /// The candidates of a metric, in the order they were measured.
    pub fn candidates(&self, workload: &str, metric: &str) -> Vec<&str> {
        distinct(
            self.of_metric(workload, metric)
                .map(|s| s.candidate.as_str()),
        )
    }

    fn of_metric(&self, workload: &str, metric: &str) -> impl Iterator<Item = &Sample> {
        self.0
            .iter()
            .filter(move |sample| sample.workload == workload && sample.metric == metric)
    }
}

fn parse(line: &str) -> Sample {
    let mut columns = line.split('\t').map(str::to_owned);
    let mut next = || {
        columns
            .next()
            .unwrap_or_else(|| panic!("a sample has six columns: {line}"))
    };
    Sample {
        workload: next(),
        metric: next(),
        case: next(),
        candidate: next(),
        round: next().parse().expect("a round is a number"),
        value: next().parse().expect("a value is a number"),
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
