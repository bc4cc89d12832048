//! The list of a medium.

use datapipe::archive::Sessions;

use crate::failure::Failure;
use crate::status::DP_ERR_NO_ARCHIVE;

use super::medium::Medium;
use super::secret::SecretSource;

/// Lists the sessions and archives of a medium, with the names that a secret opens.
pub(crate) fn list_sessions(
    medium: &Medium,
    secret: Option<&SecretSource>,
) -> Result<Sessions, Failure> {
    let secret = secret.map(SecretSource::read).transpose()?;
    let failure = |error| medium.open_failure(error);
    let sessions = Sessions::read(medium.open()?).map_err(failure)?;
    if sessions.sessions().is_empty() && medium.bytes() > 0 {
        let text = "has no session that can be read; is it a medium of archives?";
        return Err(medium.failure(DP_ERR_NO_ARCHIVE, text));
    }
    let sessions = sessions.with_sources(medium.open()?).map_err(failure)?;
    match secret {
        None => Ok(sessions),
        Some(secret) => sessions
            .with_names(medium.open()?, &secret)
            .map_err(failure),
    }
}
