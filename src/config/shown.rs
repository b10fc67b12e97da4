//! The settings for people to look at: names, values as they hold, and no secret.

use std::time::Duration;

use super::Settings;
use crate::job::App;
use crate::runner::FailuresMax;

impl Settings {
    /// Each setting that shapes a run, with its value in words. Of secrets it is said whether
    /// they are set, and the log's filter is left out, since a filter may hold anything.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let raw = &self.raw;
        let app = self.app().unwrap_or(App { sdkappid: 0, library: self.library() });
        let runner = self.runner(app, false, None);
        let timeouts = self.timeouts();
        let or_unset = |text: Option<String>| text.unwrap_or_else(|| "not set".to_owned());
        let secret = |set: bool| if set { "set, not shown" } else { "not set" }.to_owned();
        let place = raw.region.clone().or_else(|| raw.endpoint.clone());
        let place = if self.rehearsal { Some("the sandbox".to_owned()) } else { place };
        let mut shown = vec![
            ("database", self.database.display().to_string()),
            ("sdkappid", or_unset(raw.sdkappid.map(|number| number.to_string()))),
            ("identifier", or_unset(raw.identifier.clone())),
            ("library", self.library().to_string()),
            (if raw.endpoint.is_some() { "endpoint" } else { "region" }, or_unset(place)),
        ];
        shown.extend([
            ("rate", format!("{} a second", self.rate())),
            ("chunk", format!("{} questions", self.chunk())),
            ("in_flight", runner.in_flight_max.to_string()),
            ("attempts", runner.attempts_max.to_string()),
            ("unknown_max", runner.unknown_max.to_string()),
            ("max_failures", failures_max(runner.failures_max)),
            ("outage_s", seconds(runner.outage_max)),
            ("grace_s", seconds(runner.grace)),
            ("connect_timeout_ms", format!("{} ms", timeouts.connect.as_millis())),
            ("timeout_ms", format!("{} ms", timeouts.total.as_millis())),
            ("usersig_lifetime_s", format!("{} s", self.usersig_lifetime_s())),
            ("secret_key", secret(raw.secret_key.is_some())),
            ("usersig", secret(raw.usersig.is_some())),
            ("dashboard_token", secret(raw.dashboard_token.is_some())),
        ]);
        shown
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn failures_max(max: Option<FailuresMax>) -> String {
    match max {
        None => "none".to_owned(),
        Some(FailuresMax::Jobs(jobs)) => jobs.to_string(),
        // In millionths of a percent.
        #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
        Some(FailuresMax::Percent(part)) => format!("{}%", part as f64 / 1e6),
    }
}
