//! The table on the screen and the lines in the file, row by row as they come.

use std::fs::{File, create_dir_all};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::row::{Floor, Row, Verdict, figure, json_text};

/// A run's rows.
pub struct Report {
    file: File,
    path: PathBuf,
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Report {
    /// Prints what the machine is and the head of the table, and begins the file anew.
    pub fn begin(path: &Path, machine: &[(String, String)]) -> Outcome<Self> {
        if let Some(folder) = path.parent() {
            create_dir_all(folder)?;
        }
        for (name, value) in machine {
            println!("{}", folded(&format!("{name:<9}"), value, 116));
        }
        println!();
        println!(
            "{:<28} {:>11} {:<6} {:>10} {:>6}  {:<9} {:<4}  spread (least … most, runs)",
            "row", "figure", "", "baseline", "ratio", "floor", ""
        );
        println!("{}", "─".repeat(116));
        Ok(Self { file: File::create(path)?, path: path.to_owned(), rows: Vec::new(), failures: Vec::new() })
    }

    /// Adds a row.
    pub fn add(&mut self, row: Row) -> Outcome<()> {
        println!("{}", line(&row));
        writeln!(self.file, "{}", row.json())?;
        self.rows.push(row);
        Ok(())
    }

    /// Notes that a measurement broke off. The others go on, and the run fails at its end.
    pub fn failed(&mut self, names: &[&str], error: &str) {
        let missing: Vec<&str> =
            names.iter().filter(|name| self.rows.iter().all(|row| row.name != **name)).copied().collect();
        println!("{}", folded("FAILED", &format!("without {}: {error}", missing.join(", ")), 116));
        self.failures.push(missing.join(", "));
    }

    /// Notes that this machine cannot measure some rows.
    pub fn skipped(&mut self, names: &[&str], reason: &str) -> Outcome<()> {
        println!("{}", folded("SKIPPED", &format!("{}: {reason}", names.join(", ")), 116));
        for name in names {
            writeln!(self.file, "{{\"name\":\"{name}\",\"skipped\":{}}}", json_text(reason))?;
        }
        Ok(())
    }

    /// Prints what a reader must know, and what was missed; fails if a measurement did.
    pub fn end(mut self) -> Outcome<()> {
        self.file.flush()?;
        println!("\nwhat is compared with what, and what else to know");
        for row in &self.rows {
            let baseline = row.baseline.map_or(String::new(), |(_, name)| format!("against {name}. "));
            let text = format!("{baseline}{}", row.note);
            if !text.is_empty() {
                println!("{}", folded(&format!("  {:<28}", row.name), &text, 116));
            }
        }
        let count = |verdict| self.rows.iter().filter(|row| row.verdict() == verdict).count();
        let missed: Vec<&str> =
            self.rows.iter().filter(|row| row.verdict() == Verdict::Miss).map(|row| row.name).collect();
        println!("\n{} floors kept, {} missed{}", count(Verdict::Pass), missed.len(), {
            if missed.is_empty() { String::new() } else { format!(": {}", missed.join(", ")) }
        });
        println!("all rows: {}", self.path.display());
        if self.failures.is_empty() {
            return Ok(());
        }
        Err(format!("measurements broke off, see FAILED above; not measured: {}", self.failures.join(", ")).into())
    }
}

fn line(row: &Row) -> String {
    let floor = match row.floor {
        None => String::new(),
        Some(Floor::RatioAtLeast(floor)) => format!("≥ {}x", trimmed(floor)),
        Some(Floor::AtMost(most)) => format!("≤ {}", trimmed(most)),
    };
    let verdict = match row.verdict() {
        Verdict::Pass => "PASS",
        Verdict::Miss => "MISS",
        Verdict::None => "",
    };
    let spread = match row.value.count() {
        1 => "counted".to_owned(),
        runs => format!("{} … {}, {runs}", figure(row.value.min()), figure(row.value.max())),
    };
    format!(
        "{:<28} {:>11} {:<6} {:>10} {:>6}  {:<9} {:<4}  {}",
        row.name,
        figure(row.value.median()),
        row.unit,
        row.baseline.map_or(String::new(), |(value, _)| figure(value)),
        row.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}")),
        floor,
        verdict,
        spread
    )
}

fn trimmed(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text behind a head, its further lines indented as far.
fn folded(head: &str, text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    let room = width.saturating_sub(head.chars().count() + 1).max(20);
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    let indent = format!("\n{} ", " ".repeat(head.chars().count()));
    format!("{head} {}", lines.join(&indent))
}

#[cfg(test)]
mod tests {
    use super::{folded, line, trimmed};
    use crate::row::{Floor, Row};
    use crate::spread::Spread;

    #[test]
    fn a_line_says_whether_the_floor_is_kept() {
        let row = Row::more("engine.rand_write_4k", "IOPS", Spread::of(vec![900_000.0, 1_000_000.0, 1_100_000.0]));
        let row = row.against(2_860_000.0, "x").floor(Floor::RatioAtLeast(0.35));
        assert_eq!(
            line(&row),
            "engine.rand_write_4k             1000000 IOPS      2860000   0.35  ≥ 0.35x   MISS  900000 … 1100000, 3"
        );
        assert!(line(&row.floor(Floor::RatioAtLeast(0.3))).contains("PASS"));
        assert_eq!([trimmed(2.0), trimmed(0.35), trimmed(1.3)], ["2", "0.35", "1.3"]);
    }

    #[test]
    fn long_notes_are_folded_behind_their_head() {
        assert_eq!(folded("a:", "one two three four five six", 20), "a: one two three four\n   five six");
        assert_eq!(folded("a:", "", 20), "a: ");
    }
}
