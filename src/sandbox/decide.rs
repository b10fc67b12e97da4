//! What the service responds: request, state and time in; response and new state out.
//!
//! Pure. The order of the checks is a guess, because the real one is not documented: path, query, UserSig,
//! administrator, Desk, frequency, JSON, values, ids. Time must not go backwards. The transport of a
//! response, and its failures, are not decided here.

use super::call::{Call, Command, Request};
use super::faults::Fault;
use super::state::{NO_SUCH_QUESTION, Page, QuestionStatus, ServiceState};
use super::usersig;
use crate::domain::clock::Moment;

/// The gateway cannot read the request: method, `random`, `contenttype`, escapes.
///
/// The vendor supports only POST and promises HTTP 200 for everything but network faults. So another method
/// gets this code and not HTTP status 405.
const BAD_REQUEST: i64 = 60_002;
const NO_SUCH_APP_NUMBER: i64 = 60_006;
const TIMED_OUT_INSIDE: i64 = 60_008;
const WRONG_PATH: i64 = 60_009;
const NO_SDKAPPID: i64 = 60_012;
const BAD_VALUES: i64 = -7;
const DESK_OFF: i64 = -50_040;
/// Two codes that no document lists.
const UNKNOWN: [i64; 2] = [-59_991, -59_992];

/// Both clocks: the frequency limit uses the steady one, the lifetime of a UserSig uses the wall clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) moment: Moment,
    pub(super) wall_ms: i64,
}

/// The decision about a request, and the values that could be read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) command: Option<Command>,
    pub(super) sdkappid: Option<u64>,
    pub(super) random: Option<u32>,
    pub(super) status: Option<i64>,
    pub(super) ids: Vec<String>,
    /// `None` if the request failed before a code was assigned.
    pub(super) code: Option<i64>,
    /// Whether any question was changed.
    pub(super) applied: bool,
    /// The fault injected into the request.
    pub(super) fault: Option<Fault>,
    /// The result of a read.
    pub(super) page: Option<Page>,
}

/// Decides one request. `fault` is the fault injected into it.
pub(super) fn decide(
    request: &Request<'_>,
    state: &mut ServiceState,
    fault: Option<Fault>,
    now: Now,
) -> Decision {
    let call = Call::read(request);
    if let Some(command) = call.command {
        state.frequency.arrive((call.query.app().unwrap_or_default(), command), now.moment);
    }
    let fault = fault.or_else(|| state.fault_of(&call.body.ids));
    let outcome = if request.body.is_none() {
        // The body was too large to read, so a gateway in front of the service rejected it.
        None
    } else if call.command.is_some_and(Command::is_read) {
        Some(read(&call, state, now))
    } else {
        judge(&call, state, fault, now).map(|(code, applied)| (code, applied, None))
    };
    let (code, applied, page) = match outcome {
        None => (None, false, None),
        Some((code, applied, page)) => (Some(code), applied, page),
    };
    Decision {
        command: call.command,
        sdkappid: call.query.app(),
        random: call.query.random(),
        status: call.body.status,
        ids: call.body.ids,
        code,
        applied,
        fault,
        page,
    }
}

/// Decides a read. Returns the code, `false` because a read changes nothing, and the page.
fn read(call: &Call, state: &mut ServiceState, now: Now) -> (i64, bool, Option<Page>) {
    let page = admit(call, state, None, now).and_then(|()| {
        if state.is_lapsed(now.moment) {
            return Err(NO_SUCH_QUESTION);
        }
        if !call.body.is_json {
            return Err(state.settings.json_code.code());
        }
        let (index, size) = call.body.page;
        let positive = |n: Option<i64>| n.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let status = match call.body.status {
            None => None,
            Some(4) => Some(QuestionStatus::Enabled),
            Some(5) => Some(QuestionStatus::Disabled),
            Some(_) => return Err(BAD_VALUES),
        };
        match (positive(index), positive(size)) {
            (Some(index), Some(size)) => Ok(state.page(status, index, size)),
            _ => Err(BAD_VALUES),
        }
    });
    match page {
        Ok(page) => (0, false, Some(page)),
        Err(code) => (code, false, None),
    }
}

/// The code, and whether any question was changed; `None` if the fault precedes the code.
fn judge(
    call: &Call,
    state: &mut ServiceState,
    fault: Option<Fault>,
    now: Now,
) -> Option<(i64, bool)> {
    let admitted = admit(call, state, fault, now);
    if matches!(fault, Some(Fault::BadGateway | Fault::CutBefore)) {
        return None;
    }
    let outcome = admitted.and_then(|()| {
        let lapsed = state.is_lapsed(now.moment);
        state.calls += 1;
        match fault {
            _ if lapsed => Err(NO_SUCH_QUESTION),
            Some(Fault::Internal) => Err(TIMED_OUT_INSIDE),
            Some(Fault::Malformed) => Err(BAD_VALUES),
            Some(Fault::Unknown) => Err(UNKNOWN[0]),
            Some(Fault::UnknownOther) => Err(UNKNOWN[1]),
            Some(Fault::Rejected) => Err(NO_SUCH_QUESTION),
            Some(Fault::RejectedApplied) => {
                carry_out(call, state).map(|(_, applied)| (NO_SUCH_QUESTION, applied))
            }
            _ => carry_out(call, state),
        }
    });
    Some(outcome.unwrap_or_else(|code| (code, false)))
}

/// Every check before the body: whether this caller may make the call now.
fn admit(call: &Call, state: &mut ServiceState, fault: Option<Fault>, now: Now) -> Result<(), i64> {
    let settings = &state.settings;
    let command = call.command.ok_or(WRONG_PATH)?;
    let sdkappid = check_query(call)?;

    let identifier = call.query.identifier.as_deref().unwrap_or_default();
    let usersig = call.query.usersig.as_deref().unwrap_or_default();
    usersig::verify(usersig, identifier, sdkappid, settings.apps.key(sdkappid), now.wall_ms)?;

    if !settings.administrators.contains(identifier) {
        return Err(settings.admin_code.code());
    }
    if settings.desk_off.contains(&sdkappid) {
        return Err(DESK_OFF);
    }
    // Replaces the frequency check, so that an injected rejection uses up no real limit.
    if fault == Some(Fault::Throttle) || !state.frequency.admit((sdkappid, command), now.moment) {
        return Err(settings.rate_code.code());
    }
    Ok(())
}

/// Checks the method and every parameter except credentials. Returns the SDKAppID.
fn check_query(call: &Call) -> Result<u64, i64> {
    let query = &call.query;
    if !call.is_post || query.is_malformed {
        return Err(BAD_REQUEST);
    }
    if query.sdkappid.as_deref().unwrap_or_default().is_empty() {
        return Err(NO_SDKAPPID);
    }
    let sdkappid = query.app().ok_or(NO_SUCH_APP_NUMBER)?;
    if query.contenttype.as_deref() != Some("json") || query.random().is_none() {
        return Err(BAD_REQUEST);
    }
    Ok(sdkappid)
}

/// Checks the body (JSON, values, ids) and applies the change.
fn carry_out(call: &Call, state: &mut ServiceState) -> Result<(i64, bool), i64> {
    let (body, settings) = (&call.body, &state.settings);
    if !body.is_json {
        return Err(settings.json_code.code());
    }
    let target = body.status.and_then(QuestionStatus::asked_by).ok_or(BAD_VALUES)?;
    if !body.ids_are_acceptable {
        return Err(BAD_VALUES);
    }
    let max_ids = state.max_ids();
    if max_ids > 0 && body.ids.len() > max_ids {
        return Err(settings.too_many_code);
    }
    let changed = state.change(&body.ids, target);
    Ok((changed.code, changed.applied))
}

#[cfg(test)]
mod tests;
