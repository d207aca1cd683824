//! The HTTP port for operators (`http-port`, `http-bind`): `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and
//! stops containers. It has no password, and so listens on the machine itself alone unless it is told otherwise; it says nothing of
//! keys or values.
//!
//! It runs on a thread of its own, from before the data is opened until the end, so that a long import or recovery does not look like a
//! dead process, and a flood of questions takes one core at most.
//!
//! Bytes from outside, so with limits: [`CONNECTIONS_MAX`] connections, each of one request, with [`HEAD_TIME_MAX`] for its head, which
//! has [`HEAD_BYTES_MAX`] bytes at most, and [`TIME_MAX`] for all of it. A request's body is not read.

mod health;

use super::{listener, metrics};
use crate::config::Settings;
use crate::observability::metrics::CONTENT_TYPE;
use crate::session::descriptors::HTTP_CONNECTIONS;
use crate::session::service::Service;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at a time; another is closed at once.
const CONNECTIONS_MAX: usize = HTTP_CONNECTIONS;
/// How long a request's head may take to come.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// How long it may be; less is not possible with hyper.
const HEAD_BYTES_MAX: usize = 8192;
/// How many fields it may have.
const HEAD_FIELDS_MAX: usize = 64;
/// How long a connection may take, the answer included.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;
/// How long accepting rests after an error, such as no file descriptor being left.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

const PLAIN: &str = "text/plain; charset=utf-8";
const INDEX: &str =
    "Larder\n\n/metrics  for Prometheus\n/healthz  the process answers\n/readyz   clients are served\n";

/// How far the process is.
#[derive(Clone)]
pub enum Stage {
    /// Clients are not served yet: what is being done, in words.
    Starting(&'static str),
    /// Clients are served, or were: the service knows.
    Serving(Arc<Service>),
}

/// The running port, if there is one.
pub struct HttpPort {
    stage: Arc<Mutex<Stage>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl HttpPort {
    /// Listens where the settings say, if they name a port.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn start(settings: &Settings) -> io::Result<HttpPort> {
        let stage = Arc::new(Mutex::new(Stage::Starting("the server is starting")));
        let mut port = HttpPort { stage, stop: CancellationToken::new(), thread: None };
        if settings.http_port == 0 {
            return Ok(port);
        }
        let addresses = listener::addresses(&settings.http_bind, settings.http_port)?;
        let opened = listener::open_tcp(&addresses, BACKLOG, 1)?;
        if opened.is_empty() {
            return Err(io::Error::other("http-bind names no address of this machine"));
        }
        let listened: Vec<_> = opened.iter().map(|(address, _)| *address).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stage, stop) = (Arc::clone(&port.stage), port.stop.clone());
        let run = move || {
            runtime.block_on(async {
                let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
                for socket in opened.into_iter().flat_map(|(_, sockets)| sockets) {
                    match TcpListener::from_std(socket) {
                        Ok(socket) => {
                            tokio::spawn(accept(socket, Arc::clone(&stage), Arc::clone(&connections)));
                        }
                        Err(error) => {
                            tracing::error!(%error, "a listening socket was refused by the runtime");
                        }
                    }
                }
                stop.cancelled().await;
            });
        };
        port.thread = Some(std::thread::Builder::new().name("http".into()).spawn(run)?);
        tracing::info!("Metrics and health over HTTP on {listened:?}");
        Ok(port)
    }

    /// The process has come so far.
    pub fn reach(&self, stage: Stage) {
        *self.stage.lock() = stage;
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the HTTP port ended by a panic");
        }
    }
}

/// Accepts until the runtime ends.
async fn accept(socket: TcpListener, stage: Arc<Mutex<Stage>>, connections: Arc<Semaphore>) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
                let stage = Arc::clone(&stage);
                tokio::spawn(async move {
                    serve(stream, &stage).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the HTTP port could not be accepted");
                tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
}

/// Answers one request. Whatever goes wrong is the other side's business and ends the connection.
async fn serve(stream: TcpStream, stage: &Mutex<Stage>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let stage = stage.lock().clone();
        async move { Ok::<_, Infallible>(respond(request.method(), request.uri().path(), &stage)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    if let Ok(Err(error)) = tokio::time::timeout(TIME_MAX, connection).await {
        tracing::debug!(%error, "a request to the HTTP port failed");
    }
}

fn respond(method: &Method, path: &str, stage: &Stage) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/" => plain(StatusCode::OK, INDEX),
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match health::ready(stage) {
            Ok(()) => plain(StatusCode::OK, "ready\n"),
            Err(reason) => not_ready(&reason),
        },
        "/metrics" => match stage {
            Stage::Serving(service) => {
                let facts = metrics::Facts::of(service, health::ready(stage).is_ok());
                response(StatusCode::OK, CONTENT_TYPE, metrics::page(&facts))
            }
            Stage::Starting(what) => not_ready(what),
        },
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn not_ready(reason: &str) -> Response<Full<Bytes>> {
    plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n"))
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, PLAIN, text)
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
