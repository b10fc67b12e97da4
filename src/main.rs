//! The program: parses the command line, starts the log, runs the command, exits with its code.

use std::path::Path;
use std::process::ExitCode;

use deskbatch::cli::{Cli, Command, LogFormat};
use deskbatch::commands::{
    CommandError, Exit, check_log_file, dispatch, with_invalid_settings, without_settings,
};
use deskbatch::config::{Settings, unknown_variables};
use deskbatch::output::{LogTarget, Output};

fn main() -> ExitCode {
    // The panic hook has printed the message; the exit code is one of the documented ones.
    std::panic::catch_unwind(program).unwrap_or(ExitCode::from(Exit::Broken as u8))
}

fn program() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(usage) => return print_usage(&usage),
    };
    let out = Output::new(cli.settings.quiet.unwrap_or(false));
    if cli.command.needs_no_settings() {
        return end(&out, without_settings(&cli.command, &cli.sources, &out));
    }
    let settings = match Settings::load(&cli) {
        Ok(settings) => settings,
        Err(e) => {
            // The log format from the command line or the environment applies to this error too.
            let json = cli.settings.log_format == Some(LogFormat::Json);
            let target = LogTarget { json, file: None };
            let out = out.clone().with_log("warn", &target).unwrap_or(out);
            return end(&out, with_invalid_settings(&cli.command, e, &out));
        }
    };
    let out = Output::new(settings.quiet);
    if let Err(e) = check_log_file(&cli.command, &settings) {
        return end(&out, Err(e));
    }
    let target = LogTarget {
        json: settings.log_format == LogFormat::Json,
        file: settings.log_file().map(Path::to_owned),
    };
    let out = match out.clone().with_log(&settings.log, &target) {
        Ok(out) => out,
        Err(e) => return end(&out, Err(e.into())),
    };
    warn_of_unknown_variables(&cli, &out);
    // One thread for all I/O; blocking and computing work has threads of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let what = "cannot start the runtime".to_owned();
            return end(&out, Err(CommandError::Io { what, source }));
        }
    };
    let result = runtime.block_on(dispatch(cli, settings, &out));
    // Does not wait for a blocking name lookup, which may take minutes.
    runtime.shutdown_background();
    end(&out, result)
}

/// Prints the help, the version, or the error of the command line.
fn print_usage(usage: &clap::Error) -> ExitCode {
    let out = Output::new(false);
    let text = usage.render();
    let shown = out.usage(&text.to_string(), &text.ansi().to_string(), usage.use_stderr());
    let exit = if usage.use_stderr() { Exit::Usage } else { Exit::Done };
    let what = "cannot write to stdout".to_owned();
    end(&out, shown.map(|()| exit).map_err(|source| CommandError::Io { what, source }))
}

/// Warns of unknown variables: a mistyped one would otherwise be ignored silently.
fn warn_of_unknown_variables(cli: &Cli, out: &Output) {
    if matches!(cli.command, Command::Doctor(_)) {
        // Doctor has its own findings for them.
        return;
    }
    for unknown in unknown_variables() {
        let text = format!("warning: {unknown}");
        // Without a suggestion the variable may belong to another program: no output with --quiet.
        if unknown.meant.is_some() { out.warn(&text) } else { out.info(&text) }
    }
}

fn end(out: &Output, result: Result<Exit, CommandError>) -> ExitCode {
    let exit = result.unwrap_or_else(|e| {
        let text = format!("error: {}", e.text());
        // Another run does the work: no output with --quiet.
        if e.exit() == Exit::Busy {
            out.info(&text);
        } else {
            out.error(&text);
        }
        e.exit()
    });
    out.report_lost_lines();
    ExitCode::from(exit as u8)
}
