//! Failures of calls: a status, the whole text, and the texts of the causes.

use std::error::Error;
use std::io::{self, ErrorKind};

use datapipe::archive::{OpenError, PlanError};
use datapipe::controller::AdmitError;
use datapipe::crypto::{KeyError, UnlockError};
use datapipe::host::AttachError;
use datapipe::media::MediumError;
use datapipe::memory::SegmentError;
use datapipe::pool::PortError;
use datapipe::tree::TreeError;
use datapipe::wire::DecodeError;
use datapipe_net::ClientError;
use datapipe_net::protocol::{CloseReason, RefusalCode};

use crate::status::*;

/// Most causes that a failure keeps.
const MAX_CAUSES: usize = 32;

/// Reason that a call has failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    status: dp_status,
    errno: i32,
    /// True if a stage of a pipe failed.
    is_of_stage: bool,
    /// True if a time was over.
    is_timeout: bool,
    /// The whole text, then the text of each cause, outermost first.
    chain: Vec<String>,
}

impl Failure {
    /// A failure without a cause.
    pub(crate) fn new(status: dp_status, text: impl Into<String>) -> Self {
        Self {
            status,
            errno: 0,
            is_of_stage: false,
            is_timeout: false,
            chain: vec![text.into()],
        }
    }

    /// Adds the number of a system's error.
    pub(crate) fn with_errno(mut self, errno: i32) -> Self {
        self.errno = errno;
        self
    }

    /// The failure of an operation on a named thing, with an error as its cause.
    pub(crate) fn at(name: &str, error: impl Error + 'static) -> Self {
        let mut failure = Self::from(error);
        let whole = format!("{name}: {}", failure.chain[0]);
        failure.chain.insert(0, whole);
        failure
    }

    /// Puts a name before the whole text.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.chain[0] = format!("{name}: {}", self.chain[0]);
        self
    }

    /// Appends a detail to the whole text.
    pub(crate) fn with_detail(mut self, detail: &str) -> Self {
        self.chain[0] = format!("{}; {detail}", self.chain[0]);
        self
    }

    /// True if a stage of a pipe failed, also if the status names the reason.
    pub(crate) fn is_of_stage(&self) -> bool {
        self.is_of_stage
    }

    /// True if a time was over.
    pub(crate) fn is_timeout(&self) -> bool {
        self.is_timeout
    }

    pub(crate) fn status(&self) -> dp_status {
        self.status
    }

    pub(crate) fn errno(&self) -> i32 {
        self.errno
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.chain[0]
    }

    pub(crate) fn into_chain(self) -> Vec<String> {
        self.chain
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut chain: Vec<String> = Vec::new();
        let first: &(dyn Error + 'static) = &error;
        let is_of_stage = matches!(first.downcast_ref(), Some(datapipe::Error::Stage(_)));
        let (mut status, mut errno, mut is_timeout) = (None, 0, false);
        let mut next: Option<&(dyn Error + 'static)> = Some(first);
        while let Some(error) = next.filter(|_| chain.len() < MAX_CAUSES) {
            let text = error.to_string();
            // An error that wraps another often has its text.
            if chain.last() != Some(&text) {
                chain.push(text);
            }
            // The innermost error that is known says most about the party at fault; the stage in
            // which it occurred only passes it on.
            status = status_of(error).or(status);
            if let Some(number) = errno_of(error).filter(|_| errno == 0) {
                errno = number;
            }
            is_timeout |= error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == ErrorKind::TimedOut);
            next = error.source();
        }
        Self {
            status: status.unwrap_or(DP_ERR_SYSTEM),
            errno,
            is_of_stage,
            is_timeout,
            chain,
        }
    }
}

fn errno_of(error: &(dyn Error + 'static)) -> Option<i32> {
    error.downcast_ref::<io::Error>()?.raw_os_error()
}

/// Status of an error of the library or the system; `None` if its cause says more, or it is not
/// known.
fn status_of(error: &(dyn Error + 'static)) -> Option<dp_status> {
    if let Some(error) = error.downcast_ref() {
        return status_of_pipe(error);
    }
    if let Some(error) = error.downcast_ref() {
        return Some(status_of_medium(error));
    }
    if let Some(error) = error.downcast_ref() {
        return status_of_archive(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return status_of_system(error);
    }
    if let Some(error) = error.downcast_ref() {
        return status_of_port(error);
    }
    if let Some(error) = error.downcast_ref() {
        return status_of_attach(error);
    }
    if let Some(error) = error.downcast_ref() {
        return status_of_admit(error);
    }
    if let Some(error) = error.downcast_ref() {
        return status_of_daemon(error);
    }
    if error.is::<UnlockError>() {
        return Some(match error.downcast_ref() {
            Some(UnlockError::NoMemory { .. }) => DP_ERR_MEMORY,
            _ => DP_ERR_WRONG_KEY,
        });
    }
    if error.is::<KeyError>() {
        return Some(DP_ERR_KEY_FILE);
    }
    if error.is::<PlanError>() {
        return Some(DP_ERR_ARGUMENT);
    }
    match error.downcast_ref() {
        Some(TreeError::Source { .. }) => Some(DP_ERR_SYSTEM),
        Some(_) => Some(DP_ERR_ARGUMENT),
        None => error.is::<DecodeError>().then_some(DP_ERR_NO_ARCHIVE),
    }
}

fn status_of_pipe(error: &datapipe::Error) -> Option<dp_status> {
    Some(match error {
        datapipe::Error::Refused { .. } => DP_ERR_REFUSED,
        datapipe::Error::Stage(_) => DP_ERR_STAGE,
        datapipe::Error::Segment(error) => match error {
            SegmentError::Shape(_) => DP_ERR_REFUSED,
            _ => DP_ERR_MEMORY,
        },
        datapipe::Error::Deadlock(_) => DP_ERR_DEADLOCK,
        datapipe::Error::Corrupt(_) => DP_ERR_CORRUPT,
        datapipe::Error::Cancelled => DP_ERR_CANCELLED,
        _ => DP_ERR_SYSTEM,
    })
}

fn status_of_medium(error: &MediumError) -> dp_status {
    match error {
        MediumError::NotEmpty { .. } => DP_ERR_MEDIUM_NOT_EMPTY,
        MediumError::InUse { .. } => DP_ERR_MEDIUM_IN_USE,
        MediumError::Full { .. } => DP_ERR_STORAGE_FULL,
        MediumError::NoVolumes { .. } => DP_ERR_NO_ARCHIVE,
        MediumError::VolumeTooSmall { .. } | MediumError::TextTooLong { .. } => DP_ERR_ARGUMENT,
        MediumError::NoMemory { .. } => DP_ERR_MEMORY,
        _ => DP_ERR_MEDIUM,
    }
}

fn status_of_archive(error: &OpenError) -> Option<dp_status> {
    match error {
        OpenError::NoArchive(_) | OpenError::Malformed(_) => Some(DP_ERR_NO_ARCHIVE),
        OpenError::KeyNeeded => Some(DP_ERR_KEY_NEEDED),
        OpenError::NotEncrypted => Some(DP_ERR_NOT_ENCRYPTED),
        OpenError::NoIndex(_) => Some(DP_ERR_DAMAGED),
        _ => None,
    }
}

fn status_of_port(error: &PortError) -> Option<dp_status> {
    Some(match error {
        PortError::Stopped => DP_ERR_CANCELLED,
        PortError::AtLimit { .. } => DP_ERR_LIMIT,
        PortError::Corrupt(_) => DP_ERR_CORRUPT,
        PortError::Misuse(_) | PortError::SeatTaken { .. } => DP_ERR_STATE,
        _ => return None,
    })
}

fn status_of_attach(error: &AttachError) -> Option<dp_status> {
    match error {
        AttachError::Refused => Some(DP_ERR_REFUSED),
        AttachError::Ended => Some(DP_ERR_CANCELLED),
        AttachError::NoSuchSeat(_) | AttachError::NotToAttach => Some(DP_ERR_CORRUPT),
        AttachError::Socket(_) | AttachError::System(_) => Some(DP_ERR_SYSTEM),
        _ => None,
    }
}

fn status_of_daemon(error: &ClientError) -> Option<dp_status> {
    match error {
        ClientError::Refused(refusal) => Some(match refusal.code {
            RefusalCode::NO_SUCH_PIPE => DP_ERR_NOT_FOUND,
            RefusalCode::NOT_ALLOWED => DP_ERR_PERMISSION,
            RefusalCode::BOUND | RefusalCode::TAKEN | RefusalCode::OVER => DP_ERR_STATE,
            _ => DP_ERR_REFUSED,
        }),
        ClientError::Closed { reason, .. } => Some(match *reason {
            CloseReason::ACCESS => DP_ERR_PERMISSION,
            _ => DP_ERR_REFUSED,
        }),
        ClientError::Channel(_) | ClientError::Malformed(_) | ClientError::Misbehaved(_) => {
            Some(DP_ERR_SYSTEM)
        }
        _ => None,
    }
}

fn status_of_admit(error: &AdmitError) -> Option<dp_status> {
    match error {
        AdmitError::Bound(_) | AdmitError::Taken(_) | AdmitError::Ended => Some(DP_ERR_STATE),
        AdmitError::NotAnEnd(_) => Some(DP_ERR_ARGUMENT),
        AdmitError::OtherUser { .. } => Some(DP_ERR_PERMISSION),
        AdmitError::Socket(_) | AdmitError::System(_) => Some(DP_ERR_SYSTEM),
        _ => None,
    }
}

/// Status of an error of the system; `None` for one that a library has made for its own purposes.
fn status_of_system(error: &io::Error) -> Option<dp_status> {
    match error.kind() {
        ErrorKind::NotFound => Some(DP_ERR_NOT_FOUND),
        ErrorKind::PermissionDenied => Some(DP_ERR_PERMISSION),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(DP_ERR_STORAGE_FULL),
        ErrorKind::OutOfMemory => Some(DP_ERR_MEMORY),
        _ => error.raw_os_error().map(|_| DP_ERR_SYSTEM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_that_of_the_innermost_known_cause() {
        let source = io::Error::from_raw_os_error(libc::ENOENT);
        let path = "/nowhere".into();
        let failure = Failure::at("backup", TreeError::Source { path, source });
        assert_eq!(
            (failure.status(), failure.errno()),
            (DP_ERR_NOT_FOUND, libc::ENOENT)
        );
        let chain = failure.into_chain();
        assert!(
            chain[0].starts_with("backup: cannot read /nowhere"),
            "{chain:?}"
        );
        assert_eq!(chain.len(), 3, "{chain:?}");
        assert_eq!(
            Failure::from(OpenError::KeyNeeded).status(),
            DP_ERR_KEY_NEEDED
        );
        assert_eq!(
            Failure::from(datapipe::Error::Cancelled).status(),
            DP_ERR_CANCELLED
        );
    }
}
