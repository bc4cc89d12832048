//! Lists and statuses as JSON. A key that exists stays and keeps its meaning.

use std::time::Duration;

use datapipe::Direction;
use serde_json::{Value, json};

use crate::protocol::{InstanceStatus, PipeEntry, PipeStatus, StageStatus};

/// Entry of a list as a JSON object.
pub fn entry_json(entry: &PipeEntry) -> Value {
    json!({
        "pipe": entry.name,
        "label": entry.label,
        "uid": entry.owner,
        "direction": match entry.direction {
            Direction::Archive => "archive",
            Direction::Restore => "restore",
        },
        "state": entry.state.to_string(),
        "explanation": entry.explanation,
        "problems": entry.problems,
        "elapsed_s": entry.elapsed.as_secs_f64(),
    })
}

/// Status of a pipe and its stages as a JSON object. Rates cover the time since `before`, an
/// earlier status of the same pipe, or since its beginning.
pub fn status_json(now: &PipeStatus, before: Option<&PipeStatus>) -> Value {
    // The rates of a pipe that has ended are its averages.
    let recent = match before.filter(|_| !now.entry.state.is_final()) {
        Some(before) => now.since(before),
        None => now.clone(),
    };
    let elapsed = recent.entry.elapsed;
    let mut value = entry_json(&now.entry);
    value["buffers"] = now.buffers.into();
    value["free_buffers"] = now.free.into();
    value["bytes"] = now.bytes().into();
    value["bytes_per_s"] = recent.rate().into();
    value["limited_by"] = recent.bottleneck().map(|limit| limit.stage).into();
    let stages = now
        .stages
        .iter()
        .zip(&recent.stages)
        .map(|(now, recent)| stage(now, recent, elapsed));
    value["stages"] = stages.collect::<Vec<_>>().into();
    value
}

fn stage(now: &StageStatus, recent: &StageStatus, elapsed: Duration) -> Value {
    let rate = |bytes: u64| bytes as f64 / elapsed.as_secs_f64().max(1e-9);
    json!({
        "name": now.name,
        "queued": now.queued,
        "busy": recent.busy(),
        "bytes_in_per_s": rate(recent.bytes_in()),
        "bytes_out_per_s": rate(recent.bytes_out()),
        "instances": now.instances.iter().map(instance).collect::<Vec<_>>(),
    })
}

fn instance(instance: &InstanceStatus) -> Value {
    json!({
        "activity": instance.activity.to_string(),
        "blocks_in": instance.blocks_in,
        "bytes_in": instance.bytes_in,
        "blocks_out": instance.blocks_out,
        "bytes_out": instance.bytes_out,
        "held": instance.held,
        "outstanding": instance.outstanding,
        "waited_for_buffer_s": instance.waited_for_buffer.as_secs_f64(),
        "waited_for_input_s": instance.waited_for_input.as_secs_f64(),
        "working_s": instance.working.as_secs_f64(),
        "pid": instance.process,
        "processes": instance.processes,
    })
}
