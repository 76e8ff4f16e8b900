//! The engine shown to a newcomer, step by step, on real files in a temporary directory.
//!
//! This binary plays three parts, each a process: the story that is told; a writer that is killed in the middle of
//! its work; and a sweeper that removes the directory however the story ends, also by Ctrl-C.

#![forbid(unsafe_code)]

mod node;
mod poem;
mod screen;
mod story;
mod sweeper;
mod writer;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

/// A result whose error is for a person to read.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const HELP: &str =
    "holdfast-demo: shows the engine at work on files in a temporary directory, which is removed afterwards";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] => story::tell(),
        [writer::WORD, directory] => writer::write_until_killed(Path::new(directory)),
        [sweeper::WORD, directory] => sweeper::sweep(Path::new(directory)),
        ["--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => {
            eprintln!("demo: it takes no options\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
