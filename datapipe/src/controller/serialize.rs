//! Values in the serialized forms of statuses, reports and events.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use serde::ser::{SerializeStruct as _, Serializer};

use crate::memory::InstanceId;

/// Writes a duration as a number of seconds.
pub(super) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Writes an exit status as its code or its signal, the other of which is null.
pub(super) fn exit_status<S: Serializer>(
    status: &Option<ExitStatus>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(status) = status else {
        return serializer.serialize_none();
    };
    let mut fields = serializer.serialize_struct("ExitStatus", 2)?;
    fields.serialize_field("code", &status.code())?;
    fields.serialize_field("signal", &status.signal())?;
    fields.end()
}

/// Writes an instance as its index among the instances of its stage.
pub(super) fn index<S: Serializer>(id: &InstanceId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(id.index())
}
