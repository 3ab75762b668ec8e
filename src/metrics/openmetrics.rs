//! The metrics as OpenMetrics 1.0. It differs from the Prometheus text format in this: the family of
//! a counter is named without `_total`, numbers in `le` have one spelling, the text ends with
//! `# EOF`, and a histogram with negative buckets has neither a sum nor a count.

use std::fmt::Write;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// The suffix of a counter's samples.
const TOTAL: &str = "_total";

/// Appends the families, and the end mark.
pub(super) fn encode(families: &[MetricFamily], text: &mut String) {
    for family in families {
        encode_family(family, text);
    }
    text.push_str("# EOF\n");
}

fn encode_family(family: &MetricFamily, text: &mut String) {
    let full = family.name();
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => (full.strip_suffix(TOTAL).unwrap_or(full), "counter"),
        MetricType::HISTOGRAM => (full, "histogram"),
        MetricType::GAUGE => (full, "gauge"),
        // None is declared here.
        MetricType::SUMMARY | MetricType::UNTYPED => (full, "unknown"),
    };
    // Writing to a string does not fail.
    let _ = writeln!(text, "# TYPE {name} {kind}");
    let _ = writeln!(text, "# HELP {name} {}", escaped(family.help()));
    for metric in family.get_metric() {
        let labels = metric.get_label();
        match family.get_field_type() {
            MetricType::COUNTER => {
                sample(
                    text,
                    name,
                    TOTAL,
                    labels,
                    None,
                    metric.get_counter().get_value(),
                );
            }
            MetricType::HISTOGRAM => encode_histogram(name, metric, text),
            _ => sample(text, name, "", labels, None, metric.get_gauge().get_value()),
        }
    }
}

fn encode_histogram(name: &str, metric: &Metric, text: &mut String) {
    let histogram = metric.get_histogram();
    let labels = metric.get_label();
    let bucket = |text: &mut String, bound: f64, count: u64| {
        sample(text, name, "_bucket", labels, Some(bound), count as f64);
    };
    let buckets = histogram.get_bucket();
    for counted in buckets {
        bucket(text, counted.upper_bound(), counted.cumulative_count());
    }
    if buckets
        .last()
        .is_none_or(|last| last.upper_bound().is_finite())
    {
        bucket(text, f64::INFINITY, histogram.get_sample_count());
    }
    // The sum could fall, which a counter must not; and a count comes with a sum alone.
    if buckets.iter().all(|counted| counted.upper_bound() >= 0.0) {
        let count = histogram.get_sample_count() as f64;
        sample(text, name, "_count", labels, None, count);
        sample(text, name, "_sum", labels, None, histogram.get_sample_sum());
    }
}

/// One line: the name, its labels with the bound of the bucket, and the value.
fn sample(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &[LabelPair],
    bound: Option<f64>,
    value: f64,
) {
    text.push_str(name);
    text.push_str(suffix);
    let mut separator = '{';
    for label in labels {
        let _ = write!(
            text,
            "{separator}{}=\"{}\"",
            label.name(),
            escaped(label.value())
        );
        separator = ',';
    }
    if let Some(bound) = bound {
        let _ = write!(text, "{separator}le=\"{}\"", canonical(bound));
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    // A whole number is written without a fraction, as in the other format.
    let _ = writeln!(text, " {}", Finite(value));
}

/// A value: infinities and what is no number have their words.
struct Finite(f64);

impl std::fmt::Display for Finite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

/// The one spelling of a number in `le` (OpenMetrics 1.0, "Considerations: Canonical Numbers"): a
/// whole number has `.0`; below 0.0001 and from a million on the exponent has two digits.
fn canonical(number: f64) -> String {
    if !number.is_finite() {
        return Finite(number).to_string();
    }
    let exponent = match number == 0.0 {
        true => 0,
        false => number.abs().log10().floor() as i32,
    };
    if (-4..6).contains(&exponent) {
        return format!("{number:?}");
    }
    // Rust writes 1e-5 where the format has 1e-05.
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let (sign, power) = match power.strip_prefix('-') {
                Some(power) => ('-', power),
                None => ('+', power),
            };
            format!("{digits}e{sign}{power:0>2}")
        }
        None => text,
    }
}

/// A help text or a label value: backslash, line feed and quotation mark are escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::declare::Declare;
    use super::*;

    fn page(declare: Declare) -> String {
        let mut text = String::new();
        encode(&declare.into_registry().gather(), &mut text);
        text
    }

    #[test]
    fn a_counter_is_named_without_its_suffix_and_its_samples_with_it() {
        let declare = Declare::new();
        let counters = declare
            .counters("refusals_total", "Why \"no\".", &["code"])
            .unwrap();
        counters.with_label_values(&["a\"b\\c\n"]).inc_by(3);
        assert_eq!(
            page(declare),
            "# TYPE countersign_refusals counter\n\
             # HELP countersign_refusals Why \\\"no\\\".\n\
             countersign_refusals_total{code=\"a\\\"b\\\\c\\n\"} 3\n# EOF\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_infinity_and_has_count_and_sum() {
        let declare = Declare::new();
        let histogram = declare
            .histogram("t_seconds", "T.", &[0.00001, 1.0])
            .unwrap();
        histogram.observe(0.5);
        assert_eq!(
            page(declare),
            "# TYPE countersign_t_seconds histogram\n# HELP countersign_t_seconds T.\n\
             countersign_t_seconds_bucket{le=\"1e-05\"} 0\n\
             countersign_t_seconds_bucket{le=\"1.0\"} 1\n\
             countersign_t_seconds_bucket{le=\"+Inf\"} 1\n\
             countersign_t_seconds_count 1\ncountersign_t_seconds_sum 0.5\n# EOF\n"
        );
    }

    #[test]
    fn a_histogram_with_negative_buckets_has_neither() {
        let declare = Declare::new();
        let histogram = declare
            .histogram("skew_seconds", "S.", &[-300.0, 0.0])
            .unwrap();
        histogram.observe(-400.0);
        let page = page(declare);
        assert!(page.contains("_bucket{le=\"-300.0\"} 1\n"), "{page}");
        assert!(page.contains("_bucket{le=\"0.0\"} 1\n"), "{page}");
        assert!(!page.contains("_count") && !page.contains("_sum"), "{page}");
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (number, text) in [
            (0.00001, "1e-05"),
            (0.00006, "6e-05"),
            (0.0001, "0.0001"),
            (0.00025, "0.00025"),
            (0.0, "0.0"),
            (2.5, "2.5"),
            (10.0, "10.0"),
            (-120.0, "-120.0"),
            (100_000.0, "100000.0"),
            (1_000_000.0, "1e+06"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(canonical(number), text);
        }
    }
}
