//! The page: what was asked and what became of it, for people. Pure: facts in, HTML out.
//!
//! One file that loads nothing and sends nothing: its policy allows the style and the script
//! that stand in it, by their hashes, and no other. Served live, it may also listen to the
//! server that it came from. Every text goes through the templates' escaping, and text of
//! strangers through [`visible`](crate::text::visible) first. It works without its script.

mod chart;
mod figures;
mod lists;
mod words;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::facts::{About, Facts};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const LIVE_SCRIPT: &str = include_str!("live.js");

/// A picture for the browser's tab, so that none is asked for.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect \
                    width='16' height='16' rx='3' fill='%230b5cad'/%3E%3Cpath d='M3 5h10M3 8h10M3 11h6' \
                    stroke='white' stroke-width='1.5'/%3E%3C/svg%3E";

/// Where the page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a file that stays as it is.
    File,
    /// From a server that sends what changes after this generation of sections.
    Live {
        /// See above.
        generation: u64,
    },
}

/// A part of the page that is replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The id of its element.
    pub id: &'static str,
    /// The element.
    pub html: String,
}

/// What the page may do, for the header or the page itself.
pub fn policy(place: Place) -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let (script, extra) = match place {
        Place::File => (script(place), ""),
        Place::Live { .. } => (script(place), "; connect-src 'self'"),
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'{extra}",
        hash(STYLE),
        hash(&script)
    )
}

fn script(place: Place) -> String {
    match place {
        Place::File => SCRIPT.to_owned(),
        Place::Live { .. } => format!("{SCRIPT}{LIVE_SCRIPT}"),
    }
}

/// The parts of the page, in its order.
pub fn sections(facts: &Facts, about: &About) -> Vec<Section> {
    let section = |id, markup: Markup| Section { id, html: markup.into_string() };
    vec![
        section("outcome", figures::outcome(facts, about)),
        section("sending", figures::sending(facts, about)),
        section("statuses", figures::statuses(facts)),
        section("codes", figures::codes(facts, about)),
        section("refused", lists::refused(facts, about)),
        section("batches", lists::batches(facts)),
        section("runs", lists::runs(facts)),
        section("learned", lists::learned(facts)),
        section("settings", lists::settings(about)),
        section("made", lists::made(facts, about)),
    ]
}

/// The whole page.
pub fn page(facts: &Facts, about: &About, place: Place) -> String {
    whole(&sections(facts, about), about, place)
}

/// The page of `sections`, which are those of [`sections`].
pub fn whole(sections: &[Section], about: &About, place: Place) -> String {
    let part = |id: &str| {
        let found = sections.iter().find(|section| section.id == id);
        PreEscaped(found.map_or("", |section| section.html.as_str()))
    };
    let generation = match place {
        Place::File => None,
        Place::Live { generation } => Some(generation),
    };
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy(place));
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "deskbatch: " (lists::scope(about)) }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body data-generation=[generation] {
                header {
                    p.brand { "deskbatch" }
                    p.scope { (lists::scope(about)) }
                    p #live role="status" { @if generation.is_some() { "as of when it was loaded" } }
                }
                main {
                    (part("outcome"))
                    (part("sending"))
                    (part("statuses"))
                    (part("codes"))
                    section aria-labelledby="refused-title" {
                        h2 #refused-title { "Refused questions" }
                        (lists::search())
                        (part("refused"))
                    }
                    (part("batches"))
                    (part("runs"))
                    (part("learned"))
                    (part("settings"))
                }
                footer { (part("made")) }
                script { (PreEscaped(script(place))) }
            }
        }
    };
    markup.into_string()
}

#[cfg(test)]
mod tests;
