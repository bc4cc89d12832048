//! Medians and bounds, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::runner::{CaseResult, Pair, RunError, StepResult, Usage, WorkloadResult};
use crate::workloads::{Bound, Delay, Measure, Task, Workload};

/// Measures that are reported for pairs: measure, name, unit.
const MEASURES: [(Measure, &str, &str); 4] = [
    (Measure::Wall, "wall", "s"),
    (Measure::Cpu, "cpu", "s"),
    (Measure::Peak, "peak", "MiB"),
    (Measure::Size, "size", "MiB"),
];

/// Summary of one measure over all pairs.
struct RatioSummary {
    /// Median, minimum and maximum of the ratios of our figures to the peer's.
    ratio: f64,
    min: f64,
    max: f64,
    /// Medians of the figures of each side.
    ours: f64,
    peer: f64,
    /// Upper bound of the median ratio.
    bound: Option<f64>,
}

/// Summary of all runs of one step.
struct StepFigures {
    case: &'static str,
    step: &'static str,
    /// Medians, in seconds.
    wall: f64,
    cpu: f64,
    /// Median of the wall time, in milliseconds per object, and its ratio to that of the first step
    /// with the same name.
    each: f64,
    growth: f64,
    /// Upper bound of the growth.
    growth_bound: Option<f64>,
    /// Largest resident set and largest pool of all runs, and upper bound of the resident set, in
    /// MiB.
    peak: f64,
    pool: f64,
    peak_bound: f64,
}

/// Formats a result as a few lines for people, without the last line end.
pub(crate) fn text(workload: &Workload, result: &Result<WorkloadResult, RunError>) -> String {
    let name = workload.name;
    match result {
        Ok(WorkloadResult::Pairs { ours, peer, pairs }) => {
            format!(
                "{name}: {ours} beside {peer}, {} pairs\n{}",
                pairs.len(),
                pairs_text(workload, pairs)
            )
        }
        Ok(WorkloadResult::Series(cases)) => {
            format!("{name}: ours alone{}", series_text(workload, cases))
        }
        Ok(WorkloadResult::Delays(times)) => {
            format!(
                "{name}: ours alone, {} times{}",
                times[0].len(),
                delays_text(workload, times)
            )
        }
        Err(error) => format!("{name}: {error}"),
    }
}

/// Formats a result as one JSON object.
pub(crate) fn json(workload: &Workload, result: &Result<WorkloadResult, RunError>) -> Value {
    let mut object = match result {
        Ok(WorkloadResult::Pairs { ours, peer, pairs }) => pairs_json(workload, ours, peer, pairs),
        Ok(WorkloadResult::Series(cases)) => series_json(workload, cases),
        Ok(WorkloadResult::Delays(times)) => delays_json(workload, times),
        Err(error) => error_json(error),
    };
    object["workload"] = workload.name.into();
    object
}

fn pairs_text(workload: &Workload, pairs: &[Pair]) -> String {
    let mut text = "           ours       peer  ratio  (min .. max)".to_owned();
    for (measure, name, unit) in MEASURES {
        let Some(summary) = RatioSummary::of(workload, pairs, measure) else {
            continue;
        };
        let RatioSummary {
            ratio,
            min,
            max,
            ours,
            peer,
            bound,
        } = summary;
        let verdict = match bound {
            Some(bound) => format!("  at most {bound}: {}", verdict(ratio, bound)),
            None => String::new(),
        };
        let _ = write!(
            text,
            "\n  {name:4} {ours:8.3} {peer:10.3}  {ratio:5.2}  \
             ({min:.2} .. {max:.2})  {unit}{verdict}"
        );
    }
    text
}

fn pairs_json(workload: &Workload, ours: &str, peer: &str, pairs: &[Pair]) -> Value {
    let mut object = json!({ "ours": ours, "peer": peer, "pairs": pairs.len() });
    for (measure, key, unit) in MEASURES {
        let Some(summary) = RatioSummary::of(workload, pairs, measure) else {
            continue;
        };
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

fn series_text(workload: &Workload, cases: &[CaseResult]) -> String {
    let mut text = String::new();
    for CaseResult { name, rows, error } in cases {
        let _ = write!(text, "\n  {name}");
        if !rows.is_empty() {
            text += "\n                 wall          cpu   ms each       peak";
        }
        for figures in figures(workload, cases).filter(|figures| figures.case == *name) {
            let StepFigures {
                step,
                wall,
                cpu,
                each,
                growth,
                peak,
                pool,
                peak_bound,
                ..
            } = figures;
            let _ = write!(
                text,
                "\n    {step:7} {wall:8.3} s  {cpu:9.3} s  {each:8.4}  {peak:9.1}  MiB, \
                 at most {pool:.1} for the pool and {:.1}: {}",
                peak_bound - pool,
                verdict(peak, peak_bound)
            );
            if let Some(bound) = figures.growth_bound {
                let _ = write!(
                    text,
                    "; growth {growth:.2}, at most {bound}: {}",
                    verdict(growth, bound)
                );
            }
        }
        if let Some(error) = error {
            let _ = write!(text, "\n    {error}");
        }
    }
    text
}

fn series_json(workload: &Workload, cases: &[CaseResult]) -> Value {
    let steps = figures(workload, cases).map(|figures| {
        json!({
            "case": figures.case,
            "step": figures.step,
            "wall": figures.wall,
            "cpu": figures.cpu,
            "ms_each": figures.each,
            "grown": figures.growth,
            "growth_bound": figures.growth_bound,
            "growth_holds": figures.growth_bound.map(|bound| figures.growth <= bound),
            "peak": figures.peak,
            "pool": figures.pool,
            "peak_bound": figures.peak_bound,
            "peak_holds": figures.peak <= figures.peak_bound,
        })
    });
    let errors = cases.iter().filter_map(|case| {
        let mut object = error_json(case.error.as_ref()?);
        object["case"] = case.name.into();
        Some(object)
    });
    json!({ "steps": steps.chain(errors).collect::<Vec<_>>() })
}

fn delays_text(workload: &Workload, times: &[Vec<f64>]) -> String {
    let mut text = "\n               median      worst".to_owned();
    for (delay, times) in delays(workload).iter().zip(times) {
        let (median, worst) = (median(times), longest(times));
        let _ = write!(text, "\n  {:9} {median:9.3} {worst:10.3}  ms", delay.name);
        for (what, figure, bound) in [
            ("median", median, delay.median),
            ("worst", worst, delay.worst),
        ] {
            if let Some(bound) = bound {
                let _ = write!(text, "  {what} at most {bound}: {}", verdict(figure, bound));
            }
        }
    }
    text
}

fn delays_json(workload: &Workload, times: &[Vec<f64>]) -> Value {
    let mut object = json!({ "times": times[0].len() });
    for (delay, times) in delays(workload).iter().zip(times) {
        let (median, worst) = (median(times), longest(times));
        object[delay.name] = json!({
            "unit": "ms",
            "median": median,
            "median_bound": delay.median,
            "median_holds": delay.median.map(|bound| median <= bound),
            "worst": worst,
            "worst_bound": delay.worst,
            "worst_holds": delay.worst.map(|bound| worst <= bound),
        });
    }
    object
}

/// Returns the delays of a workload; empty if it measures something else.
fn delays(workload: &Workload) -> &'static [Delay] {
    if let Task::Delays { delays, .. } = workload.task {
        delays
    } else {
        &[]
    }
}

/// Returns the figures of all steps that ran, in their order.
fn figures(workload: &Workload, cases: &[CaseResult]) -> impl Iterator<Item = StepFigures> {
    let growth_bound = match workload.task {
        Task::Series { growth, .. } => growth,
        Task::Pairs { .. } | Task::Delays { .. } => None,
    };
    let rows = || {
        cases
            .iter()
            .flat_map(|case| case.rows.iter().map(|row| (case.name, row)))
    };
    rows().map(move |(case, row)| {
        let first = rows()
            .find(|(_, first)| first.step == row.step)
            .map_or(row, |(_, first)| first);
        let pool = row.most(Measure::Pool);
        StepFigures {
            case,
            step: row.step,
            wall: row.median(Measure::Wall),
            cpu: row.median(Measure::Cpu),
            each: row.each(),
            growth: row.each() / first.each(),
            growth_bound,
            peak: row.most(Measure::Peak),
            pool,
            peak_bound: pool + row.beyond_pool as f64 / f64::from(1 << 20),
        }
    })
}

fn error_json(error: &RunError) -> Value {
    match error {
        RunError::Unavailable(reason) => json!({ "skipped": reason.to_string() }),
        RunError::Peer { name, reason } => json!({ "peer": name, "skipped": reason }),
        RunError::Failed(reason) => json!({ "failed": reason }),
    }
}

fn verdict(figure: f64, bound: f64) -> &'static str {
    if figure <= bound {
        "holds"
    } else {
        "DOES NOT HOLD"
    }
}

impl RatioSummary {
    /// Summarizes one measure. Returns `None` if the pairs have no such figure.
    fn of(workload: &Workload, pairs: &[Pair], measure: Measure) -> Option<Self> {
        let figures =
            |side: fn(&Pair) -> &Usage| pairs.iter().map(move |pair| side(pair).of(measure));
        let ours: Vec<f64> = figures(|pair| &pair.ours).collect::<Option<_>>()?;
        let peer: Vec<f64> = figures(|pair| &pair.peer).collect::<Option<_>>()?;
        let ratios = sorted(ours.iter().zip(&peer).map(|(ours, peer)| ours / peer));
        Some(Self {
            ratio: median(&ratios),
            min: ratios[0],
            max: ratios[ratios.len() - 1],
            ours: median(&sorted(ours.into_iter())),
            peer: median(&sorted(peer.into_iter())),
            bound: bound(workload, measure),
        })
    }
}

/// Returns the upper bound of the ratio of `measure`, if the workload has one.
fn bound(workload: &Workload, measure: Measure) -> Option<f64> {
    let Task::Pairs { bounds, .. } = workload.task else {
        return None;
    };
    bounds
        .iter()
        .find(|bound: &&Bound| bound.measure == measure)
        .map(|bound| bound.at_most)
}

impl StepResult {
    fn sorted(&self, measure: Measure) -> Vec<f64> {
        sorted(self.runs.iter().filter_map(|run| run.of(measure)))
    }

    fn median(&self, measure: Measure) -> f64 {
        median(&self.sorted(measure))
    }

    fn most(&self, measure: Measure) -> f64 {
        longest(&self.sorted(measure))
    }

    /// Median of the wall time, in milliseconds per object.
    fn each(&self) -> f64 {
        self.median(Measure::Wall) * 1000.0 / self.objects as f64
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Returns the last of sorted values.
fn longest(sorted: &[f64]) -> f64 {
    sorted.last().copied().unwrap_or_default()
}

/// Returns the middle one of an odd number of sorted values.
fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
