//! Text of metrics, in the OpenMetrics form and in the older one of the Prometheus project.

use std::fmt::Write;

/// Form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Form {
    /// OpenMetrics 1.0, with an end.
    OpenMetrics,
    /// The form that the textfile collector of node_exporter reads: a counter is described under
    /// the name of its samples.
    Textfile,
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Kind {
    Counter,
    Gauge,
}

/// Text that is being written.
#[derive(Debug)]
pub(in crate::daemon) struct MetricsText {
    form: Form,
    text: String,
}

/// A metric that is being written, with its samples.
pub(in crate::daemon) struct Metric<'t> {
    text: &'t mut MetricsText,
    /// Name of the samples.
    name: String,
}

impl MetricsText {
    pub(in crate::daemon) fn new(form: Form) -> Self {
        Self {
            form,
            text: String::new(),
        }
    }

    /// Begins a metric. The samples of a counter have `_total` after the name.
    pub(in crate::daemon) fn metric(&mut self, name: &str, kind: Kind, help: &str) -> Metric<'_> {
        let (kind, suffix) = match kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        let samples = format!("datapiped_{name}{suffix}");
        let described = match self.form {
            Form::OpenMetrics => format!("datapiped_{name}"),
            Form::Textfile => samples.clone(),
        };
        let _ = writeln!(self.text, "# HELP {described} {help}");
        let _ = writeln!(self.text, "# TYPE {described} {kind}");
        let units = ["seconds", "bytes"];
        let unit = units
            .iter()
            .find(|unit| name.ends_with(&format!("_{unit}")));
        if let (Form::OpenMetrics, Some(unit)) = (self.form, unit) {
            let _ = writeln!(self.text, "# UNIT {described} {unit}");
        }
        Metric {
            text: self,
            name: samples,
        }
    }

    pub(in crate::daemon) fn finish(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.text += "# EOF\n";
        }
        self.text
    }
}

impl Metric<'_> {
    /// Adds a sample. The values of labels may contain any characters.
    pub(in crate::daemon) fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.write(labels, &value.to_string());
    }

    /// Adds a sample of a time in milliseconds since 1970, in seconds.
    pub(in crate::daemon) fn time(&mut self, labels: &[(&str, &str)], milliseconds: u64) {
        let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
        self.write(labels, &format!("{seconds}.{rest:03}"));
    }

    fn write(&mut self, labels: &[(&str, &str)], value: &str) {
        let text = &mut self.text.text;
        *text += &self.name;
        for (n, (name, value)) in labels.iter().enumerate() {
            *text += if n == 0 { "{" } else { "," };
            let _ = write!(text, "{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            *text += "}";
        }
        let _ = writeln!(text, " {value}");
    }
}

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .replace('\r', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_differ_in_the_names_of_counters_and_the_end() {
        let text = |form| {
            let mut text = MetricsText::new(form);
            let mut metric = text.metric("sent_bytes", Kind::Counter, "Bytes.");
            metric.sample(&[("label", "a\\b\"c\nd"), ("user", "7")], 9);
            text.metric("start_time_seconds", Kind::Gauge, "Start.")
                .time(&[], 1_700_000_000_007);
            text.finish()
        };
        assert_eq!(
            text(Form::OpenMetrics),
            "# HELP datapiped_sent_bytes Bytes.\n# TYPE datapiped_sent_bytes counter\n\
             # UNIT datapiped_sent_bytes bytes\n\
             datapiped_sent_bytes_total{label=\"a\\\\b\\\"c\\nd\",user=\"7\"} 9\n\
             # HELP datapiped_start_time_seconds Start.\n\
             # TYPE datapiped_start_time_seconds gauge\n\
             # UNIT datapiped_start_time_seconds seconds\n\
             datapiped_start_time_seconds 1700000000.007\n# EOF\n"
        );
        let textfile = text(Form::Textfile);
        assert!(textfile.contains("# TYPE datapiped_sent_bytes_total counter\n"));
        assert!(!textfile.contains("UNIT") && !textfile.contains("EOF"));
    }
}
