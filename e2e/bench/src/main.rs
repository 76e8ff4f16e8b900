//! The figures: measured beside their baselines, in one run on one machine.
//!
//! Whatever is measured here goes through the door that a user has: client threads call the public methods of a
//! [`holdfast_session::Session`] with real bytes, an upkeep thread calls its `tick`. What was written is read back
//! and compared in every run, so that a broken engine has no figures.
//!
//! Each row stands beside a baseline of the same run and, where there is one, beside its floor. A missed floor is printed
//! as such. `docs/performance.md` says what bounds each figure.

#![forbid(unsafe_code)]

mod amplification;
mod arguments;
mod baselines;
mod bed;
mod block;
mod cipher;
mod content;
mod counting;
mod index_memory;
mod integrity;
mod latency;
mod load;
mod machine;
mod measured_disk;
mod opening;
mod profile;
mod ram;
mod raw_disk;
mod report;
mod row;
mod scratch;
mod space;
mod spread;
mod steady;
mod throughput;
mod timing;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use arguments::{Arguments, Parsed};
use baselines::Baselines;
use report::Report;
use scratch::Scratch;

/// A result whose error is for a person to read.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What every measurement is given.
struct Bench {
    /// Small sizes and short times: shows that everything works, gives no figure worth keeping.
    quick: bool,
    /// Only rows whose name contains this.
    only: Option<String>,
    /// A directory of our own on the machine's disk.
    scratch: Scratch,
    baselines: Baselines,
}

impl Bench {
    /// Whether a row was asked for.
    fn wants(&self, row: &str) -> bool {
        self.only.as_ref().is_none_or(|only| row.contains(only.as_str()))
    }
}

/// A measurement: the names of its rows, and how they are made.
struct Measurement {
    rows: &'static [&'static str],
    run: fn(&Bench, &mut Report) -> Outcome<()>,
}

const MEASUREMENTS: [Measurement; 12] = [
    Measurement { rows: baselines::ROWS, run: baselines::run },
    Measurement { rows: throughput::ROWS, run: throughput::run },
    Measurement { rows: steady::ROWS, run: steady::run },
    Measurement { rows: measured_disk::ROWS, run: measured_disk::run },
    Measurement { rows: latency::ROWS, run: latency::run },
    Measurement { rows: block::ROWS, run: block::run },
    Measurement { rows: opening::ROWS, run: opening::run },
    Measurement { rows: amplification::ROWS, run: amplification::run },
    Measurement { rows: index_memory::ROWS, run: index_memory::run },
    Measurement { rows: integrity::ROWS, run: integrity::run },
    Measurement { rows: space::ROWS, run: space::run },
    Measurement { rows: baselines::ROWS_AGAIN, run: baselines::run_again },
];

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Parsed::Run(arguments)) => arguments,
        Ok(Parsed::List) => {
            MEASUREMENTS.iter().flat_map(|measurement| measurement.rows).for_each(|row| println!("{row}"));
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Help) => {
            println!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("bench: {problem}\n\n{}", arguments::HELP);
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<()> {
    let target = PathBuf::from("target");
    let scratch = Scratch::new(arguments.directory.as_deref().unwrap_or(&target))?;
    let (quick, only) = (arguments.quick, arguments.only.clone());
    let bench = Bench { quick, only, scratch, baselines: Baselines::default() };
    if let Some(name) = &arguments.profile {
        return profile::run(&bench, name, arguments.seconds);
    }
    let wanted: Vec<&Measurement> =
        MEASUREMENTS.iter().filter(|measurement| measurement.rows.iter().any(|row| bench.wants(row))).collect();
    if wanted.is_empty() {
        return Err(format!("no row is called like that; `--list` names them all: {:?}", arguments.only).into());
    }
    let mut report = Report::begin(&target.join("bench.jsonl"), &machine::describe(&bench))?;
    for measurement in wanted {
        if let Err(error) = (measurement.run)(&bench, &mut report) {
            report.failed(measurement.rows, &error.to_string());
        }
    }
    report.end()
}
