//! One figure with everything that is needed to judge it.

use crate::spread::Spread;

/// What a figure must keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Floor {
    /// Its ratio to the baseline is at least this.
    RatioAtLeast(f64),
    /// The figure itself is at most this.
    AtMost(f64),
}

/// How a figure stands to its floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Kept.
    Pass,
    /// Not kept.
    Miss,
    /// There is none.
    None,
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// All runs, in `unit`.
    pub value: Spread,
    /// The unit.
    pub unit: &'static str,
    /// What it is compared with, in the same unit, and what that is.
    pub baseline: Option<(f64, &'static str)>,
    /// Whether more is better.
    pub more_is_better: bool,
    /// What it must keep.
    pub floor: Option<Floor>,
    /// What it should reach, on the scale of the floor.
    pub goal: Option<f64>,
    /// What a reader must know.
    pub note: String,
}

impl Row {
    /// A figure of which more is better.
    pub fn more(name: &'static str, unit: &'static str, value: Spread) -> Self {
        Self { name, value, unit, baseline: None, more_is_better: true, floor: None, goal: None, note: String::new() }
    }

    /// A figure of which less is better.
    pub fn less(name: &'static str, unit: &'static str, value: Spread) -> Self {
        Self { more_is_better: false, ..Self::more(name, unit, value) }
    }

    /// Compares it.
    pub fn against(mut self, baseline: f64, name: &'static str) -> Self {
        self.baseline = Some((baseline, name));
        self
    }

    /// Sets its floor.
    pub fn floor(mut self, floor: Floor) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Sets its goal.
    pub fn goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Says what a reader must know.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// How it compares: above 1 is better than the baseline, whatever is counted.
    pub fn ratio(&self) -> Option<f64> {
        let (baseline, _) = self.baseline?;
        let value = self.value.median();
        Some(if self.more_is_better { value / baseline } else { baseline / value })
    }

    /// Whether the floor is kept.
    pub fn verdict(&self) -> Verdict {
        let kept = match self.floor {
            None => return Verdict::None,
            Some(Floor::RatioAtLeast(floor)) => self.ratio().is_some_and(|ratio| ratio >= floor),
            Some(Floor::AtMost(most)) => self.value.median() <= most,
        };
        if kept { Verdict::Pass } else { Verdict::Miss }
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let number = |value: Option<f64>| value.map_or("null".to_owned(), json_number);
        let text = |value: Option<&str>| value.map_or("null".to_owned(), json_text);
        let (floor, floor_on) = match self.floor {
            None => (None, None),
            Some(Floor::RatioAtLeast(floor)) => (Some(floor), Some("ratio, at least")),
            Some(Floor::AtMost(most)) => (Some(most), Some("value, at most")),
        };
        let verdict = match self.verdict() {
            Verdict::Pass => Some("PASS"),
            Verdict::Miss => Some("MISS"),
            Verdict::None => None,
        };
        let spread = format!(
            "{{\"min\":{},\"median\":{},\"max\":{},\"runs\":{}}}",
            json_number(self.value.min()),
            json_number(self.value.median()),
            json_number(self.value.max()),
            self.value.count()
        );
        let fields = [
            ("name", json_text(self.name)),
            ("value", json_number(self.value.median())),
            ("unit", json_text(self.unit)),
            ("baseline", number(self.baseline.map(|(value, _)| value))),
            ("baseline_name", text(self.baseline.map(|(_, name)| name))),
            ("ratio", number(self.ratio())),
            ("floor", number(floor)),
            ("floor_on", text(floor_on)),
            ("goal", number(self.goal)),
            ("verdict", text(verdict)),
            ("spread", spread),
            ("note", json_text(&self.note)),
        ];
        let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// A number with as many digits as it is good for.
pub fn figure(value: f64) -> String {
    let digits = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn json_number(value: f64) -> String {
    if value.is_finite() { format!("{}", (value * 1e6).round() / 1e6) } else { "null".to_owned() }
}

/// Text as JSON wants it.
pub fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::{Floor, Row, Verdict, figure};
    use crate::spread::Spread;

    #[test]
    fn a_ratio_above_one_is_better_whatever_is_counted() {
        let fast = Row::more("a", "MB/s", Spread::counted(300.0)).against(200.0, "x");
        assert_eq!(fast.ratio(), Some(1.5));
        let slow = Row::less("a", "us", Spread::counted(300.0)).against(150.0, "x");
        assert_eq!(slow.ratio(), Some(0.5));
        assert_eq!(slow.verdict(), Verdict::None);
        assert_eq!(slow.clone().floor(Floor::RatioAtLeast(0.5)).verdict(), Verdict::Pass);
        assert_eq!(slow.clone().floor(Floor::RatioAtLeast(0.51)).verdict(), Verdict::Miss);
        assert_eq!(slow.clone().floor(Floor::AtMost(299.0)).verdict(), Verdict::Miss);
        let alone = Row::less("a", "", Spread::counted(1.0)).floor(Floor::RatioAtLeast(0.1));
        assert_eq!(alone.verdict(), Verdict::Miss, "what cannot be compared does not pass");
    }

    #[test]
    fn a_row_is_one_line_of_json() {
        let row = Row::more("engine.x", "IOPS", Spread::of(vec![2.0, 1.0, 4.0]))
            .against(4.0, "aes")
            .floor(Floor::RatioAtLeast(0.35))
            .note("a \"b\"\nc");
        assert_eq!(
            row.json(),
            "{\"name\":\"engine.x\",\"value\":2,\"unit\":\"IOPS\",\"baseline\":4,\"baseline_name\":\"aes\",\
             \"ratio\":0.5,\"floor\":0.35,\"floor_on\":\"ratio, at least\",\"goal\":null,\"verdict\":\"PASS\",\
             \"spread\":{\"min\":1,\"median\":2,\"max\":4,\"runs\":3},\"note\":\"a \\\"b\\\"\\nc\"}"
        );
        assert!(Row::less("a", "s", Spread::counted(f64::NAN)).json().contains("\"value\":null"));
    }

    #[test]
    fn figures_have_the_digits_that_they_are_good_for() {
        assert_eq!(["1234", "123.5", "12.35", "1.235", "0.001"], {
            [figure(1234.4), figure(123.46), figure(12.346), figure(1.2346), figure(0.0012)]
        });
    }
}
