//! Encodes metric families as text.
//!
//! The Prometheus client writes the format, so escaping and number syntax are not decided here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::util::escape::path_text;

/// Label names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// One metric with all its series.
#[derive(Debug)]
pub(super) struct Family {
    /// Without the suffix `_total` of a counter.
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    series: Vec<(Labels, Value)>,
}

/// The value of a series.
#[derive(Debug)]
pub(super) enum Value {
    /// An integer gauge.
    Whole(u64),
    /// A floating-point gauge.
    Real(f64),
    /// A counter.
    Count(u64),
    /// A histogram: the sum, and the count of each upper bound.
    Histogram(f64, Vec<(f64, u64)>),
}

impl Family {
    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::Gauge, series: Vec::new() }
    }

    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::Counter, series: Vec::new() }
    }

    pub(super) fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::Histogram, series: Vec::new() }
    }

    pub(super) fn add(&mut self, labels: Labels, value: Value) {
        self.series.push((labels, value));
    }

    /// The exposed name and the type.
    pub(super) fn listed(&self) -> (String, &'static str) {
        let (suffix, kind) = match self.kind {
            MetricType::Counter => ("_total", "counter"),
            MetricType::Histogram => ("", "histogram"),
            _ => ("", "gauge"),
        };
        (format!("{}{suffix}", self.name), kind)
    }
}

impl EncodeMetric for Value {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        match self {
            Self::Whole(value) => ConstGauge::new(*value).encode(encoder),
            Self::Real(value) => ConstGauge::new(*value).encode(encoder),
            Self::Count(value) => ConstCounter::new(*value).encode(encoder),
            Self::Histogram(sum, buckets) => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                let none: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
                encoder.encode_histogram(*sum, count, buckets, none)
            }
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Self::Whole(_) | Self::Real(_) => MetricType::Gauge,
            Self::Count(_) => MetricType::Counter,
            Self::Histogram(..) => MetricType::Histogram,
        }
    }
}

impl Collector for Family {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if self.series.is_empty() {
            return Ok(());
        }
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, self.kind)?;
        for (labels, value) in &self.series {
            value.encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}

/// The families as text. Every series has a label for the queue, since one exporter reads the files of
/// several queues.
pub(super) fn encode(queue: &Path, families: Vec<Family>) -> String {
    let queue = Cow::Owned(path_text(queue));
    let mut registry = Registry::with_labels(std::iter::once((Cow::Borrowed("queue"), queue)));
    for family in families {
        registry.register_collector(Box::new(family));
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_client::encoding::prometheus_text::encode(&mut text, &registry);
    text
}

/// Milliseconds as seconds; exact for every realistic date.
#[allow(clippy::cast_precision_loss, reason = "below 2^53 for as long as there are dates")]
pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

/// Seconds as milliseconds.
#[allow(clippy::cast_possible_truncation, reason = "a number too large becomes the largest")]
pub(super) fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

/// An exit code from its text.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number out of range becomes the nearest"
)]
pub(super) fn code(value: f64) -> u8 {
    value as u8
}
