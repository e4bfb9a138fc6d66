//! Percentiles, and what the generator itself costs.

use std::time::Duration;

use serde_json::{Value, json};

/// Durations in the order in which they were seen.
#[derive(Default)]
pub struct Delays {
    micros: Vec<u32>,
}

impl Delays {
    pub fn push(&mut self, delay: Duration) {
        self.micros.push(delay.as_micros().try_into().unwrap_or(u32::MAX));
    }

    pub fn append(&mut self, mut other: Delays) {
        self.micros.append(&mut other.micros);
    }

    pub fn len(&self) -> usize {
        self.micros.len()
    }

    /// `{"p50_us": ..., "p99_us": ..., "max_us": ...}`; nulls without any.
    pub fn percentiles(mut self) -> Value {
        self.micros.sort_unstable();
        let at = |share: f64| {
            let index = (self.micros.len() as f64 * share).ceil() as usize;
            self.micros.get(index.saturating_sub(1)).copied()
        };
        json!({ "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0) })
    }
}

/// CPU time of this process so far. It has one thread, whose scheduler statistics are exact.
pub fn own_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// `value` and all members of `more`.
pub fn joined(mut value: Value, more: Value) -> Value {
    if let (Some(fields), Value::Object(more)) = (value.as_object_mut(), more) {
        fields.extend(more);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_delays() {
        let mut delays = Delays::default();
        (1..=200).rev().for_each(|micros| delays.push(Duration::from_micros(micros)));
        assert_eq!(delays.percentiles(), json!({ "p50_us": 100, "p99_us": 198, "max_us": 200 }));
        assert_eq!(Delays::default().percentiles()["p50_us"], Value::Null);
    }
}
