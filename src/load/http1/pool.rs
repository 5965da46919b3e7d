//! The connections of one driving thread, and how new ones are made.
//!
//! A connection is out with one request or idle here. The idle one that was used last is used next, so that surplus ones age.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::HeaderMap;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::connection::HttpConnection;
use crate::load::target::{IDLE_LIMIT, TargetError};
use crate::load::timers::Timers;

/// Connections that one thread makes at the same time ahead of need. Few, so that no accept queue overflows.
const OPENING_AT_ONCE: usize = 16;

/// A connection that could not be made; the words say which step failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConnectError(String);

pub(crate) struct Pool {
    addresses: Vec<Address>,
    connect_timeout: Duration,
    timers: Timers,
    idle: Mutex<Vec<Vec<(HttpConnection, Instant)>>>,
}

struct Address {
    /// What the name stands for; resolved once, so that no look-up falls into the load.
    sockets: Result<Vec<SocketAddr>, ConnectError>,
    /// The one of them that answered last.
    good: AtomicUsize,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Request line and headers, up to the ones that differ per request.
    head: Vec<u8>,
}

impl Pool {
    /// A pool for requests to `urls`, each with `headers`. Blocks for name resolution; a name that cannot be resolved is
    /// the error of each request to it.
    pub(crate) fn new(
        urls: &[Url],
        headers: &HeaderMap,
        tls: Option<&Arc<rustls::ClientConfig>>,
        connect_timeout: Duration,
        timers: Timers,
    ) -> Result<Self, TargetError> {
        let addresses = urls
            .iter()
            .map(|url| Address::new(url, headers, tls.filter(|_| url.scheme() == "https")))
            .collect::<Result<Vec<_>, _>>()?;
        let idle = Mutex::new(addresses.iter().map(|_| Vec::new()).collect());
        Ok(Self { addresses, connect_timeout, timers, idle })
    }

    /// The bytes of a request: `extra` are further header lines, each with its line end.
    pub(crate) fn request(&self, address: usize, extra: &str, body: &[u8]) -> Vec<u8> {
        let head = self.addresses.get(address).map_or(&[][..], |address| &address.head);
        let length = body.len();
        let last = format!("{extra}content-length: {length}\r\n\r\n");
        [head, last.as_bytes(), body].concat()
    }

    /// Which address request number `id` goes to: in turn.
    pub(crate) fn address_of(&self, id: u64) -> usize {
        // `as` cannot truncate: the remainder is below the length.
        (id % self.addresses.len().max(1) as u64) as usize
    }

    pub(crate) async fn connection(&self, address: usize) -> Result<HttpConnection, ConnectError> {
        while let Some((connection, since)) = self.idle.lock().get_mut(address).and_then(Vec::pop) {
            if since.elapsed() < IDLE_LIMIT && connection.is_quiet() {
                return Ok(connection);
            }
        }
        self.connect(address).await
    }

    pub(crate) fn put_back(&self, connection: HttpConnection) {
        if let Some(idle) = self.idle.lock().get_mut(connection.address) {
            idle.push((connection, Instant::now()));
        }
    }

    /// Opens connections until about `count` are idle, so that the first requests do not wait for theirs. Failures are
    /// left to the requests that will meet them.
    pub(crate) async fn open_ahead(&self, count: usize) {
        let each = count.div_ceil(self.addresses.len().max(1));
        for address in 0..self.addresses.len() {
            let mut missing = {
                let mut idle = self.idle.lock();
                let Some(idle) = idle.get_mut(address) else { continue };
                idle.retain(|(connection, since)| since.elapsed() < IDLE_LIMIT / 2 && connection.is_quiet());
                each.saturating_sub(idle.len())
            };
            while missing > 0 {
                let batch = missing.min(OPENING_AT_ONCE);
                for opened in join_all((0..batch).map(|_| self.connect(address))).await {
                    let Ok(connection) = opened else { return };
                    self.put_back(connection);
                }
                missing -= batch;
            }
        }
    }

    async fn connect(&self, index: usize) -> Result<HttpConnection, ConnectError> {
        let address = self.addresses.get(index).ok_or_else(|| ConnectError("no address".into()))?;
        let limit = self.connect_timeout;
        match self.timers.within(limit, address.connect(index)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError(format!("no connection within {:.1} s", limit.as_secs_f64()))),
        }
    }
}

impl Address {
    fn new(
        url: &Url,
        headers: &HeaderMap,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Self, TargetError> {
        let sockets = url
            .socket_addrs(|| None)
            .map_err(|error| ConnectError(format!("{}: {error}", url.host_str().unwrap_or_default())));
        let tls = match tls {
            Some(config) => Some((TlsConnector::from(Arc::clone(config)), server_name(url)?)),
            None => None,
        };
        Ok(Self { sockets, good: AtomicUsize::new(0), tls, head: head(url, headers) })
    }

    async fn connect(&self, index: usize) -> Result<HttpConnection, ConnectError> {
        let sockets = self.sockets.as_ref().map_err(Clone::clone)?;
        let first = self.good.load(Relaxed);
        let mut last = ConnectError("the name has no address".into());
        for offset in 0..sockets.len() {
            let at = (first + offset) % sockets.len();
            let Some(socket) = sockets.get(at) else { continue };
            match self.connect_to(*socket, index).await {
                Ok(connection) => {
                    self.good.store(at, Relaxed);
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, socket: SocketAddr, index: usize) -> Result<HttpConnection, ConnectError> {
        let failed = |error: &io::Error| ConnectError(format!("{socket}: {error}"));
        let stream = TcpStream::connect(socket).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let Some((connector, name)) = &self.tls else {
            return Ok(HttpConnection::new(Either::Left(stream), index));
        };
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(HttpConnection::new(Either::Right(Box::new(stream)), index)),
            Err(error) => Err(ConnectError(format!("{socket}: TLS: {error}"))),
        }
    }
}

fn server_name(url: &Url) -> Result<ServerName<'static>, TargetError> {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned())
        .map_err(|error| TargetError::Tls { reason: format!("{url}: {error}") })
}

/// `POST` of `url` with `headers`; the request's own header lines follow.
fn head(url: &Url, headers: &HeaderMap) -> Vec<u8> {
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    let host = url.host_str().unwrap_or_default();
    let mut head = format!("POST {target} HTTP/1.1\r\n").into_bytes();
    if !headers.contains_key(reqwest::header::HOST) {
        head.extend_from_slice(format!("host: {host}{port}\r\n").as_bytes());
    }
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn pool(urls: &[Url], headers: &HeaderMap) -> Pool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let timers = Timers(runtime.handle().clone());
        Pool::new(urls, headers, None, Duration::from_secs(1), timers).unwrap()
    }

    fn text(url: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("x-key", HeaderValue::from_static("secret"));
        let pool = pool(&[Url::parse(url).unwrap()], &headers);
        String::from_utf8(pool.request(0, "x-request-id: 7\r\n", b"{}")).unwrap()
    }

    #[test]
    fn the_bytes_of_a_request() {
        assert_eq!(
            text("http://127.0.0.1:8000/v1/chat/completions"),
            concat!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nx-key: secret\r\n",
                "x-request-id: 7\r\ncontent-length: 2\r\n\r\n{}"
            )
        );
        assert!(text("http://127.0.0.1/a?b=c").starts_with("POST /a?b=c HTTP/1.1\r\nhost: 127.0.0.1\r\n"));
        assert!(text("http://[::1]:80/a").contains("host: [::1]\r\n"));
    }

    #[test]
    fn requests_go_to_the_addresses_in_turn() {
        let urls: Vec<Url> =
            ["http://127.0.0.1:1/", "http://127.0.0.1:2/"].map(|url| Url::parse(url).unwrap()).into();
        let pool = pool(&urls, &HeaderMap::new());
        assert_eq!([0, 1, 2, 3].map(|id| pool.address_of(id)), [0, 1, 0, 1]);
    }
}
