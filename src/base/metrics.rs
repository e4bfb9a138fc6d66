//! Metrics: counters, gauges and histograms with labels, and the Prometheus text that shows them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Families by name. One for the process (`registry()`); tests make their own.
#[derive(Default)]
pub struct Registry {
    families: Mutex<BTreeMap<&'static str, Family>>,
}

struct Family {
    help: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    series: Arc<dyn Series>,
}

trait Series: Send + Sync {
    fn write(&self, name: &str, labels: &[&str], text: &mut String);
}

/// The process's own registry, shown at `/metrics`.
pub fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);
    &REGISTRY
}

/// One value per combination of label values. Cloning shares it.
pub struct Vector<T> {
    values: Arc<Values<T>>,
}

/// Values of a family's labels, in their order.
type LabelValues = Box<[Box<str>]>;

struct Values<T> {
    /// Sorted, so that a lookup by borrowed labels allocates nothing.
    by_label: Mutex<Vec<(LabelValues, Arc<T>)>>,
    make: fn() -> T,
}

/// Only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

#[derive(Default)]
pub struct Gauge(AtomicI64);

/// Durations in the buckets of `SECONDS`.
#[derive(Default)]
pub struct Histogram {
    buckets: [AtomicU64; SECONDS.len()],
    count: AtomicU64,
    sum_microseconds: AtomicU64,
}

/// Upper bounds of a histogram's buckets, in seconds.
pub const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

impl Registry {
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Vector<Counter> {
        self.add(name, help, "counter", labels)
    }

    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Vector<Gauge> {
        self.add(name, help, "gauge", labels)
    }

    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Vector<Histogram> {
        self.add(name, help, "histogram", labels)
    }

    fn add<T: Default + Value>(
        &self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: &'static [&'static str],
    ) -> Vector<T> {
        let values = Arc::new(Values { by_label: Mutex::default(), make: T::default });
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.insert(name, Family { help, kind, labels, series: values.clone() });
        Vector { values }
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in families.iter() {
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
            family.series.write(name, family.labels, &mut text);
        }
        text
    }
}

impl<T> Clone for Vector<T> {
    fn clone(&self) -> Self {
        Self { values: self.values.clone() }
    }
}

impl<T> Vector<T> {
    /// The value for these label values, in the order of the family's labels. Callers on a hot path keep it.
    pub fn with(&self, labels: &[&str]) -> Arc<T> {
        let mut by_label = self.values.by_label.lock().unwrap_or_else(PoisonError::into_inner);
        let place = by_label.binary_search_by(|(own, _)| own.iter().map(|label| &**label).cmp(labels.iter().copied()));
        let place = place.unwrap_or_else(|place| {
            let key = labels.iter().map(|&label| Box::from(label)).collect();
            by_label.insert(place, (key, Arc::new((self.values.make)())));
            place
        });
        by_label[place].1.clone()
    }
}

impl Counter {
    pub fn increment(&self) {
        self.add(1);
    }

    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, difference: i64) {
        self.0.fetch_add(difference, Ordering::Relaxed);
    }

    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    pub fn observe(&self, duration: std::time::Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = SECONDS.iter().position(|&bound| seconds <= bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_microseconds.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }
}

trait Value: Send + Sync + 'static {
    fn write(&self, name: &str, labels: &str, text: &mut String);
}

impl Value for Counter {
    fn write(&self, name: &str, labels: &str, text: &mut String) {
        let _ = writeln!(text, "{name}{} {}", braced(labels), self.value());
    }
}

impl Value for Gauge {
    fn write(&self, name: &str, labels: &str, text: &mut String) {
        let _ = writeln!(text, "{name}{} {}", braced(labels), self.value());
    }
}

impl Value for Histogram {
    fn write(&self, name: &str, labels: &str, text: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (bound, bucket) in SECONDS.iter().zip(&self.buckets) {
            total += bucket.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
        let sum = self.sum_microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_sum{} {sum}", braced(labels));
        let _ = writeln!(text, "{name}_count{} {count}", braced(labels));
    }
}

impl<T: Value> Series for Values<T> {
    fn write(&self, name: &str, labels: &[&str], text: &mut String) {
        for (values, series) in self.by_label.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let pairs: Vec<String> =
                labels.iter().zip(values).map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            series.write(name, &pairs.join(","), text);
        }
    }
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn text_shows_every_series() {
        let registry = Registry::default();
        registry.counter("b_total", "Requests.", &["verb", "code"]).with(&["get", "2\"0"]).add(3);
        registry.gauge("a", "Depth.", &[]).with(&[]).set(-2);
        let histogram = registry.histogram("c_seconds", "Time.", &["verb"]).with(&["get"]);
        histogram.observe(Duration::from_millis(2));
        histogram.observe(Duration::from_secs(60));
        let text = registry.text();
        for line in [
            "# HELP a Depth.\n# TYPE a gauge\na -2\n",
            "b_total{verb=\"get\",code=\"2\\\"0\"} 3\n",
            "c_seconds_bucket{verb=\"get\",le=\"0.001\"} 0\n",
            "c_seconds_bucket{verb=\"get\",le=\"0.0025\"} 1\n",
            "c_seconds_bucket{verb=\"get\",le=\"+Inf\"} 2\n",
            "c_seconds_sum{verb=\"get\"} 60.002\n",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
