//! The HTML report. Pure: data in, HTML out.
//!
//! One file that loads nothing and sends nothing: its content security policy allows only its own style
//! and script, by their hashes. Served live, it may also read the event stream of its server. maud
//! escapes every text; foreign text goes through [`visible`](crate::util::escape::visible) first. The
//! page works without JavaScript.

mod chart;
mod format;
mod overview;
mod tables;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::page_data::{PageData, PageInfo};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const LIVE_SCRIPT: &str = include_str!("live.js");

/// The icon, inline, so that browsers do not request one.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect \
                    width='16' height='16' rx='3' fill='%230b5cad'/%3E%3Cpath d='M3 5h10M3 8h10M3 11h6' \
                    stroke='white' stroke-width='1.5'/%3E%3C/svg%3E";

/// The beginning of the title of every page.
pub const TITLE_START: &str = "deskbatch - ";

/// Where the page is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageTarget {
    /// A static file.
    File,
    /// A server that sends the changes after this generation.
    Live {
        /// The generation of the sections.
        generation: u64,
    },
}

/// A part of the page that is replaced at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The id of its element.
    pub id: &'static str,
    /// The element.
    pub html: String,
}

/// The content security policy, for the header and the page.
pub fn policy(target: PageTarget) -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let (script, extra) = match target {
        PageTarget::File => (script(target), ""),
        PageTarget::Live { .. } => (script(target), "; connect-src 'self'"),
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'{extra}",
        hash(STYLE),
        hash(&script)
    )
}

fn script(target: PageTarget) -> String {
    match target {
        PageTarget::File => SCRIPT.to_owned(),
        PageTarget::Live { .. } => format!("{SCRIPT}{LIVE_SCRIPT}"),
    }
}

/// The sections, in the order of the page.
pub fn sections(data: &PageData, info: &PageInfo) -> Vec<Section> {
    let section = |id, markup: Markup| Section { id, html: markup.into_string() };
    vec![
        section("outcome", overview::outcome(data, info)),
        section("sending", overview::sending(data, info)),
        section("statuses", overview::statuses(data)),
        section("codes", overview::codes(data, info)),
        section("failed", tables::failed(data, info)),
        section("batches", tables::batches(data)),
        section("runs", tables::runs(data)),
        section("learned", tables::learned(data)),
        section("settings", tables::settings(info)),
        section("made", tables::made(data, info)),
    ]
}

/// The complete page.
pub fn page(data: &PageData, info: &PageInfo, target: PageTarget) -> String {
    render(&sections(data, info), info, target)
}

/// The complete page of sections that [`sections`] returned.
pub fn render(sections: &[Section], info: &PageInfo, target: PageTarget) -> String {
    let part = |id: &str| {
        let found = sections.iter().find(|section| section.id == id);
        PreEscaped(found.map_or("", |section| section.html.as_str()))
    };
    let generation = match target {
        PageTarget::File => None,
        PageTarget::Live { generation } => Some(generation),
    };
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy(target));
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (TITLE_START) (tables::scope(info)) }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body data-generation=[generation] {
                header {
                    p.brand { "deskbatch" }
                    p.scope { (tables::scope(info)) }
                    p #live role="status" { @if generation.is_some() { "state at page load" } }
                }
                main {
                    (part("outcome"))
                    (part("sending"))
                    (part("statuses"))
                    (part("codes"))
                    section aria-labelledby="failed-title" {
                        h2 #failed-title { "Failed questions" }
                        (tables::search())
                        (part("failed"))
                    }
                    (part("batches"))
                    (part("runs"))
                    (part("learned"))
                    (part("settings"))
                }
                footer { (part("made")) }
                script { (PreEscaped(script(target))) }
            }
        }
    };
    markup.into_string()
}

#[cfg(test)]
mod tests;
