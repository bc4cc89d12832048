//! The list of a medium.

use datapipe::archive::Sessions;

use crate::failure::Failure;
use crate::status::DP_ERR_NO_ARCHIVE;

use super::archive::log_damage;
use super::hooks::Hooks;
use super::medium::Medium;
use super::read::report_damage;
use super::secret::SecretSource;

/// Lists the sessions and archives of a medium, with the names that a secret opens. Damage that the
/// list has met is reported as problems, and logged.
pub(crate) fn list_sessions(
    medium: &Medium,
    secret: Option<&SecretSource>,
    hooks: &Hooks,
) -> Result<Sessions, Failure> {
    hooks.check()?;
    let secret = secret.map(SecretSource::read).transpose()?;
    hooks.check()?;
    let failure = |error| medium.open_failure(error);
    let sessions = Sessions::read(medium.open()?).map_err(failure)?;
    hooks.check()?;
    if sessions.sessions().is_empty() && medium.bytes() > 0 && !medium.is_labelled() {
        let text = "has no session that can be read; is it a medium of archives?";
        return Err(medium.failure(DP_ERR_NO_ARCHIVE, text));
    }
    let mut sessions = sessions.with_sources(medium.open()?).map_err(failure)?;
    hooks.check()?;
    if let Some(secret) = secret {
        let named = sessions.with_names(medium.open()?, &secret);
        sessions = named.map_err(failure)?;
        hooks.check()?;
    }
    log_damage(medium, sessions.damage());
    report_damage(sessions.damage(), hooks);
    Ok(sessions)
}
