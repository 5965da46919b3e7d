//! Readiness: a health path is not enough. Dynamo's answers 200 without any worker, so the model must be listed and a
//! token must come.
//!
//! Arrow: `load::probe`, `launcher` → here → `deploy`.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::launcher::Ready;
use crate::load::probe::{self, Page};
use crate::load::{ProbeError, Target};
use crate::plan::Endpoint;
use crate::render::Seat;

/// Something tried again and again until it succeeds; an error says what is still missing.
pub trait Probe<T> {
    /// Tries once.
    fn attempt(&mut self) -> impl Future<Output = Result<T, String>>;
}

impl<T, F: AsyncFnMut() -> Result<T, String>> Probe<T> for F {
    fn attempt(&mut self) -> impl Future<Output = Result<T, String>> {
        self()
    }
}

/// Limit of one connection attempt or health request.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit of the one-token request: the first one may compile kernels.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(300);

/// Whether a role answers on its own port.
pub fn role<'a>(name: &'a str, ready: &'a Ready, seat: &'a Seat) -> impl Probe<()> + 'a {
    async move || {
        let port_of = |port: &String| seat.ports.get(port).copied().unwrap_or_default();
        match ready {
            Ready::Tcp { port } => {
                let address = (seat.host.as_str(), port_of(port));
                match tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(format!(
                        "{name} does not accept connections on {}:{}: {error}",
                        address.0, address.1
                    )),
                    Err(_) => Err(format!("{name} does not answer on {}:{}", address.0, address.1)),
                }
            }
            Ready::Http { port, path } => healthy(&format!("http://{}:{}{path}", seat.host, port_of(port)))
                .await
                .map_err(|problem| format!("{name}: {problem}")),
        }
    }
}

async fn healthy(url: &str) -> Result<(), String> {
    ok(url, probe::get(url, PROBE_TIMEOUT).await)
}

fn ok(url: &str, answer: Result<Page, ProbeError>) -> Result<(), String> {
    match answer {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{url} answers {}", answer.status)),
        Err(error) => Err(format!("{url}: {error}")),
    }
}

/// Whether every server of the endpoint is healthy, lists the model and generates a token. Gives whether one calls itself
/// simulated.
pub fn endpoint<'a>(
    target: &'a Target,
    health: Option<&'a str>,
    endpoint: Endpoint,
) -> impl Probe<bool> + 'a {
    async move || {
        let mut simulated = false;
        for server in target.each() {
            simulated |= ready(&server, health, endpoint).await?;
        }
        Ok(simulated)
    }
}

async fn ready(server: &Target, health: Option<&str>, endpoint: Endpoint) -> Result<bool, String> {
    let (url, model) = (server.address(), &server.model);
    if let Some(path) = health {
        ok(&format!("{url}{path}"), probe::page(server, path, PROBE_TIMEOUT).await)?;
    }
    let models =
        probe::models(server, PROBE_TIMEOUT).await.map_err(|error| format!("{url}/v1/models: {error}"))?;
    let Some(found) = models.iter().find(|known| known.id == *model) else {
        let names: Vec<&str> = models.iter().map(|known| known.id.as_str()).collect();
        return Err(format!("{url}/v1/models does not list {model:?} (it lists: {})", names.join(", ")));
    };
    probe::one_token(server, endpoint, TOKEN_TIMEOUT)
        .await
        .map_err(|error| format!("{url} generates no token yet: {error}"))?;
    Ok(found.simulated)
}
