//! Medians and bounds, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::runner::{CaseOutcome, Outcome, Pair, Row, Trouble, Usage};
use crate::workloads::{Bound, Delay, Measure, Task, Workload};

/// What is reported of pairs.
const MEASURES: [(Measure, &str, &str); 4] = [
    (Measure::Wall, "wall", "s"),
    (Measure::Cpu, "cpu", "s"),
    (Measure::Peak, "peak", "MiB"),
    (Measure::Size, "size", "MiB"),
];

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

/// What all runs of one step together say.
struct Figures {
    case: &'static str,
    step: &'static str,
    /// Medians, in seconds.
    wall: f64,
    cpu: f64,
    /// Median of the wall time, in milliseconds an object, and what multiple it is of that of the
    /// first such step.
    each: f64,
    growth: f64,
    /// What the growth may be at most.
    growth_bound: Option<f64>,
    /// Largest resident set and pool of all runs, and what the resident set may be at most, in MiB.
    peak: f64,
    pool: f64,
    peak_bound: f64,
}

/// A few lines for people, without the last line's end.
pub(crate) fn text(workload: &Workload, result: &Result<Outcome, Trouble>) -> String {
    let name = workload.name;
    match result {
        Ok(Outcome::Pairs { ours, peer, pairs }) => {
            format!(
                "{name}: {ours} beside {peer}, {} pairs\n{}",
                pairs.len(),
                pairs_text(workload, pairs)
            )
        }
        Ok(Outcome::Series(cases)) => format!("{name}: ours alone{}", series_text(workload, cases)),
        Ok(Outcome::Delays(times)) => {
            format!(
                "{name}: ours alone, {} times{}",
                times[0].len(),
                delays_text(workload, times)
            )
        }
        Err(trouble) => format!("{name}: {trouble}"),
    }
}

/// One JSON object.
pub(crate) fn json(workload: &Workload, result: &Result<Outcome, Trouble>) -> Value {
    let mut object = match result {
        Ok(Outcome::Pairs { ours, peer, pairs }) => pairs_json(workload, ours, peer, pairs),
        Ok(Outcome::Series(cases)) => series_json(workload, cases),
        Ok(Outcome::Delays(times)) => delays_json(workload, times),
        Err(trouble) => trouble_json(trouble),
    };
    object["workload"] = workload.name.into();
    object
}

fn pairs_text(workload: &Workload, pairs: &[Pair]) -> String {
    let mut text = "           ours       peer  ratio  (min .. max)".to_owned();
    for (measure, name, unit) in MEASURES {
        let Some(summary) = Summary::of(workload, pairs, measure) else {
            continue;
        };
        let Summary {
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
            "\n  {name:4} {ours:8.3} {peer:10.3}  {ratio:5.2}  ({min:.2} .. {max:.2})  {unit}{verdict}"
        );
    }
    text
}

fn pairs_json(workload: &Workload, ours: &str, peer: &str, pairs: &[Pair]) -> Value {
    let mut object = json!({ "ours": ours, "peer": peer, "pairs": pairs.len() });
    for (measure, key, unit) in MEASURES {
        let Some(summary) = Summary::of(workload, pairs, measure) else {
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

fn series_text(workload: &Workload, cases: &[CaseOutcome]) -> String {
    let mut text = String::new();
    for CaseOutcome {
        name,
        rows,
        trouble,
    } in cases
    {
        let _ = write!(text, "\n  {name}");
        if !rows.is_empty() {
            text += "\n                 wall          cpu   ms each       peak";
        }
        for figures in figures(workload, cases).filter(|figures| figures.case == *name) {
            let Figures {
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
                "\n    {step:7} {wall:8.3} s  {cpu:9.3} s  {each:8.4}  {peak:9.1}  MiB, at most {pool:.1} for the pool \
                 and {:.1}: {}",
                peak_bound - pool,
                verdict(peak, peak_bound)
            );
            if let Some(bound) = figures.growth_bound {
                let _ = write!(
                    text,
                    "; grown {growth:.2}, at most {bound}: {}",
                    verdict(growth, bound)
                );
            }
        }
        if let Some(trouble) = trouble {
            let _ = write!(text, "\n    {trouble}");
        }
    }
    text
}

fn series_json(workload: &Workload, cases: &[CaseOutcome]) -> Value {
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
    let troubles = cases.iter().filter_map(|case| {
        let mut object = trouble_json(case.trouble.as_ref()?);
        object["case"] = case.name.into();
        Some(object)
    });
    json!({ "steps": steps.chain(troubles).collect::<Vec<_>>() })
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

/// The delays of a workload that has some.
fn delays(workload: &Workload) -> &'static [Delay] {
    if let Task::Delays { delays, .. } = workload.task {
        delays
    } else {
        &[]
    }
}

/// All steps that were run, in their order.
fn figures(workload: &Workload, cases: &[CaseOutcome]) -> impl Iterator<Item = Figures> {
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
        Figures {
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

fn trouble_json(trouble: &Trouble) -> Value {
    match trouble {
        Trouble::Unprepared(reason) => json!({ "skipped": reason.to_string() }),
        Trouble::Peer { name, reason } => json!({ "peer": name, "skipped": reason }),
        Trouble::Failed(reason) => json!({ "failed": reason }),
    }
}

fn verdict(figure: f64, bound: f64) -> &'static str {
    if figure <= bound {
        "holds"
    } else {
        "DOES NOT HOLD"
    }
}

impl Summary {
    /// `None` if the pairs have no such figure.
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

/// The most that the ratio of `measure` may be, if there is a bound for it.
fn bound(workload: &Workload, measure: Measure) -> Option<f64> {
    let Task::Pairs { bounds, .. } = workload.task else {
        return None;
    };
    bounds
        .iter()
        .find(|bound: &&Bound| bound.measure == measure)
        .map(|bound| bound.at_most)
}

impl Row {
    fn sorted(&self, measure: Measure) -> Vec<f64> {
        sorted(self.runs.iter().filter_map(|run| run.of(measure)))
    }

    fn median(&self, measure: Measure) -> f64 {
        median(&self.sorted(measure))
    }

    fn most(&self, measure: Measure) -> f64 {
        longest(&self.sorted(measure))
    }

    /// Median of the wall time, in milliseconds an object.
    fn each(&self) -> f64 {
        self.median(Measure::Wall) * 1000.0 / self.objects as f64
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The last of sorted values.
fn longest(sorted: &[f64]) -> f64 {
    sorted.last().copied().unwrap_or_default()
}

/// The middle of an odd number of sorted values.
fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
