//! The command line of deskbatch: parse, log, do, and end with the right code.

use std::process::ExitCode;

use deskbatch::cli::{Cli, Command, LogFormat};
use deskbatch::commands::{CommandError, Exit, dispatch, with_wrong_settings, without_settings};
use deskbatch::config::{Settings, unknown_variables};
use deskbatch::output::Output;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // A bug ends with a code that the table of codes has. What it was has been said.
    std::panic::catch_unwind(program).unwrap_or(ExitCode::from(Exit::Broken as u8))
}

fn program() -> ExitCode {
    let cli = Cli::read();
    let out = Output::new(cli.settings.quiet.unwrap_or(false));
    if cli.command.needs_no_settings() {
        return end(&out, without_settings(&cli.command, &cli.given, &out));
    }
    let (settings, out) = match Settings::load(&cli) {
        Ok(settings) => {
            let out = Output::new(settings.quiet);
            (settings, out)
        }
        Err(e) => return end(&out, with_wrong_settings(&cli.command, e, &out)),
    };
    if let Err(e) = start_log(&settings, &out) {
        return end(&out, Err(e));
    }
    warn_of_unknown_variables(&cli, &out);
    // One thread is enough for all that waits; what computes or may block has its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let what = "the runtime cannot be started".to_owned();
            return end(&out, Err(CommandError::Io { what, source }));
        }
    };
    let ended = runtime.block_on(dispatch(cli, settings, &out));
    // A name that is still being looked up would keep the process until the resolver gives up.
    runtime.shutdown_background();
    end(&out, ended)
}

fn start_log(settings: &Settings, out: &Output) -> Result<(), CommandError> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|e| {
        CommandError::Wrong(format!(
            "log: {}: {e}: use error, warn, info, debug or trace, or a filter as deskbatch=debug",
            settings.log
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(out.clone())
        .with_ansi(out.has_colours());
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// A mistyped variable would be passed over in silence, and the run would not be what was meant.
fn warn_of_unknown_variables(cli: &Cli, out: &Output) {
    if matches!(cli.command, Command::Doctor(_)) {
        // It says so in a line of its own.
        return;
    }
    for unknown in unknown_variables() {
        let text = format!("deskbatch: {unknown}");
        // Without a guess it may well be somebody else's, and cron need not hear of it.
        if unknown.meant.is_some() { out.must_say(&text) } else { out.say(&text) }
    }
}

fn end(out: &Output, ended: Result<Exit, CommandError>) -> ExitCode {
    let exit = ended.unwrap_or_else(|e| {
        out.must_say(&format!("deskbatch: {}", e.text()));
        e.exit()
    });
    ExitCode::from(exit as u8)
}
