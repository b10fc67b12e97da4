//! deskbatch: a manifest in, every question settled, at the service's pace.
//!
//! The modules in the order in which a row of a manifest meets them:
//!
//! 1. [`manifest`] reads CSV bytes into [`domain::job::NewJob`]s, or says what is wrong with a row.
//! 2. [`store`] keeps them as jobs in a durable queue, one newest intent for each question.
//! 3. [`limiter`] says when the next request may leave: the pace, the breaker, the ceiling.
//! 4. [`runner`] takes a slot, claims a chunk, sends it, judges the answer and settles it.
//! 5. [`desk`] is the remote call; [`sandbox`] is the same API on this machine.
//! 6. [`domain::verdict`] says what an answer means, from one table of codes.
//! 7. [`isolate`] finds the bad questions in a chunk that was refused; [`evidence`] decides what a
//!    rejection proves; [`limiter::retry`] says how long passing trouble is waited out.
//! 8. [`report`] writes outcomes, as rows or as a page, and [`dashboard`] serves that page live;
//!    [`metrics`] has figures for machines; [`output`] is the only place that prints.
//!
//! [`plan`] is what a run would do and what somebody approves of it; [`eta`] says how long the
//! rest takes; [`nearest`] finds the word that was meant; [`text`] makes text of strangers safe to
//! look at. [`domain::clock`] is the only place that reads time. [`cli`], [`config`] and [`commands`] are
//! the edge, where a command line becomes one of these flows and an error an exit code.
//! ARCHITECTURE.md has the map and what is absent from it on purpose.

pub mod cli;
pub mod commands;
pub mod config;
pub mod dashboard;
pub mod desk;
pub mod domain;
pub mod eta;
pub mod evidence;
pub mod isolate;
pub mod limiter;
pub mod manifest;
pub mod metrics;
pub mod nearest;
pub mod output;
pub mod plan;
pub mod report;
pub mod runner;
pub mod sandbox;
pub mod store;
pub mod text;

/// The page for whoever uses the library: its examples are run with the other tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
pub struct LibraryPage;
