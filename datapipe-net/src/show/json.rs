//! Lists and statuses for machines. A key, once there, stays and keeps its meaning.

use std::time::Duration;

use datapipe::Direction;
use serde_json::{Value, json};

use crate::protocol::{InstanceStatus, PipeEntry, PipeStatus, StageStatus};

/// One pipe of a list.
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
        "elapsed_s": entry.elapsed.as_secs_f64(),
    })
}

/// A pipe and its stages. Rates are those since `before`, a status of the same pipe, or since its
/// beginning.
pub fn status_json(now: &PipeStatus, before: Option<&PipeStatus>) -> Value {
    let lately = match before.filter(|_| !now.entry.state.is_over()) {
        Some(before) => now.since(before),
        None => now.clone(),
    };
    let elapsed = lately.entry.elapsed;
    let mut value = entry_json(&now.entry);
    value["buffers"] = now.buffers.into();
    value["free_buffers"] = now.free.into();
    value["bytes"] = now.bytes().into();
    value["bytes_per_s"] = lately.rate().into();
    value["limited_by"] = lately.bottleneck().map(|limit| limit.stage).into();
    let stages = now
        .stages
        .iter()
        .zip(&lately.stages)
        .map(|(now, lately)| stage(now, lately, elapsed));
    value["stages"] = stages.collect::<Vec<_>>().into();
    value
}

fn stage(now: &StageStatus, lately: &StageStatus, elapsed: Duration) -> Value {
    let rate = |bytes: u64| bytes as f64 / elapsed.as_secs_f64().max(1e-9);
    json!({
        "name": now.name,
        "queued": now.queued,
        "busy": lately.busy(),
        "bytes_in_per_s": rate(lately.bytes_in()),
        "bytes_out_per_s": rate(lately.bytes_out()),
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
