//! Sets of completion indexes, as a Job's status writes them: `1,3-5,7`.
//!
//! Upstream: orderedIntervals in pkg/controller/job/indexed_job_utils.go.

use std::fmt;

/// Ordered, disjoint ranges that do not touch, both ends included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Reads what a status or policy says, as far as it lies below `completions`; what cannot be read is left out.
    pub(super) fn parse(text: &str, completions: u32) -> Self {
        let mut all = Self::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse(), last.parse::<u32>()) else { continue };
            if first >= completions {
                break;
            }
            all = all.with([(first, last.min(completions - 1))]);
        }
        all
    }

    pub(super) fn with(&self, ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut ranges: Vec<(u32, u32)> = self.0.iter().copied().chain(ranges).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(range) if first <= range.1.saturating_add(1) => range.1 = range.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub(super) fn with_indexes(&self, indexes: impl IntoIterator<Item = u32>) -> Self {
        self.with(indexes.into_iter().map(|index| (index, index)))
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        self.with(other.0.iter().copied())
    }

    pub(super) fn has(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    pub(super) fn total(&self) -> u32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many indexes are in both.
    pub(super) fn shared(&self, other: &Self) -> u32 {
        let overlap = |a: &(u32, u32), b: &(u32, u32)| (a.1.min(b.1) + 1).saturating_sub(a.0.max(b.0));
        self.0.iter().map(|range| other.0.iter().map(|theirs| overlap(range, theirs)).sum::<u32>()).sum()
    }

    /// The first `count` indexes below `completions` that are not in the set.
    pub(super) fn missing(&self, count: usize, completions: u32) -> Vec<u32> {
        let ends = self.0.iter().map(|(first, last)| (*first, last + 1));
        let mut from = 0;
        let mut missing = Vec::new();
        for (first, next) in ends.chain([(completions, completions)]) {
            missing.extend((from..first.min(completions)).take(count - missing.len()));
            from = from.max(next);
        }
        missing
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (first, last)) in self.0.iter().enumerate() {
            let separator = if position > 0 { "," } else { "" };
            match last - first {
                0 => write!(formatter, "{separator}{first}")?,
                1 => write!(formatter, "{separator}{first},{last}")?,
                _ => write!(formatter, "{separator}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_written_as_ranges() {
        for (text, written) in [
            ("", ""),
            ("0", "0"),
            ("1,2", "1,2"),
            ("0,1,2", "0-2"),
            ("1-3,4,7,8-12", "1-4,7-9"),
            ("x,3", "3"),
            ("3-x,5", "5"),
            ("10-12", ""),
        ] {
            assert_eq!(Indexes::parse(text, 10).to_string(), written, "{text}");
        }
    }

    #[test]
    fn members_and_gaps() {
        let set = Indexes::parse("1-3,7", 10);
        assert_eq!((set.total(), set.has(0), set.has(2), set.has(7), set.has(8)), (4, false, true, true, false));
        assert_eq!(set.missing(3, 10), [0, 4, 5]);
        assert_eq!(set.missing(10, 10), [0, 4, 5, 6, 8, 9]);
        assert_eq!(set.missing(10, 3), [0]);
        assert_eq!(Indexes::default().missing(2, 10), [0, 1]);
        assert_eq!(set.with_indexes([0, 4, 9]).to_string(), "0-4,7,9");
        assert_eq!(set.shared(&Indexes::parse("3-8", 10)), 2);
        assert_eq!(set.union(&Indexes::parse("4-6", 10)).to_string(), "1-7");
    }
}
