//! The metrics, and a strict reader of their form: what the OpenMetrics specification (1.0) demands
//! of the parts that the daemon uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use datapipe_net::StageRequest;
use datapipe_net::protocol::PipeState;
use rustix::process::Signal;

use crate::site::{Site, outcome, plain, refusal, wait_until};

/// Samples by name and labels.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// A family that is being read.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    unit: String,
}

/// Reads the text of OpenMetrics; panics at the first violation.
fn parse(text: &str) -> Samples {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let (mut samples, mut seen) = (Samples::new(), BTreeSet::new());
    let mut family = Family::default();
    for line in body.lines() {
        assert!(!line.is_empty() && line == line.trim_end(), "{line:?}");
        if let Some(described) = line.strip_prefix("# ") {
            let (what, rest) = described.split_once(' ').unwrap();
            let (name, rest) = rest.split_once(' ').unwrap();
            if what == "HELP" {
                assert!(seen.insert(name.to_owned()), "{name} is described twice");
                family = Family {
                    name: name.to_owned(),
                    ..Family::default()
                };
                assert!(is_name(name) && !rest.is_empty(), "{line:?}");
            }
            assert_eq!(name, family.name, "{line:?}");
            match what {
                "HELP" => {}
                "TYPE" => {
                    assert!(["counter", "gauge"].contains(&rest), "{line:?}");
                    assert!(!name.ends_with("_total"), "{line:?}");
                    family.kind = rest.to_owned();
                }
                "UNIT" => {
                    assert!(name.ends_with(&format!("_{rest}")), "{line:?}");
                    family.unit = rest.to_owned();
                }
                _ => panic!("{line:?}"),
            }
            continue;
        }
        let (name, labels, value) = sample(line);
        let suffix = if family.kind == "counter" {
            "_total"
        } else {
            ""
        };
        assert_eq!(name, family.name.clone() + suffix, "{line:?}");
        let number: f64 = value.parse().unwrap();
        assert!(number.is_finite() && number >= 0.0, "{line:?}");
        assert!(
            value
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.'),
            "{line:?}"
        );
        assert!(
            samples.insert((name, labels), number).is_none(),
            "twice: {line:?}"
        );
    }
    samples
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Parts of a line: name, labels, value.
fn sample(line: &str) -> (String, BTreeMap<String, String>, &str) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line:?}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line:?}");
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line:?}");
            match after.split_at(1) {
                (",", after) => rest = after,
                ("}", after) => {
                    rest = after;
                    break;
                }
                _ => panic!("{line:?}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("a space");
    assert!(!value.contains(' '), "{line:?}");
    (name.to_owned(), labels, value)
}

/// The value of a label up to its quotation mark, and the rest.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                c => panic!("escape {c}"),
            },
            c => value.push(c),
        }
    }
    panic!("no quotation mark ends {text:?}");
}

/// Value of the only sample with a name and, if it has any, one label.
fn value(samples: &Samples, name: &str, label: Option<(&str, &str)>) -> f64 {
    let labels = label.into_iter();
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let key = (format!("datapiped_{name}"), labels.collect());
    *samples
        .get(&key)
        .unwrap_or_else(|| panic!("{key:?} in {samples:?}"))
}

pub(crate) fn metrics_have_the_form_and_the_counts() {
    let site = Site::new("");
    let mut client = site.client();
    let first = parse(&client.metrics().unwrap());
    assert_eq!(
        value(&first, "pipes_total", Some(("outcome", "ended"))),
        0.0
    );
    let mut strange = plain("1000");
    strange.label = "a \"b\" \\ é \u{202e}".to_owned();
    let pipe = client.initiate(&strange).unwrap().pipe;
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::ENDED);
    let mut troubled = plain("0");
    troubled.stages[0] = StageRequest::module("troubled").arguments("7");
    let pipe = client.initiate(&troubled).unwrap().pipe;
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::INCOMPLETE);
    refusal(client.stop("host.1.2"));
    let running = client.initiate(&plain("forever")).unwrap().pipe;
    wait_until("it runs", || client.status(&running).unwrap().bytes() > 0);
    let text = site.run("metrics", &[]);
    assert!(text.status.success(), "{text:?}");
    let samples = parse(std::str::from_utf8(&text.stdout).unwrap());
    let outcome_count = |outcome| value(&samples, "pipes_total", Some(("outcome", outcome)));
    let outcomes = ["ended", "incomplete", "failed", "stopped"].map(outcome_count);
    assert_eq!(outcomes, [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(value(&samples, "pipes_started_total", None), 3.0);
    assert_eq!(
        value(&samples, "live_pipes", Some(("state", "running"))),
        1.0
    );
    assert_eq!(value(&samples, "problems_total", None), 7.0);
    assert_eq!(value(&samples, "connections", None), 2.0);
    let refused = value(
        &samples,
        "refused_requests_total",
        Some(("reason", "no such pipe")),
    );
    assert_eq!(refused, 1.0);
    assert!(value(&samples, "data_bytes_total", None) > 8000.0);
    assert!(value(&samples, "buffer_memory_bytes", None) >= 4.0 * 4096.0);
    let successes: Vec<_> = samples
        .keys()
        .filter(|(name, _)| name == "datapiped_last_success_timestamp_seconds")
        .collect();
    assert_eq!(successes.len(), 1, "an incomplete pipe is not a success");
    assert_eq!(successes[0].1["label"], "a \"b\" \\ é \u{202e}");
}

pub(crate) fn metrics_file_is_replaced_and_ends_with_the_last_counts() {
    let mut site = Site::without_daemon("");
    let file = site.path("metrics/datapiped.prom");
    fs::create_dir(site.path("metrics")).unwrap();
    let text = site.configuration("");
    site.configure(&format!(
        "metrics_file = {file:?}\nmetrics_interval_s = 1\n{text}"
    ));
    site.start();
    wait_until("the file is there", || file.exists());
    let mut client = site.client();
    let pipe = client.initiate(&plain("10")).unwrap().pipe;
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::ENDED);
    let ended = "datapiped_pipes_total{outcome=\"ended\"} 1\n";
    wait_until("the file is replaced", || {
        fs::read_to_string(&file).unwrap().contains(ended)
    });
    client.initiate(&plain("forever")).unwrap();
    site.signal(Signal::TERM);
    site.end();
    let last = fs::read_to_string(&file).unwrap();
    assert!(
        last.contains("datapiped_pipes_total{outcome=\"stopped\"} 1\n"),
        "{last}"
    );
    assert!(last.contains("# TYPE datapiped_pipes_total counter\n") && !last.contains("EOF"));
    assert_eq!(fs::read_dir(site.path("metrics")).unwrap().count(), 1);
    // A name that the collector does not read is a mistake, as is a directory of others.
    site.configure(&format!("metrics_file = \"/tmp/datapiped.prom\"\n{text}"));
    assert_eq!(site.run("check", &[]).status.code(), Some(2));
}

pub(crate) fn labels_in_metrics_are_bounded() {
    let site = Site::new("");
    let mut client = site.client();
    for n in 0..40 {
        let mut request = plain("1");
        request.label = format!("label {n}");
        let pipe = client.initiate(&request).unwrap().pipe;
        assert_eq!(outcome(&mut client, &pipe).0, PipeState::ENDED);
    }
    let samples = parse(&client.metrics().unwrap());
    let name = "datapiped_last_success_timestamp_seconds";
    let labels: BTreeSet<_> = samples
        .keys()
        .filter(|key| key.0 == name)
        .map(|key| key.1["label"].clone())
        .collect();
    assert_eq!(labels, (8..40).map(|n| format!("label {n}")).collect());
}
