//! Completions and man pages, generated in memory from the clap structures.

use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::{examples, help};

/// The first paragraph of a page's SETTINGS section.
const ABOUT_SETTINGS: &str = "A flag has precedence over the environment variable, and the variable \
    over the configuration file, which is deskbatch.toml in the current directory. deskbatch-settings(1) \
    describes every setting.";

#[derive(Debug)]
pub struct ManPage {
    /// The words of the command, joined by dashes: `deskbatch-run`.
    pub name: String,
    /// The page as roff.
    pub text: Vec<u8>,
}

impl ManPage {
    /// The name of its file.
    pub fn file_name(&self) -> String {
        format!("{}.1", self.name)
    }
}

/// The completion script of `shell`.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut help::command(), "deskbatch", &mut script);
    script
}

/// One page for deskbatch and one for each command.
pub fn man_pages() -> Vec<ManPage> {
    let mut pages = Vec::new();
    add_pages(&help::command(), "", &mut pages);
    pages
}

fn add_pages(command: &Command, before: &str, pages: &mut Vec<ManPage>) {
    let path = format!("{before} {}", command.get_name()).trim_start().to_owned();
    pages.push(ManPage { name: path.replace(' ', "-"), text: page(command, &path) });
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        add_pages(below, &path, pages);
    }
}

/// Renders one page. Errors are ignored: writing to memory cannot fail.
fn page(command: &Command, path: &str) -> Vec<u8> {
    let is_setting = |arg: &Arg| arg.get_env().is_some();
    let name = path.replace(' ', "-");
    // The short usage, instead of one with forty flags.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let plain = command.clone().display_name(&name).override_usage(usage);
    let only = |wanted: bool| {
        plain.clone().mut_args(move |arg| {
            let hidden = arg.is_hide_set() || is_setting(&arg) != wanted;
            // clap_mangen leaves out what the short help hides.
            arg.hide(hidden).hide_short_help(false)
        })
    };
    let man = |command: Command| Man::new(command).title(&name).manual("deskbatch").section("1");
    let (flags, settings) = (man(only(false)), man(only(true)));
    let mut text = Vec::new();
    let _ = flags.render_title(&mut text);
    let _ = flags.render_name_section(&mut text);
    let _ = flags.render_synopsis_section(&mut text);
    let _ = flags.render_description_section(&mut text);
    let _ = flags.render_options_section(&mut text);
    if command.get_subcommands().next().is_some() {
        let _ = flags.render_subcommands_section(&mut text);
    }
    if command.get_arguments().any(|arg| is_setting(arg) && !arg.is_hide_set()) {
        text.extend(settings_section(&settings));
    }
    text.extend(closing_sections(path));
    without_blank_lines(&text)
}

/// The settings as one section, with a subsection for each heading of the help.
fn settings_section(settings: &Man) -> Vec<u8> {
    let mut section = Vec::new();
    let mut head = Roff::default();
    head.control("SH", ["SETTINGS"]);
    head.text([roman(ABOUT_SETTINGS)]);
    let _ = head.to_writer(&mut section);
    let mut options = Vec::new();
    let _ = settings.render_options_section(&mut options);
    for line in String::from_utf8_lossy(&options).lines() {
        match line.strip_prefix(".SH ") {
            Some(heading) => section.extend(format!(".SS {}\n", capitalised(heading)).bytes()),
            None => section.extend(format!("{line}\n").bytes()),
        }
    }
    section
}

fn capitalised(word: &str) -> String {
    let word = word.trim_matches('"').to_lowercase();
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn closing_sections(path: &str) -> Vec<u8> {
    let mut roff = Roff::default();
    let examples = examples::examples(path);
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        for (what, line) in examples {
            roff.control("TP", []);
            roff.text([roman(*what)]);
            roff.text([roman(*line)]);
        }
    }
    if path == "deskbatch" {
        roff.control("SH", ["EXIT STATUS"]);
        roff.control("nf", []);
        for line in examples::exit_codes() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("fi", []);
    } else {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman("deskbatch(1), which lists the exit codes")]);
    }
    let mut text = Vec::new();
    let _ = roff.to_writer(&mut text);
    text
}

/// A blank line in roff would separate a paragraph from its option.
fn without_blank_lines(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(|line| if line.trim().is_empty() { ".sp" } else { line });
    lines.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}
