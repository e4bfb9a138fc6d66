//! When a row of results becomes a verdict: a pure function of thresholds.

use k8s_openapi::api::core::v1::Probe;

use super::Kind;

pub(super) struct Verdict {
    success: i32,
    failure: i32,
    last: Option<bool>,
    row: i32,
}

impl Verdict {
    pub fn new(probe: &Probe, kind: Kind) -> Self {
        let at_least_one =
            |threshold: Option<i32>, default| threshold.filter(|threshold| *threshold > 0).unwrap_or(default);
        let success = if kind == Kind::Readiness { at_least_one(probe.success_threshold, 1) } else { 1 };
        Self { success, failure: at_least_one(probe.failure_threshold, 3), last: None, row: 0 }
    }

    /// `None` while the row is too short to change anything.
    pub fn step(&mut self, good: bool) -> Option<bool> {
        self.row = if self.last == Some(good) { self.row.saturating_add(1) } else { 1 };
        self.last = Some(good);
        (self.row >= if good { self.success } else { self.failure }).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_rows() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Default::default() };
        let mut verdict = Verdict::new(&probe, Kind::Readiness);
        let found: Vec<_> = [true, true, false, false, true, false, false, false].map(|good| verdict.step(good)).into();
        assert_eq!(found, [None, Some(true), None, None, None, None, None, Some(false)]);
    }
}
