//! deskbatch: reads a manifest and sets every question to its target status, at the rate that the
//! service allows.
//!
//! The modules, in the order in which a row of a manifest passes through them:
//!
//! 1. [`manifest`] reads CSV bytes into [`domain::job::NewJob`]s, or reports what is wrong with a row.
//! 2. [`queue`] keeps them as jobs in a durable queue, with one latest job for each question.
//! 3. [`limiter`] decides when the next request may leave: pacer, breaker and rate limit.
//! 4. [`runner`] waits for a slot, claims a chunk, sends it, and settles its response.
//! 5. [`desk`] is the client of the service; [`sandbox`] serves the same API on this host.
//! 6. [`domain::verdict`] maps a response to a verdict, from one table of codes.
//! 7. [`isolate`] finds the bad questions in a chunk that was rejected as a whole; [`evidence`] decides
//!    what a rejection proves; [`limiter::retry`] sets the back-off after a transient failure.
//! 8. [`report`] writes outcomes as rows or as an HTML page, and [`dashboard`] serves that page live;
//!    [`metrics`] exports to Prometheus; [`output`] is the only module that prints.
//!
//! [`domain::plan_digest`] describes what a run would do, and its digest, by which it is approved.
//! [`eta`] estimates the remaining time. [`util`] has helpers without knowledge of the domain:
//! [`util::escape`] makes foreign text safe to show, [`util::suggest`] finds the known word nearest to
//! a mistyped one. [`domain::clock`] is the only module that reads time. [`cli`], [`config`] and
//! [`commands`] turn a command line into one of these flows, and an error into an exit code.
//! ARCHITECTURE.md has the map, and the list of what is left out on purpose.

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

/// The manual of the library; its examples run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
pub struct LibraryPage;
