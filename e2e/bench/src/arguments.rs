//! The command line.

use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
holdfast-bench: the engine's figures, each beside a baseline of the same run

  --quick          small sizes, about 20 seconds: shows that it works, gives no figure worth keeping
  --only NAME      only rows whose name contains NAME, such as engine.rand, and those that come with them
  --list           the names of all rows
  --dir DIR        where the machine's disk is measured (default: target)
  --profile NAME   one row's work in a loop, for a profiler to look at
  --seconds N      for how long (default: 20)

The rows go to target/bench.jsonl as well, one a line.";

/// A run, as it was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Small and short.
    pub quick: bool,
    /// A part of the names of rows.
    pub only: Option<String>,
    /// A directory on the disk that is measured.
    pub directory: Option<PathBuf>,
    /// The row whose work is done in a loop.
    pub profile: Option<String>,
    /// For how long.
    pub seconds: u64,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Measure.
    Run(Arguments),
    /// Print the help.
    Help,
    /// Print the names of all rows.
    List,
}

impl Arguments {
    /// Reads the words behind the program's name.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Parsed, String> {
        let mut arguments = Self { seconds: 20, ..Self::default() };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--quick" => arguments.quick = true,
                "--only" => arguments.only = Some(value()?),
                "--dir" => arguments.directory = Some(value()?.into()),
                "--profile" => arguments.profile = Some(value()?),
                "--seconds" => {
                    let given = value()?;
                    arguments.seconds = given.parse().map_err(|_| format!("--seconds {given}: a number is needed"))?;
                }
                "--list" => return Ok(Parsed::List),
                "--help" | "-h" => return Ok(Parsed::Help),
                _ => return Err(format!("{word} is not an option")),
            }
        }
        Ok(Parsed::Run(arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Parsed};

    fn parse(line: &str) -> Result<Parsed, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_understood_and_mistakes_named() {
        let expected = Arguments { quick: true, only: Some("rand".to_owned()), seconds: 3, ..Arguments::default() };
        assert_eq!(parse("--quick --only rand --seconds 3"), Ok(Parsed::Run(expected)));
        assert_eq!(parse("--quick --help"), Ok(Parsed::Help));
        assert_eq!(parse("--list"), Ok(Parsed::List));
        for (line, part) in [("--only", "needs a value"), ("--seconds x", "a number"), ("--fast", "not an option")] {
            assert!(parse(line).is_err_and(|problem| problem.contains(part)), "{line}");
        }
    }
}
