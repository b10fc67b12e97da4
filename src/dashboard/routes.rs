//! What can be asked for, and the headers on every answer. One guard stands before all of it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::Semaphore;

use super::access::{Access, Admission};
use super::hub::{Hub, whole_text};
use super::places::Admitted;
use super::stream;
use crate::domain::clock::Clock;
use crate::metrics;
use crate::report::html::{Place, Section, policy, whole};

/// The most who listen for changes at once.
const CLIENTS_MAX: usize = 32;

/// What the handlers have.
pub(super) struct Served<C> {
    hub: Arc<Hub<C>>,
    places: Arc<Semaphore>,
}

/// Everything that is served, what machines read too: all of it stands behind the same guard.
pub(super) fn router<C: Clock>(hub: Arc<Hub<C>>, access: Access) -> Router {
    let served = Arc::new(Served { hub, places: Arc::new(Semaphore::new(CLIENTS_MAX)) });
    Router::new()
        .route("/", get(page::<C>))
        .route("/events", get(events::<C>))
        .route("/healthz", get(health::<C>))
        .route("/metrics", get(figures::<C>))
        .fallback(nothing)
        .with_state(served)
        .layer(from_fn_with_state(Arc::new(access), guard))
}

/// Looks who asks, and for what, and says to browsers what they may do with the answer.
async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let admission = access.admit(request.uri(), request.headers());
    if let (Admission::Look | Admission::TakeCookie(_), Some(admitted)) =
        (&admission, request.extensions().get::<Admitted>())
    {
        admitted.set();
    }
    let mut response = match admission {
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => with_header(
            said(StatusCode::METHOD_NOT_ALLOWED, "this can only be looked at: GET or HEAD\n"),
            header::ALLOW,
            "GET, HEAD",
        ),
        Admission::Look => next.run(request).await,
        Admission::TakeCookie(cookie) => with_cookie(&cookie),
        Admission::WrongName => said(
            StatusCode::FORBIDDEN,
            "this answers to 127.0.0.1, [::1] and localhost alone: open it by one of these, or set a token \
             (DESKBATCH_DASHBOARD_TOKEN)\n",
        ),
        Admission::NoToken => with_header(
            said(
                StatusCode::UNAUTHORIZED,
                "this asks for its token: open /?token=TOKEN once, or send Authorization: Bearer TOKEN\n",
            ),
            header::WWW_AUTHENTICATE,
            "Bearer",
        ),
    };
    let headers = response.headers_mut();
    let policy = format!("{}; frame-ancestors 'none'", policy(Place::Live { generation: 0 }));
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn with_header(mut response: Response, name: HeaderName, value: &'static str) -> Response {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// Back to the page without the token in its address, where it would be kept and shown.
fn with_cookie(cookie: &str) -> Response {
    let mut response = said(StatusCode::SEE_OTHER, "");
    let headers = response.headers_mut();
    // Relative: a proxy may have put this below a path of its own.
    headers.insert(header::LOCATION, HeaderValue::from_static("./"));
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

async fn page<C: Clock>(State(served): State<Arc<Served<C>>>) -> Response {
    let shown = served.hub.fresh().await;
    if shown.sections.is_empty() {
        let trouble = shown.trouble.unwrap_or_else(|| "the queue was not read yet".to_owned());
        return said(StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n"));
    }
    let sections: Vec<Section> =
        shown.sections.iter().map(|part| part.section.as_ref().clone()).collect();
    let place = Place::Live { generation: shown.generation };
    let page = whole(&sections, &served.hub.about, place);
    typed(StatusCode::OK, "text/html; charset=utf-8", page)
}

async fn events<C: Clock>(
    State(served): State<Arc<Served<C>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Ok(place) = Arc::clone(&served.places).try_acquire_owned() else {
        let many = "too many listen already: close another window of this page\n";
        return said(StatusCode::SERVICE_UNAVAILABLE, many);
    };
    if method == Method::HEAD {
        return typed(StatusCode::OK, "text/event-stream", "");
    }
    // A browser that lost its connection says what it has seen in a header.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let asked =
        uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("since="));
    let seen = last.or(asked).and_then(|id| id.parse().ok()).unwrap_or_default();
    let states = served.hub.watch();
    // A generation that is yet to come was counted before the clock was set back.
    let now = served.hub.fresh().await.generation;
    let seen = if seen > now { 0 } else { seen };
    Sse::new(stream::events(states, seen, place)).keep_alive(KeepAlive::default()).into_response()
}

/// Whether the queue can be read, for whoever restarts what is broken.
async fn health<C: Clock>(State(served): State<Arc<Served<C>>>) -> Response {
    let (status, body) = match served.hub.store.probe().await {
        Ok(()) => (StatusCode::OK, json!({ "status": "ok" })),
        Err(e) => {
            let body = json!({ "status": "failing", "why": whole_text(&e) });
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
    };
    typed(status, "application/json", format!("{body}\n"))
}

/// The queue's figures for Prometheus.
async fn figures<C: Clock>(State(served): State<Arc<Served<C>>>) -> Response {
    match served.hub.figures().await {
        Ok(text) => typed(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(e) => said(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", whole_text(&e))),
    }
}

async fn nothing() -> Response {
    said(StatusCode::NOT_FOUND, "there is nothing here: the page is at /\n")
}

fn said(status: StatusCode, text: impl Into<Body>) -> Response {
    typed(status, "text/plain; charset=utf-8", text)
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
