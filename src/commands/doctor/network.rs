//! Checks whether the service can be reached, and this machine's clock.
//!
//! Resolves the host name and requests the host's front page through the client of the calls. Makes
//! no call of the API and sends no credential. Every check ends within the timeouts of the settings.

use std::time::Duration;

use super::Finding;
use crate::cli::SandboxArgs;
use crate::commands::error::Exit;
use crate::config::{Settings, Timeouts, sandbox_settings};
use crate::desk::{
    ConnectError, Endpoint, ProbeResult, Route, host_to_resolve, probe, resolve, route,
};
use crate::domain::clock::{Clock, SystemClock, read_http_date_ms};
use crate::domain::verdict::ResponseKind;
use crate::sandbox::Sandbox;

/// A larger clock offset makes UserSigs that the service may refuse, in seconds.
const OFF_BAD_S: i64 = 60;

/// A larger clock offset is a warning, in seconds.
const OFF_WARN_S: i64 = 10;

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let clock = SystemClock::new();
    if settings.is_sandbox_run {
        return vec![check_sandbox(settings).await];
    }
    // Without an endpoint the account is incomplete, which is a finding of its own.
    let Ok(Some(endpoint)) = settings.endpoint() else { return Vec::new() };
    let timeouts = settings.timeouts();
    let route = match route(&endpoint) {
        Ok(route) => route,
        Err(error) => return vec![Finding::bad("proxy", Exit::Usage, error.to_string())],
    };
    let mut findings = proxy_findings(&route, &endpoint);
    let mut is_resolved = true;
    // A proxy resolves the name itself.
    if let Some(host) = host_to_resolve(&endpoint)
        && !matches!(route, Route::Through(_))
    {
        let finding = check_dns(&clock, &host, timeouts.connect).await;
        is_resolved = finding.level == super::Level::Ok;
        findings.push(finding);
    }
    if is_resolved {
        findings.extend(check_host(&clock, &endpoint, &route, timeouts).await);
    }
    findings
}

/// How the client uses the proxy variables; empty if none is set.
fn proxy_findings(route: &Route, endpoint: &Endpoint) -> Vec<Finding> {
    let text = match route {
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
    vec![Finding::ok("proxy", text)]
}

async fn check_dns(clock: &SystemClock, host: &str, limit: Duration) -> Finding {
    let began = clock.now();
    let looked = tokio::select! {
        looked = resolve(host) => looked.map_err(|error| error.to_string()),
        () = clock.sleep_until(began + limit) => Err(format!("no answer in {} ms", limit.as_millis())),
    };
    let took_ms = clock.now().since(began).as_millis();
    match looked {
        Ok(addresses) if !addresses.is_empty() => {
            let shown: Vec<String> = addresses.iter().take(3).map(ToString::to_string).collect();
            Finding::ok("name", format!("{host} is {}, found in {took_ms} ms", shown.join(", ")))
        }
        Ok(_) => dns_error(host, "it has no address"),
        Err(why) => dns_error(host, &why),
    }
}

fn dns_error(host: &str, why: &str) -> Finding {
    Finding::bad(
        "name",
        Exit::Stopped,
        format!(
            "{host} cannot be looked up: {why}: check the region or endpoint, this machine's DNS and network, or name a \
             proxy in HTTPS_PROXY"
        ),
    )
}

async fn check_host(
    clock: &SystemClock,
    endpoint: &Endpoint,
    route: &Route,
    timeouts: Timeouts,
) -> Vec<Finding> {
    let (began, began_ms) = (clock.now(), clock.wall_ms());
    let met = probe(endpoint, route, timeouts.connect, timeouts.total).await;
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
            vec![Finding::ok("host", text), check_clock(&met, began_ms.saturating_add(half_ms))]
        }
        Err(obstacle) => vec![connect_error(endpoint, &obstacle, timeouts)],
    }
}

fn connect_error(endpoint: &Endpoint, obstacle: &ConnectError, timeouts: Timeouts) -> Finding {
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

/// Compares the host's date with this machine's clock, which was `here_ms` at that time.
fn check_clock(met: &ProbeResult, here_ms: i64) -> Finding {
    let Some(date_ms) = met.date.as_deref().and_then(read_http_date_ms) else {
        return Finding::warn(
            "clock",
            "the host does not say what time it is: compare this machine's clock by hand (date -u)",
        );
    };
    // The date has whole seconds, so its second's middle is the best estimate.
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
    if off_s.abs() > OFF_WARN_S {
        return Finding::warn("clock", format!("{text}: set it right (timedatectl set-ntp true)"));
    }
    Finding::ok("clock", format!("{text}; up to {OFF_BAD_S} s do no harm"))
}

/// Whether a sandbox run could reach its own sandbox.
async fn check_sandbox(settings: &Settings) -> Finding {
    let check = "sandbox";
    let wanted = match sandbox_settings(settings, &SandboxArgs::default(), None) {
        Ok(wanted) => wanted,
        Err(error) => return Finding::from_error(check, &error.into()),
    };
    let sandbox = match Sandbox::start(wanted).await {
        Ok(sandbox) => sandbox,
        Err(error) => {
            let text =
                format!("cannot listen on this machine: {error}: is 127.0.0.1 there and allowed?");
            return Finding::bad(check, Exit::Broken, text);
        }
    };
    let timeouts = settings.timeouts();
    let met = match sandbox.endpoint().parse::<Endpoint>() {
        Ok(endpoint) => probe(&endpoint, &Route::Direct, timeouts.connect, timeouts.total).await,
        Err(reason) => Err(ConnectError::Other(reason)),
    };
    sandbox.stop().await;
    match met {
        Ok(_) => Finding::ok(check, "starts, listens and answers"),
        Err(why) => Finding::bad(check, Exit::Broken, format!("does not answer: {why:?}")),
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
    fn clock_offset_is_a_warning_or_bad() {
        let date = met(Some("Wed, 01 Jan 2025 00:00:00 GMT"));
        for (off_s, level, part) in [
            (0, Level::Ok, "0 s"),
            (9, Level::Ok, "8 s ahead of"),
            (-9, Level::Ok, "9 s behind"),
            (30, Level::Warn, "ahead of"),
            (-61, Level::Bad(Exit::Refused), "61 s behind"),
            (600, Level::Bad(Exit::Refused), "599 s ahead of"),
        ] {
            let finding = check_clock(&date, DATE_MS + off_s * 1_000);
            assert_eq!(finding.level, level, "{off_s}: {}", finding.text);
            assert!(finding.text.contains(part), "{off_s}: {}", finding.text);
        }
        for date in [None, Some("soon")] {
            assert_eq!(check_clock(&met(date), DATE_MS).level, Level::Warn);
        }
        // Impossible times do not overflow.
        check_clock(&date, i64::MIN);
        check_clock(&date, i64::MAX);
    }
}
