//! Several runs of one measurement: the median is the figure, least and most say how far to trust it.

/// The runs, in rising order; at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread(Vec<f64>);

impl Spread {
    /// Of some runs.
    pub fn of(mut runs: Vec<f64>) -> Self {
        assert!(!runs.is_empty(), "a figure of no run");
        runs.sort_by(f64::total_cmp);
        Self(runs)
    }

    /// Of something that was counted, not timed.
    pub fn counted(value: f64) -> Self {
        Self(vec![value])
    }

    /// The least.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// The one in the middle; of two, the one that looks worse in most figures.
    pub fn median(&self) -> f64 {
        self.0[(self.0.len() - 1) / 2]
    }

    /// The most.
    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value that `share` of all runs do not exceed.
    pub fn percentile(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        self.0[((last as f64 * share).ceil() as usize).min(last)]
    }

    /// In another unit.
    pub fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|run| run * factor).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_order_of_runs_does_not_matter() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((spread.min(), spread.median(), spread.max(), spread.count()), (1.0, 2.0, 3.0, 3));
        assert_eq!(Spread::of(vec![4.0, 2.0]).median(), 2.0);
        assert_eq!(spread.scaled(10.0).median(), 20.0);
        let hundred = Spread::of((1..=100).map(f64::from).collect());
        assert_eq!((hundred.percentile(0.99), hundred.percentile(1.0)), (100.0, 100.0));
        assert_eq!(hundred.percentile(0.5), 51.0);
    }
}
