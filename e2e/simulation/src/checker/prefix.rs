//! Prefix consistency: the whole volume is what one prefix of its history gives, and no acknowledged record is missing.

use crate::checker::{Verdict, Violation};
use crate::model::{Model, Observed};

/// The name of this judge.
pub const NAME: &str = "prefix";

/// Finds the prefix that the volume is, given that the log claims to end at `head`. Nothing up to `least` may be missing.
pub fn check(model: &Model, observed: &Observed, head: u64, least: u64) -> Verdict {
    if head < least {
        let what = format!("the log ends at record {head}, but record {least} was acknowledged as durable");
        return Err(Violation::new(NAME, what));
    }
    if head > model.head() {
        let what = format!("the log ends at record {head}, but only {} were ever issued", model.head());
        return Err(Violation::new(NAME, what));
    }
    let found = model.prefixes(observed, least);
    if found.contains(&head) {
        return Ok(());
    }
    let differences = model.differences(observed, head);
    let shown: Vec<String> = differences
        .iter()
        .take(4)
        .map(|(block, expected, found)| format!("block {block}: expected {}, found {}", name(*expected), name(*found)))
        .collect();
    let others = if found.is_empty() { "no prefix at all".to_owned() } else { format!("the prefixes {found:?}") };
    let what = format!(
        "the log ends at record {head} (acknowledged {least}, issued {}), but the volume is {others}; {} blocks differ: {}",
        model.head(),
        differences.len(),
        shown.join("; ")
    );
    Err(Violation::new(NAME, what))
}

fn name(stamp: Option<u64>) -> String {
    stamp.map_or_else(|| "zeros".to_owned(), |stamp| format!("change {stamp}"))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::model::{Model, Observed, Record};

    #[test]
    fn loss_invention_and_mixture_are_seen() {
        let mut model = Model::new();
        (1..=3).for_each(|stamp| model.issue(Record::Put { block: stamp, stamp }));
        let observed = |stamps: &[u64]| Observed {
            content: stamps.iter().map(|stamp| (*stamp, *stamp)).collect(),
            ..Observed::default()
        };
        assert!(check(&model, &observed(&[1, 2]), 2, 2).is_ok());
        assert!(check(&model, &observed(&[1, 2, 3]), 3, 2).is_ok());
        assert!(check(&model, &observed(&[1]), 1, 2).is_err(), "an acknowledged record is lost");
        assert!(check(&model, &observed(&[1]), 2, 1).is_err(), "the log and the volume disagree");
        assert!(check(&model, &observed(&[1, 3]), 3, 1).is_err(), "a hole");
        assert!(check(&model, &observed(&[1, 2, 3, 4]), 4, 1).is_err(), "invented");
    }
}
