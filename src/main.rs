//! The command line of deskbatch: parse, log, do, and end with the right code.

use std::process::ExitCode;

use deskbatch::cli::{Cli, LogFormat};
use deskbatch::commands::{CommandError, Exit, dispatch};
use deskbatch::config::Settings;
use deskbatch::output::Output;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // A bug ends with a code that the table of codes has. What it was has been said.
    std::panic::catch_unwind(program).unwrap_or(ExitCode::from(Exit::Broken as u8))
}

fn program() -> ExitCode {
    let cli = Cli::read();
    let quiet = Output::new(false);
    let (settings, out) = match Settings::load(&cli) {
        Ok(settings) => {
            let out = Output::new(settings.quiet);
            (settings, out)
        }
        Err(e) => return end(&quiet, Err(e.into())),
    };
    if let Err(e) = start_log(&settings, &out) {
        return end(&out, Err(e));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let what = "the runtime cannot be started".to_owned();
            return end(&out, Err(CommandError::Io { what, source }));
        }
    };
    let ended = runtime.block_on(dispatch(cli, settings, &out));
    end(&out, ended)
}

fn start_log(settings: &Settings, out: &Output) -> Result<(), CommandError> {
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|e| CommandError::Wrong(format!("log: {}: {e}", settings.log)))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(out.clone());
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

fn end(out: &Output, ended: Result<Exit, CommandError>) -> ExitCode {
    let exit = ended.unwrap_or_else(|e| {
        out.must_say(&format!("deskbatch: {}", e.text()));
        e.exit()
    });
    ExitCode::from(exit as u8)
}
