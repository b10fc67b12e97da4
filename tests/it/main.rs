//! Everything that is tested through the public surface or the binary: one test binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod binary_cron;
mod binary_crowd;
mod binary_exits;
mod binary_hostile_files;
mod binary_lapse;
mod binary_outcomes;
mod binary_plan;
mod binary_private;
mod binary_queue;
mod binary_reports;
mod binary_secrets;
mod binary_settings;
mod binary_signals;
mod binary_watch;
mod binary_words;
mod binary_wrong;
mod browser_live;
mod browser_page;
mod browser_pictures;
#[cfg(target_os = "linux")]
mod crash_points;
mod dashboard;
mod dependencies;
mod desk_pause;
mod desk_responses;
#[cfg(target_os = "linux")]
mod disk_full;
mod docs;
mod docs_commands;
mod docs_console;
mod docs_generated;
mod doctor;
#[cfg(target_os = "linux")]
mod fencing;
mod forecast_simulation;
mod fuzz_targets;
mod fuzzing;
mod hostile_answers;
mod hostile_proxy;
mod hostile_tls;
mod isolation;
mod log;
mod metrics_contrib;
mod metrics_file;
mod metrics_values;
mod migration_crash;
mod migration_faults;
mod migration_soak;
mod model;
mod model_ops;
mod model_queue;
mod names;
mod pace_simulation;
mod packaging;
mod page_file;
mod policy;
#[cfg(target_os = "linux")]
mod queue_damaged;
#[cfg(target_os = "linux")]
mod queue_log;
#[cfg(target_os = "linux")]
mod queue_names;
mod recipes;
mod runner_ending;
mod runner_evidence;
mod runner_faults;
mod runner_flow;
mod runner_isolation;
mod runner_learned;
mod runner_pace;
mod runner_poison;
mod runner_responses;
mod runner_session;
mod runner_stop;
mod settings_values;
mod shell_completions;
mod shell_config;
mod shell_help;
mod simulated_clock;
mod simulated_queue;
mod simulated_run;
mod simulated_service;
mod simulated_story;
mod simulated_world;
mod simulation;
mod store_approvals;
mod store_check;
mod store_claims;
mod store_file;
mod store_jobs;
mod store_migrations;
mod store_overview;
mod store_returns;
mod store_runs;
mod store_schema;
mod store_settle;
mod streams;
mod support;
mod support_binary;
mod support_browser;
mod support_core;
#[cfg(target_os = "linux")]
mod support_crash;
mod support_docs;
mod support_events;
mod support_metrics;
mod support_migration;
mod support_runner;
mod support_service;
mod support_terminal;
mod support_turn;
mod tidy;
mod turns;
