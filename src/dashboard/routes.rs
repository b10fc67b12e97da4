//! The routes, and the security headers of every response.
//!
//! One guard authorizes all routes, metrics and health included, so that no route can lack the check.

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

use super::auth::{Auth, AuthDecision};
use super::cache::{PageCache, error_text};
use super::connections::Authorized;
use super::sse;
use crate::domain::clock::Clock;
use crate::metrics;
use crate::report::html::{PageTarget, Section, policy, render};

/// The most clients of the event stream.
const SSE_CLIENTS_MAX: usize = 32;

/// The state of the handlers.
pub(super) struct AppState<C> {
    cache: Arc<PageCache<C>>,
    sse_permits: Arc<Semaphore>,
}

/// All routes, metrics and health included, behind the same guard.
pub(super) fn router<C: Clock>(cache: Arc<PageCache<C>>, auth: Auth) -> Router {
    let sse_permits = Arc::new(Semaphore::new(SSE_CLIENTS_MAX));
    let state = Arc::new(AppState { cache, sse_permits });
    Router::new()
        .route("/", get(page::<C>))
        .route("/events", get(events::<C>))
        .route("/healthz", get(health::<C>))
        .route("/metrics", get(queue_metrics::<C>))
        .fallback(not_found)
        .with_state(state)
        .layer(from_fn_with_state(Arc::new(auth), guard))
}

/// Authorizes the request and adds the security headers to the response.
async fn guard(State(auth): State<Arc<Auth>>, request: Request, next: Next) -> Response {
    let decision = auth.decide(request.uri(), request.headers());
    if let (AuthDecision::Allow | AuthDecision::SetCookie(_), Some(authorized)) =
        (&decision, request.extensions().get::<Authorized>())
    {
        authorized.set();
    }
    let mut response = match decision {
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => with_header(
            text_response(
                StatusCode::METHOD_NOT_ALLOWED,
                "the dashboard is read-only: use GET or HEAD\n",
            ),
            header::ALLOW,
            "GET, HEAD",
        ),
        AuthDecision::Allow => next.run(request).await,
        AuthDecision::SetCookie(cookie) => with_cookie(&cookie),
        AuthDecision::WrongHost => text_response(
            StatusCode::FORBIDDEN,
            "without a token, the dashboard accepts only the hosts 127.0.0.1, [::1] and localhost: open one of them, or \
             set DESKBATCH_DASHBOARD_TOKEN\n",
        ),
        AuthDecision::Unauthorized => with_header(
            text_response(
                StatusCode::UNAUTHORIZED,
                "token required: open /?token=TOKEN once, or send the header Authorization: Bearer TOKEN\n",
            ),
            header::WWW_AUTHENTICATE,
            "Bearer",
        ),
    };
    let headers = response.headers_mut();
    let policy = format!("{}; frame-ancestors 'none'", policy(PageTarget::Live { generation: 0 }));
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

/// Redirects to the page without the token in the URL, which browsers show and store.
fn with_cookie(cookie: &str) -> Response {
    let mut response = text_response(StatusCode::SEE_OTHER, "");
    let headers = response.headers_mut();
    // Relative, since a proxy may serve this below a path.
    headers.insert(header::LOCATION, HeaderValue::from_static("./"));
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

async fn page<C: Clock>(State(state): State<Arc<AppState<C>>>) -> Response {
    let page = state.cache.fresh().await;
    if page.sections.is_empty() {
        let error = page
            .error
            .unwrap_or_else(|| "the queue has not been read yet: reload the page".to_owned());
        return text_response(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"));
    }
    let sections: Vec<Section> =
        page.sections.iter().map(|part| part.section.as_ref().clone()).collect();
    let target = PageTarget::Live { generation: page.generation };
    let html = render(&sections, &state.cache.info, target);
    respond(StatusCode::OK, "text/html; charset=utf-8", html)
}

async fn events<C: Clock>(
    State(state): State<Arc<AppState<C>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Ok(permit) = Arc::clone(&state.sse_permits).try_acquire_owned() else {
        let many = "too many open pages: close another window of this page\n";
        return text_response(StatusCode::SERVICE_UNAVAILABLE, many);
    };
    if method == Method::HEAD {
        return respond(StatusCode::OK, "text/event-stream", "");
    }
    // On reconnecting, a browser sends the last event id it has seen.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let asked =
        uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("since="));
    let seen = last.or(asked).and_then(|id| id.parse().ok()).unwrap_or_default();
    let states = state.cache.watch();
    // A generation from the future was assigned before the clock was set back.
    let now = state.cache.fresh().await.generation;
    let seen = if seen > now { 0 } else { seen };
    Sse::new(sse::events(states, seen, permit)).keep_alive(KeepAlive::default()).into_response()
}

/// The health check: whether the queue can be read.
async fn health<C: Clock>(State(state): State<Arc<AppState<C>>>) -> Response {
    let (status, body) = match state.cache.queue.probe().await {
        Ok(()) => (StatusCode::OK, json!({ "status": "ok" })),
        Err(e) => {
            let body = json!({ "status": "failing", "why": error_text(&e) });
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
    };
    respond(status, "application/json", format!("{body}\n"))
}

/// The metrics for Prometheus.
async fn queue_metrics<C: Clock>(State(state): State<Arc<AppState<C>>>) -> Response {
    match state.cache.metrics().await {
        Ok(text) => respond(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(e) => text_response(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error_text(&e))),
    }
}

async fn not_found() -> Response {
    text_response(StatusCode::NOT_FOUND, "not found: the page is at /\n")
}

fn text_response(status: StatusCode, text: impl Into<Body>) -> Response {
    respond(status, "text/plain; charset=utf-8", text)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
