//! x
/// x
#[derive(Debug)]
pub struct Daemon;
/// x
#[derive(Debug)]
pub struct Attachment;
impl Attachment {
    /// x
    pub fn take(_: std::os::fd::OwnedFd) -> Result<Self, datapipe::StageError> { Ok(Self) }
}
