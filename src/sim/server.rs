//! The server: one thread that listens, serves connections, drives the engine and shuts down.

use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::driver::Driver;
use super::pacer::Pacer;
use super::{SimConfig, routes};

/// Time for connections to close.
const GRACE: Duration = Duration::from_millis(800);
/// The accept backlog; thousands of clients may connect in the same millisecond.
const BACKLOG: u32 = 4096;

/// Why a server could not run.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    #[error("cannot listen on {address} (--host, --port; choose another port, or 0 for a free one)")]
    Listen { address: String, source: std::io::Error },
    #[error("cannot start the simulated engine: {0}")]
    Start(#[from] std::io::Error),
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServeEnd {
    Stopped,
    /// `--crash-after` cut the connections.
    Crashed,
}

/// Serves on the calling thread until `stop` is ready. Calls `ready` once, when it accepts requests.
pub fn run_until(
    config: SimConfig,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<ServeEnd, SimError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = LocalSet::new().block_on(&runtime, serve(config, ready, stop));
    runtime.shutdown_background();
    end
}

async fn serve(
    config: SimConfig,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<ServeEnd, SimError> {
    tokio::pin!(stop);
    tokio::select! {
        () = &mut stop => return Ok(ServeEnd::Stopped),
        () = tokio::time::sleep(Duration::from_secs_f64(config.faults.startup_delay_s)) => {}
    }
    let listener = listen(&config)?;
    let address = listener.local_addr()?;
    let driver = Rc::new(Driver::new(config));
    let pacer = Pacer::start()?;
    let engine = Rc::clone(&driver);
    tokio::task::spawn_local(async move { engine.run(pacer).await });
    ready(address);
    let (closing, connections) = (CancellationToken::new(), TaskTracker::new());
    tokio::select! {
        () = &mut stop => {}
        () = driver.crashed.cancelled() => {
            // The answer that triggers the crash is still sent.
            tokio::time::sleep(Duration::from_millis(5)).await;
            return Ok(ServeEnd::Crashed);
        }
        () = accept(&listener, &driver, &closing, &connections) => {}
    }
    drop(listener);
    driver.fail_all();
    closing.cancel();
    connections.close();
    // A timeout is not a failure, because the process ends anyway.
    let _ = tokio::time::timeout(GRACE, connections.wait()).await;
    Ok(ServeEnd::Stopped)
}

fn listen(config: &SimConfig) -> Result<TcpListener, SimError> {
    let failed = |source| SimError::Listen { address: format!("{}:{}", config.host, config.port), source };
    let address = (config.host.as_str(), config.port).to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| failed(std::io::Error::other("the name has no address")))?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)
}

async fn accept(
    listener: &TcpListener,
    driver: &Rc<Driver>,
    closing: &CancellationToken,
    connections: &TaskTracker,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn_local(connection(stream, Rc::clone(driver), closing.clone()));
            }
            // Out of file descriptors, or the client left: the other connections continue.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(stream: TcpStream, driver: Rc<Driver>, closing: CancellationToken) {
    // Chunks must be sent at once; a failure here costs delay, not correctness.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| routes::handle(Rc::clone(&driver), request));
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    // The client went away or did not speak HTTP.
    tokio::select! {
        biased;
        _ = serving.as_mut() => {}
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
