//! The flags of `retry`, `cancel` and `prune`.

use std::time::Duration;

use clap::Args;

use crate::domain::clock::read_duration;

#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Only jobs that failed with this code; may be given several times
    #[arg(long, value_name = "CODE", allow_negative_numbers = true)]
    pub code: Vec<i64>,

    /// Only jobs of this batch
    #[arg(long, value_name = "NUMBER")]
    pub batch: Option<i64>,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The batch, by its number in `status`
    #[arg(long, value_name = "NUMBER")]
    pub batch: i64,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only batches that were finished longer ago, as 7d, 12h or 90m
    #[arg(long, value_name = "DURATION", value_parser = read_duration)]
    pub older_than: Duration,

    /// Say what would go, and drop nothing
    #[arg(long)]
    pub dry_run: bool,
}
