//! Origin of an archive: its name, and the names of the host and the program that wrote it.

use crate::wire::ArchiveHeader;

/// Origin of an archive: its name, and the names of the host and the program that wrote it, each at
/// most 255 bytes. They are in clear, also if the archive is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveOrigin {
    /// Name of the archive.
    pub name: String,
    /// Name of the host that wrote it.
    pub host: String,
    /// Name of the program that wrote it.
    pub program: String,
}

impl ArchiveOrigin {
    /// The origin in the header of an archive.
    pub(super) fn of_header(header: &ArchiveHeader) -> Self {
        Self {
            name: header.name.clone(),
            host: header.host.clone(),
            program: header.program.clone(),
        }
    }
}
