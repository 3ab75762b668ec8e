//! Samples of several rounds, and tables of them in Markdown.

use crate::measure::Sample;

/// The samples of one contender in one case, a round each.
pub(crate) struct Row {
    /// What distinguishes it from the contender's other rows; may be empty.
    pub(crate) case: String,
    pub(crate) contender: &'static str,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    /// The median over the rounds.
    pub(crate) fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }

    /// Why it does not count, where that is so.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.samples
            .iter()
            .find_map(|sample| sample.fault.as_deref())
    }

    fn cells(&self) -> Vec<String> {
        let name = self.contender.to_owned();
        if let Some(fault) = self.fault() {
            return vec![self.case.clone(), name, format!("**invalid**: {fault}")];
        }
        let cpu: Vec<f64> = self.samples.iter().map(|sample| sample.cpu).collect();
        let parts = match self.samples.first() {
            Some(Sample { parts, .. }) if parts.len() > 1 => (0..parts.len())
                .map(|n| format!("{} {:.1}", parts[n].0, self.median(|s| s.parts[n].1)))
                .collect::<Vec<_>>()
                .join(", "),
            _ => String::new(),
        };
        vec![
            self.case.clone(),
            name,
            format!("{:.1}", self.median(|s| s.cpu)),
            spread(&cpu),
            parts,
            format!("{:.0}", self.median(|s| s.p50)),
            format!("{:.0}", self.median(|s| s.p99)),
            format!("{:.0}", self.median(|s| s.p999)),
            format!("{:.0}", self.median(|s| s.rate)),
            format!("{:.1}", self.median(|s| s.load_cpu)),
            match self.median(|s| s.reconnects) {
                few if few < 0.005 => String::new(),
                many => format!("{many:.2}"),
            },
        ]
    }
}

/// The least and the greatest.
pub(crate) fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.1} – {greatest:.1}")
}

/// The middle one, or the mean of the middle two; not a number where there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// The table of these rows; the first column, where no row has anything in it, is left out.
pub(crate) fn table(case: &str, rows: &[Row]) -> String {
    let head = [
        case,
        "contender",
        "CPU µs a request",
        "least – most",
        "of which",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "requests/s",
        "load's CPU µs",
        "new connections",
    ];
    let cells = rows.iter().map(Row::cells).collect::<Vec<_>>();
    markdown(&head, &cells)
}

/// A Markdown table, aligned for readers of the plain text; columns of nothing are left out.
pub(crate) fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let text = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let columns: Vec<usize> = (0..head.len())
        .filter(|&column| rows.iter().any(|row| !text(row, column).is_empty()))
        .collect();
    let head: Vec<String> = head.iter().map(|&title| title.to_owned()).collect();
    let width = |column: usize| {
        let all = rows.iter().chain([&head]);
        all.map(|row| text(row, column).chars().count())
            .max()
            .unwrap_or(0)
    };
    let line = |row: &[String]| {
        let cell = |&column: &usize| format!(" {:<1$} |", text(row, column), width(column));
        format!("|{}\n", columns.iter().map(cell).collect::<String>())
    };
    let rule = |&column: &usize| format!("{}|", "-".repeat(width(column) + 2));
    let rule = format!("|{}\n", columns.iter().map(rule).collect::<String>());
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{rule}{rows}", line(&head))
}
