//! deskbatch: a manifest in, every question settled, at the service's pace.
//!
//! The modules in the order in which a row of a manifest meets them:
//!
//! 1. [`manifest`] reads CSV bytes into [`domain::job::NewJob`]s, or says what is wrong with a row.
//! 2. [`queue`] keeps them as jobs in a durable queue, one newest intent for each question.
//! 3. [`limiter`] says when the next request may leave: the pace, the breaker, the ceiling.
//! 4. [`runner`] takes a slot, claims a chunk, sends it, judges the answer and settles it.
//! 5. [`desk`] is the remote call; [`sandbox`] is the same API on this machine.
//! 6. [`domain::verdict`] says what an answer means, from one table of codes.
//! 7. [`isolate`] finds the bad questions in a chunk that was refused; [`evidence`] decides what a
//!    rejection proves; [`limiter::retry`] says how long passing trouble is waited out.
//! 8. [`report`] writes outcomes as rows or as an HTML page, and [`dashboard`] serves that page live;
//!    [`metrics`] are for Prometheus; [`output`] is the only place that prints.
//!
//! [`domain::plan_digest`] is what a run would do, and the digest that approves it; [`eta`] says how
//! long the rest takes. [`util`] has helpers that know nothing of the domain: [`util::escape`] makes foreign
//! text safe to show, [`util::suggest`] finds the known word nearest to a mistyped one.
//! [`domain::clock`] is the only place that reads time. [`cli`], [`config`] and [`commands`] are
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
pub mod output;
pub mod queue;
pub mod report;
pub mod runner;
pub mod sandbox;
pub mod util;

/// The page for users of the library; its examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
pub struct LibraryPage;
