//! What softlock costs beside what people use today. `compare measure DIRECTORY` runs the workloads
//! against the servers that `benches/run` has started, and writes down every sample as it is taken;
//! `compare report DIRECTORY` makes the tables and charts of those samples, and of nothing else.

mod bars;
mod candidates;
mod chapters;
mod chart;
mod figure;
mod load;
mod machine;
mod plan;
mod report;
mod samples;
mod server;
mod traffic;
mod workloads;

use std::path::Path;

use plan::Plan;

fn main() {
    // cargo passes `--bench` along.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["measure", directory] => {
            let directory = Path::new(directory);
            machine::write(directory);
            workloads::run(&Plan::from_environment(), directory);
        }
        ["report", directory] => report::write(Path::new(directory)),
        _ => panic!("usage: compare measure|report DIRECTORY"),
    }
}
