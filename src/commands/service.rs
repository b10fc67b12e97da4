//! One service for each app of a queue: outcomes, doubts and learned limits hold for the service
//! that the jobs were sent to, and for no other. Here "service" means its endpoint.

use crate::commands::error::CommandError;
use crate::config::Settings;
use crate::domain::job::App;
use crate::queue::Queue;
use crate::runner::RunReport;
use crate::util::escape::path_text;

/// The service that a run sends to.
pub(in crate::commands) struct Service {
    app: App,
    /// The host, and a mark that distinguishes several base URLs on one host.
    endpoint: String,
    /// The endpoint that the queue had noted before this run.
    noted_before: Option<String>,
}

impl Service {
    /// The service that the settings name.
    ///
    /// # Errors
    /// When the queue notes another one for the app, unless `is_same` says that both are one.
    pub(in crate::commands) async fn of(
        settings: &Settings,
        is_same: bool,
        queue: &Queue,
    ) -> Result<Self, CommandError> {
        let app = settings.app()?;
        let endpoint = match settings.endpoint()? {
            Some(endpoint) => format!("{endpoint} {}", endpoint.mark()),
            None => "sandbox".to_owned(),
        };
        let noted = queue.endpoint(app).await?;
        match &noted {
            Some(noted) if *noted != endpoint && !is_same => {
                Err(other_service(settings, app, noted, &endpoint))
            }
            _ => Ok(Self { app, endpoint, noted_before: noted }),
        }
    }

    /// Notes the endpoint in the queue, before the first request.
    pub(in crate::commands) async fn note(&self, queue: &Queue) -> Result<(), CommandError> {
        if self.is_noted() {
            return Ok(());
        }
        Ok(queue.set_endpoint(self.app, &self.endpoint).await?)
    }

    /// Restores the earlier note if the run received no response, so that a mistyped address does not bind
    /// the queue.
    pub(in crate::commands) async fn conclude(
        &self,
        report: &RunReport,
        queue: &Queue,
    ) -> Result<(), CommandError> {
        if self.is_noted() {
            return Ok(());
        }
        Ok(queue.restore_endpoint(self.app, report.run, self.noted_before.as_deref()).await?)
    }

    fn is_noted(&self) -> bool {
        self.noted_before.as_ref() == Some(&self.endpoint)
    }
}

fn other_service(settings: &Settings, app: App, noted: &str, endpoint: &str) -> CommandError {
    let host = |endpoint: &str| endpoint.split(' ').next().unwrap_or_default().to_owned();
    let (noted, endpoint) = (host(noted), host(endpoint));
    let paths = if noted == endpoint { ", under another path" } else { "" };
    CommandError::Usage(format!(
        "the jobs of app {}, library {}, in {} were sent to {noted}, but this run would send to {endpoint}{paths}. Nothing \
         was imported or sent.\n\
         For another service, name another queue with --database. If both addresses lead to the same service, add \
         --same-service once.",
        app.sdkappid,
        app.library,
        path_text(&settings.database)
    ))
}
