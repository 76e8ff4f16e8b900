//! The command line of the simulator: which seeds, on how many threads, and one line that reproduces a failure.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use holdfast_simulation::exhaustive::{self, Letter, Plan, Variety};
use holdfast_simulation::faults::Tally;
use holdfast_simulation::mutant::Mutant;
use holdfast_simulation::world::{self, Outcome, Rig};
use parking_lot::Mutex;

const USAGE: &str = "\
usage: holdfast-simulation --seed N [-v]                          one seed; -v tells what happens
       holdfast-simulation --seeds N [--start N] [--threads T]    many seeds
       holdfast-simulation --exhaustive [--length N] [--samples N] [--word LETTERS]
                                                                  every short history and every crash in it
       --mutant NAME                                              with a deliberate mistake, which must be found";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Asked {
    seed: Option<u64>,
    seeds: Option<u64>,
    start: u64,
    threads: Option<u64>,
    verbose: bool,
    exhaustive: bool,
    length: Option<u64>,
    samples: Option<u64>,
    word: Option<String>,
    mutant: Option<Mutant>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked::default();
    while let Some(word) = words.next() {
        let mut text = || words.next().ok_or_else(|| format!("{word} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{word} wants a number, not {text}"));
        match word.as_str() {
            "--seed" => asked.seed = Some(number(text()?)?),
            "--seeds" => asked.seeds = Some(number(text()?)?),
            "--start" => asked.start = number(text()?)?,
            "--threads" => asked.threads = Some(number(text()?)?),
            "--length" => asked.length = Some(number(text()?)?),
            "--samples" => asked.samples = Some(number(text()?)?),
            "--word" => asked.word = Some(text()?),
            "--exhaustive" => asked.exhaustive = true,
            "-v" | "--verbose" => asked.verbose = true,
            "--mutant" => {
                let name = text()?;
                let known = Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name);
                asked.mutant = Some(known.ok_or_else(|| format!("{name} is none of {:?}", Mutant::ALL))?);
            }
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let threads = asked.threads.unwrap_or(cores).max(1);
    match (asked.seed, asked.seeds) {
        _ if asked.exhaustive => exhaust(&asked, threads),
        (Some(seed), _) => one(seed, &asked),
        (None, Some(count)) => many(count, &asked, threads),
        (None, None) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64, asked: &Asked) -> ExitCode {
    let outcome = world::run(seed, Rig { mutant: asked.mutant, verbose: asked.verbose });
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!("{}", outcome.tally);
    if outcome.violation.is_none() {
        return ExitCode::SUCCESS;
    }
    report(seed, &outcome);
    ExitCode::FAILURE
}

fn report(seed: u64, outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        println!("seed {seed} broke a promise: {violation}\nmake sim SEED={seed}");
    }
}

fn many(count: u64, asked: &Asked, threads: u64) -> ExitCode {
    let started = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new(Tally::default());
    let shows = std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= count || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = asked.start + place;
                    let outcome = world::run(seed, Rig { mutant: asked.mutant, verbose: false });
                    let mut total = total.lock();
                    total.add(&outcome.tally);
                    if outcome.violation.is_some() && !failed.swap(true, Ordering::Relaxed) {
                        report(seed, &outcome);
                    }
                    if shows && total.seeds % 64 == 0 {
                        eprint!("\r{} of {count} seeds ", total.seeds);
                        // What is only shown may fail to be.
                        let _ = std::io::stderr().flush();
                    }
                }
            });
        }
    });
    if shows {
        eprint!("\r                              \r");
    }
    println!("{}; {:.1} s", total.lock(), started.elapsed().as_secs_f64());
    if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn exhaust(asked: &Asked, threads: u64) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for variety in [Variety::Tight, Variety::Roomy] {
        let started = Instant::now();
        let plan = |shard| Plan {
            variety,
            length: asked.length.unwrap_or(4) as usize,
            samples: asked.samples.unwrap_or(4) as usize,
            shard,
            mutant: asked.mutant,
        };
        let results: Vec<_> = match &asked.word {
            Some(word) => vec![exhaustive::run_word(&plan((0, 1)), &Letter::word(word), 0)],
            None => std::thread::scope(|scope| {
                let shards = (0..threads as usize).map(|shard| plan((shard, threads as usize)));
                let workers: Vec<_> = shards.map(|plan| scope.spawn(move || exhaustive::run(&plan))).collect();
                workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
            }),
        };
        let mut total = exhaustive::Tally::default();
        for result in results {
            match result {
                Ok(tally) => total = total.and(tally),
                Err(failure) => {
                    println!("{failure}");
                    status = ExitCode::FAILURE;
                }
            }
        }
        println!("{variety:?}: {total}; {:.1} s", started.elapsed().as_secs_f64());
    }
    status
}
