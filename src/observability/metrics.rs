//! Metrics as Prometheus understands them: what one is, its samples, and their text.
//!
//! Which there are stands in a table where the figures are known (`server::metrics`). Nothing is counted here: a scrape reads what
//! is counted anyway, so that a command pays nothing for it, and neither does a server that nobody scrapes.
//!
//! Names follow Prometheus's rules: base units, `_total` behind what only grows. What is known of every process has the name that
//! it has everywhere (`process_…`), the rest begins with `larder_`.

use prometheus::TextEncoder;
use prometheus::proto::{self, MetricFamily, MetricType};

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric's values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process ends or CONFIG RESETSTAT forgets it.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How many values were not larger than each of some bounds.
    Histogram,
}

impl Kind {
    /// Prometheus's word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric's declaration.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What its values mean.
    pub kind: Kind,
    /// What tells its samples apart.
    pub labels: &'static [&'static str],
    /// What it is, in a sentence.
    pub help: &'static str,
}

impl Family {
    /// Of what its values are a number: the end of its name says it.
    pub fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        [("_bytes", "bytes"), ("_seconds", "seconds"), ("_info", "always 1")]
            .into_iter()
            .find_map(|(end, unit)| name.ends_with(end).then_some(unit))
            .unwrap_or("count")
    }

    /// The names under which its samples appear.
    pub fn sample_names(&self) -> Vec<String> {
        match self.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", self.name)).into(),
            Kind::Counter | Kind::Gauge => vec![self.name.to_owned()],
        }
    }
}

/// The samples of a metric.
pub struct Samples {
    family: Family,
    metrics: Vec<proto::Metric>,
}

impl Samples {
    /// None yet.
    pub fn of(family: Family) -> Samples {
        Samples { family, metrics: Vec::new() }
    }

    /// One with these labels, in the order of the declaration.
    pub fn add(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.labelled(labels);
        match self.family.kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Histogram => unreachable!("a histogram has bounds"),
        }
        self.metrics.push(metric);
    }

    /// A histogram with these labels: upper bounds with how many values do not exceed them, how many values there are, and their
    /// sum.
    pub fn add_histogram(
        &mut self,
        labels: &[&str],
        up_to: impl Iterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        let mut histogram = proto::Histogram::default();
        let buckets = up_to.map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum);
        let mut metric = self.labelled(labels);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    fn labelled(&self, labels: &[&str]) -> proto::Metric {
        assert_eq!(labels.len(), self.family.labels.len(), "{} has its labels", self.family.name);
        let pairs = self.family.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = proto::Metric::default();
        metric.set_label(pairs.collect());
        metric
    }
}

/// The text of these metrics; those without a sample are left out.
pub fn text(all: impl Iterator<Item = Samples>) -> String {
    let families = all.filter(|samples| !samples.metrics.is_empty()).map(|samples| {
        let mut family = MetricFamily::default();
        family.set_name(samples.family.name.to_owned());
        family.set_help(samples.family.help.to_owned());
        family.set_field_type(match samples.family.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(samples.metrics);
        family
    });
    let families: Vec<MetricFamily> = families.collect();
    TextEncoder::new().encode_to_string(&families).expect("each has a name and a sample")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_shown_under_their_metric() {
        let of = |name, kind, labels| Samples::of(Family { name, kind, labels, help: "Help." });
        let mut keys = of("larder_keys", Kind::Gauge, &["database"]);
        keys.add(&["0"], 3.0);
        keys.add(&["a\"\\\n"], 0.5);
        let mut took = of("larder_took_seconds", Kind::Histogram, &[]);
        took.add_histogram(&[], [(0.001, 1), (1.0, 2)].into_iter(), 3, 4.5);
        let nothing = of("larder_nothing", Kind::Counter, &[]);
        assert_eq!(
            text([keys, took, nothing].into_iter()),
            "# HELP larder_keys Help.\n# TYPE larder_keys gauge\n\
             larder_keys{database=\"0\"} 3\nlarder_keys{database=\"a\\\"\\\\\\n\"} 0.5\n\
             # HELP larder_took_seconds Help.\n# TYPE larder_took_seconds histogram\n\
             larder_took_seconds_bucket{le=\"0.001\"} 1\nlarder_took_seconds_bucket{le=\"1\"} 2\n\
             larder_took_seconds_bucket{le=\"+Inf\"} 3\nlarder_took_seconds_sum 4.5\nlarder_took_seconds_count 3\n"
        );
    }
}
