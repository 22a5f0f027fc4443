//! The program: binds the socket, serves its connections, and ends in good order.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::body::Body;
use crate::call::{Function, Link, log};
use crate::context::Context;
use crate::error::Error;

use crate::response::Response;
use crate::settings::Settings;
use crate::socket::Listener;

/// The platform keeps one connection, and at times a second one; a proxy before a function that runs
/// without the platform keeps one per client. More wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 128;

/// How many headers a call may have. The platform adds a few to the client's, whose number HTTP
/// servers commonly limit to 100.
const MAX_HEADERS: usize = 256;

/// How long a running call may take to end after SIGTERM: the longest time-out that a function can
/// have (spec/01 1.4).
const GRACE: Duration = Duration::from_secs(300);

/// Runs a function until SIGTERM or SIGINT, on a runtime of one thread. For `main` to return:
///
/// ```no_run
/// use hearth_fdk::{Body, Context, Error};
///
/// fn main() -> std::process::ExitCode {
///     hearth_fdk::run(|ctx: Context, body: Body| async move {
///         println!("call {}", ctx.call_id());
///         Ok::<_, Error>(body.text().await?)
///     })
/// }
/// ```
///
/// When it cannot start, the reason is on stderr and the exit code is 1.
pub fn run<H, R, E>(handler: H) -> ExitCode
where
    H: AsyncFn(Context, Body) -> Result<R, E>,
    R: Into<Response>,
    E: fmt::Display,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime.map_err(Error::Start).and_then(|runtime| {
        let served = runtime.block_on(serve(handler));
        // Work that a handler left behind must not keep the container.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// As [`run`], on a tokio runtime of the caller's.
///
/// # Errors
/// [`Error`] when the environment is not a function's or the socket cannot be made.
pub async fn serve<H, R, E>(handler: H) -> Result<(), Error>
where
    H: AsyncFn(Context, Body) -> Result<R, E>,
    R: Into<Response>,
    E: fmt::Display,
{
    let settings = Settings::from_env()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve_until(settings, handler, stop).await
}

/// As [`serve`], with settings from anywhere and until `stop` is ready; for tests.
///
/// # Errors
/// [`Error::Listen`] when the socket cannot be made.
pub async fn serve_until<H, R, E>(
    settings: Settings,
    handler: H,
    stop: impl Future<Output = ()>,
) -> Result<(), Error>
where
    H: AsyncFn(Context, Body) -> Result<R, E>,
    R: Into<Response>,
    E: fmt::Display,
{
    let listener = Listener::bind(settings.listener())?;
    let function = Rc::new(Function::new(handler, settings.config()));
    let (stopping, stopped) = watch::channel(());
    let mut connections = FuturesUnordered::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(()) = connections.next() => {}
            stream = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let serving = connection(stream, Rc::clone(&function), stopped.clone());
                connections.push(serving);
            }
        }
    }
    drop((listener, stopping));
    let finished = async { while connections.next().await.is_some() {} };
    if timeout(GRACE, finished).await.is_err() {
        log(format_args!("a call did not end in {} s", GRACE.as_secs()));
    }
    Ok(())
}

/// Serves a connection until it is closed, or idle and `stopped`.
async fn connection<H, R, E>(
    stream: UnixStream,
    function: Rc<Function<H>>,
    mut stopped: watch::Receiver<()>,
) where
    H: AsyncFn(Context, Body) -> Result<R, E>,
    R: Into<Response>,
    E: fmt::Display,
{
    let link = Rc::new(Link::new());
    let service = service_fn(move |request| {
        let (function, link) = (Rc::clone(&function), Rc::clone(&link));
        async move { Ok::<_, Infallible>(function.call(request, &link).await) }
    });
    let serving = async move {
        let mut builder = http1::Builder::new();
        builder.auto_date_header(false).max_headers(MAX_HEADERS);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            served = serving.as_mut() => return served,
            _ = stopped.changed() => {}
        }
        serving.as_mut().graceful_shutdown();
        serving.await
    };
    // A panic while a streaming answer is written costs its connection, not the process.
    if let Ok(Err(error)) = AssertUnwindSafe(serving).catch_unwind().await
        && error.is_user()
    {
        log(format_args!("the answer failed: {}", cause(&error)));
    }
}

/// The innermost reason of an error.
fn cause<'a>(
    mut error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}
