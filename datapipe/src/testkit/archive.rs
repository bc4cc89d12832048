//! The stages of an archive, apart.

use crate::archive::{Archive, separate_stages};
use crate::media::MediumWriter;
use crate::stage::{MiddleStage, TailStage};

/// Returns the stage that encrypts, if the archive has a key, and the tail that writes to `medium`:
/// for tests that put a stage between the two, or use one without the other.
/// [`PipeBuilder::archive`](crate::PipeBuilder::archive) adds both to a pipe, in the right order,
/// and the stage that closes the gaps of dropped blocks.
///
/// # Panics
///
/// If the archive has special headers: the stage that sends them is not one of these two.
pub fn archive_stages<'a>(
    archive: Archive,
    medium: impl MediumWriter + 'a,
) -> (Option<MiddleStage<'a>>, TailStage<'a>) {
    assert!(
        !archive.has_specials(),
        "the archive has special headers, which only PipeBuilder::archive sends"
    );
    separate_stages(archive, medium)
}
