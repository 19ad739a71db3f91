//! The server: its routes, and how it stops.

use crate::cache::{Cache, Item, TooLarge, Usage};
use crate::render::{Page, html};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router, body::Bytes};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The largest request body, in bytes.
const BODY_LIMIT: usize = 8 << 20;

/// Serves requests until `stop` is ready and those under way are answered, or the time of `grace` is over.
pub async fn serve(
    listener: TcpListener,
    cache: Arc<Cache>,
    stop: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> io::Result<()> {
    // Answers are small and written whole; waiting to fill a packet would only delay them.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    let (asked_to_stop, stopping) = oneshot::channel();
    let server = axum::serve(listener, router(cache)).with_graceful_shutdown(async move {
        stop.await;
        let _ = asked_to_stop.send(());
    });
    let out_of_patience = async move {
        let _ = stopping.await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        result = server => result,
        () = out_of_patience => Ok(()),
    }
}

fn router(cache: Arc<Cache>) -> Router {
    Router::new()
        .route("/items/{key}", get(get_item).put(put_item).delete(delete_item))
        .route("/render", post(render))
        .route("/stats", get(statistics))
        .route("/purge", post(purge))
        .route("/health", get(health))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(cache)
}

async fn get_item(State(cache): State<Arc<Cache>>, Path(key): Path<String>) -> Response {
    match cache.get(&key) {
        Some(item) => Json(&item.value).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn put_item(
    State(cache): State<Arc<Cache>>,
    Path(key): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let value = serde_json::from_slice(&body)?;
    let answer = json!({ "key": key, "bytes": body.len() });
    let replaced = cache.put(key, Item { value, bytes: body.len() })?;
    let status = if replaced.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(answer)))
}

async fn delete_item(State(cache): State<Arc<Cache>>, Path(key): Path<String>) -> StatusCode {
    match cache.remove(&key) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

async fn render(body: Bytes) -> Result<Html<String>, Refusal> {
    let page: Page = serde_json::from_slice(&body)?;
    Ok(Html(html(&page)))
}

async fn statistics() -> String {
    terrace::statistics().to_string()
}

async fn purge() -> StatusCode {
    // It gives memory back to the kernel page by page, which may take longer than an answer should.
    match tokio::task::spawn_blocking(terrace::purge).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn health(State(cache): State<Arc<Cache>>) -> Json<Usage> {
    Json(cache.usage())
}

/// A request that cannot be carried out, and what the client is told.
struct Refusal(StatusCode, String);

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self(StatusCode::BAD_REQUEST, format!("the body is not the JSON that is expected here: {error}\n"))
    }
}

impl From<TooLarge> for Refusal {
    fn from(TooLarge { limit }: TooLarge) -> Self {
        Self(StatusCode::PAYLOAD_TOO_LARGE, format!("an item may have at most {limit} bytes\n"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}
