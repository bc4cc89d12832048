//! Medians and bounds, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::runner::{Outcome, Trouble};
use crate::workloads::{Measure, Workload};

const MEASURES: [(Measure, &str, &str); 3] =
    [(Measure::Wall, "wall", "s"), (Measure::Cpu, "cpu", "s"), (Measure::Peak, "peak", "MiB")];

/// What all pairs together say about one measure.
struct Summary {
    /// Median of the ratios, ours to the peer's, and the smallest and largest of them.
    ratio: f64,
    min: f64,
    max: f64,
    /// Medians of the figures themselves.
    ours: f64,
    peer: f64,
    /// What the ratio may be at most.
    bound: Option<f64>,
}

/// A few lines for people, without the last line's end.
pub(crate) fn text(workload: &Workload, result: &Result<Outcome, Trouble>) -> String {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(trouble) => return format!("{}: {trouble}", workload.name),
    };
    let Outcome { ours, peer, pairs } = outcome;
    let mut text = format!("{}: {ours} beside {peer}, {} pairs\n", workload.name, pairs.len());
    text += "           ours       peer  ratio  (min .. max)";
    for (measure, name, unit) in MEASURES {
        let Summary { ratio, min, max, ours, peer, bound } = Summary::of(workload, outcome, measure);
        let verdict = match bound {
            Some(bound) if ratio <= bound => format!("  at most {bound}: holds"),
            Some(bound) => format!("  at most {bound}: DOES NOT HOLD"),
            None => String::new(),
        };
        let _ = write!(
            text,
            "\n  {name:4} {ours:8.3} {peer:10.3}  {ratio:5.2}  ({min:.2} .. {max:.2})  {unit}{verdict}"
        );
    }
    text
}

/// One JSON object.
pub(crate) fn json(workload: &Workload, result: &Result<Outcome, Trouble>) -> Value {
    let name = workload.name;
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(Trouble::Unprepared(reason)) => return json!({ "workload": name, "skipped": reason.to_string() }),
        Err(Trouble::Peer { name: peer, reason }) => {
            return json!({ "workload": name, "peer": peer, "skipped": reason });
        }
        Err(Trouble::Failed(reason)) => return json!({ "workload": name, "failed": reason }),
    };
    let mut object = json!({
        "workload": name,
        "ours": outcome.ours,
        "peer": outcome.peer,
        "pairs": outcome.pairs.len(),
    });
    for (measure, key, unit) in MEASURES {
        let summary = Summary::of(workload, outcome, measure);
        object[key] = json!({
            "unit": unit,
            "ours": summary.ours,
            "peer": summary.peer,
            "ratio": summary.ratio,
            "min": summary.min,
            "max": summary.max,
            "bound": summary.bound,
            "holds": summary.bound.map(|bound| summary.ratio <= bound),
        });
    }
    object
}

impl Summary {
    fn of(workload: &Workload, outcome: &Outcome, measure: Measure) -> Self {
        let figures: Vec<_> =
            outcome.pairs.iter().map(|pair| (pair.ours.of(measure), pair.peer.of(measure))).collect();
        let ratios = sorted(figures.iter().map(|(ours, peer)| ours / peer));
        Self {
            ratio: median(&ratios),
            min: ratios[0],
            max: ratios[ratios.len() - 1],
            ours: median(&sorted(figures.iter().map(|figure| figure.0))),
            peer: median(&sorted(figures.iter().map(|figure| figure.1))),
            bound: workload.bound(measure),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of an odd number of sorted values.
fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

const _: () = assert!(crate::runner::PAIRS % 2 == 1, "the median is the middle one");
