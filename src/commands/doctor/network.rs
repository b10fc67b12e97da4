//! Whether the service would be reached, and whether this machine's clock is right.
//!
//! The name is looked up and the host's front page asked for, over the client that calls go
//! through; no call of the API is made, no credential is sent. Every look ends in the
//! settings' time.

use std::time::Duration;

use super::Finding;
use crate::cli::SandboxArgs;
use crate::commands::Exit;
use crate::config::{Settings, Timeouts, sandbox_settings};
use crate::desk::{
    ConnectError, Endpoint, ProbeResult, Route, host_to_resolve, probe, resolve, route,
};
use crate::domain::clock::{Clock, SystemClock, read_http_date_ms};
use crate::domain::verdict::ResponseKind;
use crate::sandbox::Sandbox;

/// A clock that is off by more makes UserSigs that the service may refuse, in seconds.
const OFF_BAD_S: i64 = 60;

/// One that is off by more is told, in seconds.
const OFF_TOLD_S: i64 = 10;

/// Looks at what lies between here and the service.
pub(super) async fn look(settings: &Settings) -> Vec<Finding> {
    let clock = SystemClock::new();
    if settings.rehearsal {
        return vec![of_sandbox(settings).await];
    }
    // Without one the account is incomplete, which was said.
    let Ok(Some(endpoint)) = settings.endpoint() else { return Vec::new() };
    let timeouts = settings.timeouts();
    let way = match route(&endpoint) {
        Ok(way) => way,
        Err(error) => return vec![Finding::bad("proxy", Exit::Wrong, error.to_string())],
    };
    let mut findings = of_route(&way, &endpoint);
    let mut found = true;
    // A proxy looks up the name by itself.
    if let Some(host) = host_to_resolve(&endpoint)
        && !matches!(way, Route::Through(_))
    {
        let finding = of_name(&clock, &host, timeouts.connect).await;
        found = finding.level == super::Level::Well;
        findings.push(finding);
    }
    if found {
        findings.extend(of_host(&clock, &endpoint, &way, timeouts).await);
    }
    findings
}

/// What the client makes of the variables that name proxies; nothing where none is set.
fn of_route(way: &Route, endpoint: &Endpoint) -> Vec<Finding> {
    let text = match way {
        Route::Direct => return Vec::new(),
        Route::Around { variable, exception: Some(exception) } => {
            format!("{variable} is not used: {exception} makes an exception of {endpoint}")
        }
        Route::Around { variable, exception: None } => {
            format!("{variable} is not used: {endpoint} is this machine")
        }
        Route::Through(proxy) => format!(
            "calls go through {}, which {} names; it looks up the host",
            proxy.shown, proxy.variable
        ),
    };
    vec![Finding::well("proxy", text)]
}

async fn of_name(clock: &SystemClock, host: &str, limit: Duration) -> Finding {
    let began = clock.now();
    let looked = tokio::select! {
        looked = resolve(host) => looked.map_err(|error| error.to_string()),
        () = clock.sleep_until(began + limit) => Err(format!("no answer in {} ms", limit.as_millis())),
    };
    let took_ms = clock.now().since(began).as_millis();
    match looked {
        Ok(addresses) if !addresses.is_empty() => {
            let shown: Vec<String> = addresses.iter().take(3).map(ToString::to_string).collect();
            Finding::well("name", format!("{host} is {}, found in {took_ms} ms", shown.join(", ")))
        }
        Ok(_) => no_name(host, "it has no address"),
        Err(why) => no_name(host, &why),
    }
}

fn no_name(host: &str, why: &str) -> Finding {
    Finding::bad(
        "name",
        Exit::Stopped,
        format!(
            "{host} cannot be looked up: {why}: check the region or endpoint, this machine's DNS and network, or name a \
             proxy in HTTPS_PROXY"
        ),
    )
}

async fn of_host(
    clock: &SystemClock,
    endpoint: &Endpoint,
    way: &Route,
    timeouts: Timeouts,
) -> Vec<Finding> {
    let (began, began_ms) = (clock.now(), clock.wall_ms());
    let met = probe(endpoint, way, timeouts.connect, timeouts.total).await;
    let took = clock.now().since(began);
    match met {
        Ok(met) => {
            let how = if endpoint.is_encrypted() { "the certificate is good; " } else { "" };
            let text = format!(
                "{endpoint}: {how}answered in {} ms, with HTTP status {}; no call was made",
                took.as_millis(),
                met.http_status
            );
            let half_ms = i64::try_from(took.as_millis() / 2).unwrap_or(0);
            vec![Finding::well("host", text), of_clock(&met, began_ms.saturating_add(half_ms))]
        }
        Err(obstacle) => vec![of_obstacle(endpoint, &obstacle, timeouts)],
    }
}

fn of_obstacle(endpoint: &Endpoint, obstacle: &ConnectError, timeouts: Timeouts) -> Finding {
    let text = match obstacle {
        ConnectError::Refused => format!(
            "{endpoint} refuses the connection: check the endpoint and its port, and whether a firewall is between"
        ),
        ConnectError::TimedOut => format!(
            "{endpoint} did not answer in time (connection {} ms, all {} ms): a firewall may be between; name a proxy in \
             HTTPS_PROXY, or give --connect-timeout-ms and --timeout-ms more",
            timeouts.connect.as_millis(),
            timeouts.total.as_millis()
        ),
        ConnectError::Certificate(why) => format!(
            "{endpoint} shows a certificate that is not trusted: {why}: {}",
            ResponseKind::Certificate.advice()
        ),
        ConnectError::Proxy(why) => format!("{why}: {}", ResponseKind::Proxy.advice()),
        ConnectError::NoCertificates(why) => why.clone(),
        ConnectError::Other(why) => {
            format!("{endpoint} cannot be reached: {why}: check the network")
        }
    };
    let exit = if matches!(obstacle, ConnectError::NoCertificates(_)) {
        Exit::Broken
    } else {
        Exit::Stopped
    };
    Finding::bad("host", exit, text)
}

/// The host's date against this machine's clock, which stood at `here_ms` then.
fn of_clock(met: &ProbeResult, here_ms: i64) -> Finding {
    let Some(date_ms) = met.date.as_deref().and_then(read_http_date_ms) else {
        return Finding::doubtful(
            "clock",
            "the host does not say what time it is: compare this machine's clock by hand (date -u)",
        );
    };
    // The date has whole seconds, and stands for the whole of its second.
    let off_s = here_ms.saturating_sub(date_ms.saturating_add(500)) / 1_000;
    let way = if off_s < 0 { "behind" } else { "ahead of" };
    let text = format!("this machine is {} s {way} the host", off_s.abs());
    if off_s.abs() > OFF_BAD_S {
        return Finding::bad(
            "clock",
            Exit::Refused,
            format!(
                "{text}: a UserSig is good by the clock, so set it right (timedatectl set-ntp true)"
            ),
        );
    }
    if off_s.abs() > OFF_TOLD_S {
        return Finding::doubtful(
            "clock",
            format!("{text}: set it right (timedatectl set-ntp true)"),
        );
    }
    Finding::well("clock", format!("{text}; up to {OFF_BAD_S} s do no harm"))
}

/// A rehearsal meets nobody but its own sandbox.
async fn of_sandbox(settings: &Settings) -> Finding {
    let what = "sandbox";
    let wanted = match sandbox_settings(settings, &SandboxArgs::default(), None) {
        Ok(wanted) => wanted,
        Err(error) => return Finding::of(what, &error.into()),
    };
    let sandbox = match Sandbox::start(wanted).await {
        Ok(sandbox) => sandbox,
        Err(error) => {
            let text =
                format!("cannot listen on this machine: {error}: is 127.0.0.1 there and allowed?");
            return Finding::bad(what, Exit::Broken, text);
        }
    };
    let timeouts = settings.timeouts();
    let met = match sandbox.endpoint().parse::<Endpoint>() {
        Ok(endpoint) => probe(&endpoint, &Route::Direct, timeouts.connect, timeouts.total).await,
        Err(reason) => Err(ConnectError::Other(reason)),
    };
    sandbox.stop().await;
    match met {
        Ok(_) => Finding::well(what, "starts, listens and answers"),
        Err(why) => Finding::bad(what, Exit::Broken, format!("does not answer: {why:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const DATE_MS: i64 = 1_735_689_600_000;

    fn met(date: Option<&str>) -> ProbeResult {
        ProbeResult { http_status: 200, date: date.map(str::to_owned) }
    }

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off() {
        let date = met(Some("Wed, 01 Jan 2025 00:00:00 GMT"));
        for (off_s, level, part) in [
            (0, Level::Well, "0 s"),
            (9, Level::Well, "8 s ahead of"),
            (-9, Level::Well, "9 s behind"),
            (30, Level::Doubtful, "ahead of"),
            (-61, Level::Bad(Exit::Refused), "61 s behind"),
            (600, Level::Bad(Exit::Refused), "599 s ahead of"),
        ] {
            let finding = of_clock(&date, DATE_MS + off_s * 1_000);
            assert_eq!(finding.level, level, "{off_s}: {}", finding.text);
            assert!(finding.text.contains(part), "{off_s}: {}", finding.text);
        }
        for date in [None, Some("soon")] {
            assert_eq!(of_clock(&met(date), DATE_MS).level, Level::Doubtful);
        }
        // What no clock shows does not overflow.
        of_clock(&date, i64::MIN);
        of_clock(&date, i64::MAX);
    }
}
