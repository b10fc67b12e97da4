//! The flags of `retry`, `cancel` and `prune`.

use std::time::Duration;

use clap::Args;

use crate::domain::clock::read_duration;

#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Only jobs that failed with this error code; can be repeated
    #[arg(long, value_name = "CODE", allow_negative_numbers = true)]
    pub code: Vec<i64>,

    /// Only jobs of this batch
    #[arg(long, value_name = "NUMBER")]
    pub batch: Option<i64>,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The number of the batch, as `deskbatch status` shows it
    #[arg(long, value_name = "NUMBER")]
    pub batch: i64,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only batches that finished longer ago than this, e.g. 90d or 12h
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = read_duration)]
    pub older_than: Duration,

    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
}
