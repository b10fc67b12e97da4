//! `deskbatch usersig`: prints a UserSig for other tools.

use secrecy::ExposeSecret as _;

use super::error::{CommandError, Exit};
use crate::config::Settings;
use crate::desk::make_usersig;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::output::Output;

/// Runs the command.
pub(super) fn usersig(settings: &Settings, out: &Output) -> Result<Exit, CommandError> {
    let app = settings.app()?;
    let identifier = settings.identifier()?;
    let Some(key) = settings.secret_key() else {
        return Err(CommandError::Usage(
            "the secret key is not set: set DESKBATCH_SECRET_KEY, or secret_key in deskbatch.toml"
                .to_owned(),
        ));
    };
    let now_s = SystemClock::new().wall_ms() / 1_000;
    let usersig =
        make_usersig(&identifier, app.sdkappid, key, now_s, settings.usersig_lifetime().as_secs());
    // The only place that prints a UserSig.
    out.data(&format!("{}\n", usersig.expose_secret()))
        .map_err(CommandError::io("cannot write to stdout"))?;
    Ok(Exit::Done)
}
