//! Checks whether the service can be reached, and the clock of this host.
//!
//! Resolves the name of the service's host and requests its front page through the client of a run.
//! Makes no API call and sends no credentials. Every check ends within the timeouts of the settings.

use std::time::Duration;

use super::Finding;
use crate::cli::SandboxArgs;
use crate::commands::error::Exit;
use crate::config::{Settings, Timeouts, sandbox_settings};
use crate::desk::{
    ConnectError, Endpoint, ProbeResult, Route, host_to_resolve, probe, resolve, route,
};
use crate::domain::clock::{Clock, SystemClock, duration_text, read_http_date_ms};
use crate::domain::verdict::ResponseKind;
use crate::sandbox::Sandbox;

/// A larger clock offset makes UserSigs that the service may reject, in seconds.
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
        Err(error) => return vec![Finding::error("proxy", Exit::Usage, error.to_string())],
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
            format!("{variable} is not used: {exception} excludes {endpoint}")
        }
        Route::Around { variable, exception: None } => {
            format!("{variable} is not used: {endpoint} is this host")
        }
        Route::Through(proxy) => format!(
            "requests go through {} (set by {}), which resolves the host name",
            proxy.shown, proxy.variable
        ),
    };
    vec![Finding::ok("proxy", text)]
}

async fn check_dns(clock: &SystemClock, host: &str, limit: Duration) -> Finding {
    let began = clock.now();
    let looked = tokio::select! {
        looked = resolve(host) => looked.map_err(|error| error.to_string()),
        () = clock.sleep_until(began + limit) => Err(format!("no response in {}", duration_text(limit))),
    };
    let took_ms = clock.now().since(began).as_millis();
    match looked {
        Ok(addresses) if !addresses.is_empty() => {
            let shown: Vec<String> = addresses.iter().take(3).map(ToString::to_string).collect();
            Finding::ok("name", format!("{host} is {}, resolved in {took_ms} ms", shown.join(", ")))
        }
        Ok(_) => dns_error(host, "it has no address"),
        Err(why) => dns_error(host, &why),
    }
}

fn dns_error(host: &str, why: &str) -> Finding {
    Finding::error(
        "name",
        Exit::Stopped,
        format!(
            "cannot resolve {host}: {why}. Check the region or endpoint, and the DNS and network of this host, or name \
             a proxy in HTTPS_PROXY"
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
            let how = if endpoint.is_encrypted() { "the certificate is valid; " } else { "" };
            let text = format!(
                "{endpoint}: {how}response in {} ms, HTTP status {}; no API call was made",
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
            "cannot connect to {endpoint}: connection refused. Check the endpoint and its port, and whether a firewall \
             blocks it"
        ),
        ConnectError::TimedOut => format!(
            "no response from {endpoint} within --connect-timeout {} and --timeout {}. A firewall may block it: name a \
             proxy in HTTPS_PROXY, or increase the timeouts",
            duration_text(timeouts.connect),
            duration_text(timeouts.total)
        ),
        ConnectError::Certificate(why) => format!(
            "the certificate of {endpoint} is not trusted: {why}. What to do: {}",
            ResponseKind::Certificate.advice()
        ),
        ConnectError::Proxy(why) => {
            format!("{why}. What to do: {}", ResponseKind::Proxy.advice())
        }
        ConnectError::NoCertificates(why) => why.clone(),
        ConnectError::Other(why) => {
            format!("cannot reach {endpoint}: {why}. Check the network")
        }
    };
    let exit = if matches!(obstacle, ConnectError::NoCertificates(_)) {
        Exit::Broken
    } else {
        Exit::Stopped
    };
    Finding::error("host", exit, text)
}

/// Compares the date of the service with the clock of this host, which was `here_ms` at that time.
fn check_clock(met: &ProbeResult, here_ms: i64) -> Finding {
    let Some(date_ms) = met.date.as_deref().and_then(read_http_date_ms) else {
        return Finding::warning(
            "clock",
            "the response of the service has no date. Compare the clock of this host by hand (`date -u`)",
        );
    };
    // The date has whole seconds, so its second's middle is the best estimate.
    let off_s = here_ms.saturating_sub(date_ms.saturating_add(500)) / 1_000;
    let way = if off_s < 0 { "behind" } else { "ahead of" };
    let text = format!("the clock of this host is {} s {way} the service", off_s.abs());
    if off_s.abs() > OFF_BAD_S {
        return Finding::error(
            "clock",
            Exit::Rejected,
            format!(
                "{text}, so the service may reject the UserSig. Correct the clock (`timedatectl set-ntp true`)"
            ),
        );
    }
    if off_s.abs() > OFF_WARN_S {
        return Finding::warning(
            "clock",
            format!("{text}. Correct the clock (`timedatectl set-ntp true`)"),
        );
    }
    Finding::ok("clock", format!("{text}; up to {OFF_BAD_S} s is harmless"))
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
            let text = format!(
                "cannot start the sandbox on 127.0.0.1: {error}. Check that this host has a loopback interface and may \
                 listen on it"
            );
            return Finding::error(check, Exit::Broken, text);
        }
    };
    let timeouts = settings.timeouts();
    let met = match sandbox.endpoint().parse::<Endpoint>() {
        Ok(endpoint) => probe(&endpoint, &Route::Direct, timeouts.connect, timeouts.total).await,
        Err(reason) => Err(ConnectError::Other(reason)),
    };
    sandbox.stop().await;
    match met {
        Ok(_) => Finding::ok(check, "starts, listens and responds"),
        Err(why) => {
            Finding::error(check, Exit::Broken, format!("the sandbox does not respond: {why:?}"))
        }
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
            (30, Level::Warning, "ahead of"),
            (-61, Level::Error(Exit::Rejected), "61 s behind"),
            (600, Level::Error(Exit::Rejected), "599 s ahead of"),
        ] {
            let finding = check_clock(&date, DATE_MS + off_s * 1_000);
            assert_eq!(finding.level, level, "{off_s}: {}", finding.text);
            assert!(finding.text.contains(part), "{off_s}: {}", finding.text);
        }
        for date in [None, Some("soon")] {
            assert_eq!(check_clock(&met(date), DATE_MS).level, Level::Warning);
        }
        // Impossible times do not overflow.
        check_clock(&date, i64::MIN);
        check_clock(&date, i64::MAX);
    }
}
