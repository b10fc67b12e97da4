//! The command line of deskbatch: parse, log, do, and end with the right code.

use std::path::Path;
use std::process::ExitCode;

use deskbatch::cli::{Cli, Command, LogFormat};
use deskbatch::commands::{CommandError, Exit, dispatch, with_wrong_settings, without_settings};
use deskbatch::config::{Settings, unknown_variables};
use deskbatch::output::{LogTo, Output};

fn main() -> ExitCode {
    // A bug ends with a code that the table of codes has. What it was has been said.
    std::panic::catch_unwind(program).unwrap_or(ExitCode::from(Exit::Broken as u8))
}

fn program() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(usage) => return explain(&usage),
    };
    let out = Output::new(cli.settings.quiet.unwrap_or(false));
    if cli.command.needs_no_settings() {
        return end(&out, without_settings(&cli.command, &cli.given, &out));
    }
    let settings = match Settings::load(&cli) {
        Ok(settings) => settings,
        Err(e) => {
            // What the command line and the environment say of the log holds all the same.
            let json = cli.settings.log_format == Some(LogFormat::Json);
            let to = LogTo { json, file: None };
            let out = out.clone().with_log("warn", &to).unwrap_or(out);
            return end(&out, with_wrong_settings(&cli.command, e, &out));
        }
    };
    let out = Output::new(settings.quiet);
    let to = LogTo {
        json: settings.log_format == LogFormat::Json,
        file: settings.log_file().map(Path::to_owned),
    };
    let out = match out.clone().with_log(&settings.log, &to) {
        Ok(out) => out,
        Err(e) => return end(&out, Err(e.into())),
    };
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

/// Shows the help, the version, or what is wrong with the command line.
fn explain(usage: &clap::Error) -> ExitCode {
    let out = Output::new(false);
    let text = usage.render();
    let shown = out.usage(&text.to_string(), &text.ansi().to_string(), usage.use_stderr());
    let exit = if usage.use_stderr() { Exit::Wrong } else { Exit::Done };
    let what = "stdout cannot be written".to_owned();
    end(&out, shown.map(|()| exit).map_err(|source| CommandError::Io { what, source }))
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
        let text = format!("deskbatch: {}", e.text());
        // Another run does the work: cron need not hear of it.
        if e.exit() == Exit::Busy {
            out.say(&text);
        } else {
            out.fail(&text);
        }
        e.exit()
    });
    out.tell_lost();
    ExitCode::from(exit as u8)
}
