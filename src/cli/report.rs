//! The flags of `report` and `dashboard`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Only these jobs
    #[arg(long, value_name = "WHICH")]
    pub only: Option<ReportFilter>,

    /// Only jobs of this batch
    #[arg(long, value_name = "NUMBER")]
    pub batch: Option<i64>,

    /// CSV, which can be imported again, or JSON
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ReportFormat::Csv)]
    pub format: ReportFormat,

    /// Write to FILE instead of stdout, which is `-`
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write one page for people to FILE: what was asked, what became of it, and how it went
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "format", "output"])]
    pub html: Option<PathBuf>,

    /// Replace FILE whatever it holds, and not an unchanged earlier report alone
    #[arg(long, hide_short_help = true)]
    pub overwrite: bool,
}

#[derive(Debug, Args)]
pub struct DashboardArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(id = "dashboard_addr", long = "addr", value_name = "ADDRESS")]
    pub addr: Option<String>,
}

/// Which jobs a report has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFilter {
    /// Waiting to be sent.
    Pending,
    /// In a request without a recorded answer.
    InFlight,
    /// Taken by the service.
    Succeeded,
    /// Refused by the service, unless a later import covers their questions.
    Failed,
    /// Cancelled; one that was sent before may have been applied, and is in doubt then.
    Cancelled,
    /// Replaced by a later import.
    Superseded,
    /// Failed, and left out by `failed`: a later import covers their questions.
    FailedSuperseded,
    /// A request may have changed their question, and nothing since says whether it did.
    InDoubt,
    /// Some request that carried them lost its response, whatever has come of it since.
    ResponseLost,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A manifest with more columns.
    Csv,
    /// An array of objects, one a line.
    Json,
}
