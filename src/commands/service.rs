//! One service for an app in a queue: outcomes, doubts and the learned rate are true of the service
//! that the jobs were sent to, and of no other.

use super::CommandError;
use crate::config::Settings;
use crate::domain::job::App;
use crate::runner::RunReport;
use crate::store::Store;
use crate::text::path_text;

/// The service that a run sends to.
pub(super) struct Service {
    app: App,
    /// As it is shown, and what tells it from others with the same host.
    endpoint: String,
    /// What the queue had noted before.
    earlier: Option<String>,
}

impl Service {
    /// The service that the settings name, if the queue has sent the app's jobs to no other, or
    /// `is_same` says that both are one.
    pub(super) async fn of(
        settings: &Settings,
        is_same: bool,
        store: &Store,
    ) -> Result<Self, CommandError> {
        let app = settings.app()?;
        let endpoint = match settings.endpoint()? {
            Some(endpoint) => format!("{endpoint} {}", endpoint.mark()),
            None => "sandbox".to_owned(),
        };
        let noted = store.endpoint_of(app).await?;
        match &noted {
            Some(noted) if *noted != endpoint && !is_same => {
                Err(other_service(settings, app, noted, &endpoint))
            }
            _ => Ok(Self { app, endpoint, earlier: noted }),
        }
    }

    /// Notes it before anything is sent to it.
    pub(super) async fn note(&self, store: &Store) -> Result<(), CommandError> {
        if self.is_noted() {
            return Ok(());
        }
        Ok(store.note_endpoint(self.app, &self.endpoint).await?)
    }

    /// Forgets it where the run has reached nothing there: a wrong address binds no queue.
    pub(super) async fn conclude(
        &self,
        report: &RunReport,
        store: &Store,
    ) -> Result<(), CommandError> {
        if self.is_noted() {
            return Ok(());
        }
        Ok(store.forget_endpoint(self.app, report.run, self.earlier.as_deref()).await?)
    }

    fn is_noted(&self) -> bool {
        self.earlier.as_ref() == Some(&self.endpoint)
    }
}

fn other_service(settings: &Settings, app: App, noted: &str, endpoint: &str) -> CommandError {
    let host = |endpoint: &str| endpoint.split(' ').next().unwrap_or_default().to_owned();
    let (noted, endpoint) = (host(noted), host(endpoint));
    let paths = if noted == endpoint { ", under another path" } else { "" };
    CommandError::Wrong(format!(
        "the jobs of application {}, library {}, in {} were sent to {noted}, and this run would send to \
         {endpoint}{paths}: nothing was imported, nothing was sent\n\
         another service needs a queue of its own: name one with --database; if both addresses lead to the same \
         service, say so once with --same-service",
        app.sdkappid,
        app.library,
        path_text(&settings.database)
    ))
}
