//! `deskbatch sandbox`: serves the API on this host until a signal.

use std::fmt::Write as _;

use super::error::{CommandError, Exit};
use super::signals;
use crate::cli::SandboxCommandArgs;
use crate::config::{Settings, sandbox_settings};
use crate::output::Output;
use crate::runner::ShutdownMode;
use crate::sandbox::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID, Sandbox};

/// Runs the command.
pub(super) async fn sandbox(
    settings: &Settings,
    args: &SandboxCommandArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let own_key = settings.secret_key().is_none();
    let sandbox = Sandbox::start(sandbox_settings(settings, &args.behaviour, Some(args.addr))?)
        .await
        .map_err(CommandError::io(format!("the sandbox cannot listen on {}", args.addr)))?;
    // Before the address is printed: a reader of it may send a signal.
    let mut shutdown = signals::listen(out, "stopping")?;
    let endpoint = sandbox.endpoint();
    let mut text = format!("export DESKBATCH_ENDPOINT={endpoint}\n");
    if own_key {
        let _ = write!(
            text,
            "export DESKBATCH_SDKAPPID={SANDBOX_SDKAPPID}\nexport DESKBATCH_IDENTIFIER={SANDBOX_IDENTIFIER}\n\
             export DESKBATCH_SECRET_KEY={SANDBOX_KEY}\n"
        );
    }
    out.data(&text).map_err(CommandError::io("cannot write to stdout"))?;
    out.info(&format!("the sandbox is listening. {endpoint}/ shows the requests that it received. Press Ctrl-C to stop it."));
    shutdown.requested(ShutdownMode::Graceful).await;
    sandbox.stop().await;
    Ok(Exit::Done)
}
