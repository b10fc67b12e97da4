//! The flags of `report` and `dashboard`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Only jobs in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<ReportFilter>,

    /// Only jobs of this batch
    #[arg(long, value_name = "NUMBER")]
    pub batch: Option<i64>,

    /// The format: csv (can be imported again) or json
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ReportFormat::Csv)]
    #[arg(hide_possible_values = true)]
    pub format: ReportFormat,

    /// Write to FILE instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write an HTML page to FILE, with the totals, the failed questions and the course of the runs
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state", "format", "output"])]
    pub html: Option<PathBuf>,

    /// Replace FILE whatever it contains
    ///
    /// Without this flag only an unchanged earlier report is replaced.
    #[arg(long, hide_short_help = true)]
    pub overwrite: bool,
}

#[derive(Debug, Args)]
pub struct DashboardArgs {
    /// Address to listen on; port 0 takes a free port
    #[arg(id = "dashboard_addr", long = "addr", value_name = "ADDRESS")]
    pub addr: Option<String>,
}

/// Which jobs a report has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFilter {
    /// Not sent yet.
    Pending,
    /// In a request whose response is not recorded.
    InFlight,
    /// Applied by the service.
    Succeeded,
    /// Rejected by the service, and not replaced by a later import.
    Failed,
    /// Cancelled; may be in doubt if it was sent before.
    Cancelled,
    /// Replaced by a later import.
    Superseded,
    /// Rejected by the service, and replaced by a later import.
    FailedSuperseded,
    /// A request may have changed the question, and no later response says whether it did.
    InDoubt,
    /// The response of a request with this job was lost, whatever happened later.
    ResponseLost,
}

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A manifest with more columns.
    Csv,
    /// An array of objects, one per line.
    Json,
}
