//! The HTTP client: sends one request and reads its answer within its time limits.
//!
//! One client belongs to one driving thread, so its connections are never contended.

use std::fmt::Write as _;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};

use super::answer::End;
use super::http1::{HttpConnection, Pool, Read, ResponseReader, Sent};
use super::in_flight::InFlight;
use super::request_queue::ReadyRequest;
use super::target::{Target, TargetError};
use super::via_reqwest::ViaReqwest;
use crate::metrics::record::{Outcome, Phase, request_id};
use crate::plan::{HttpVersion, LoadPoint, Proxy};

/// How long an answer whose result is known may take to end, so that its connection can be used again.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// A limit that is never reached, in place of "none": 100 years.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

#[derive(Debug)]
pub(crate) struct Client {
    transport: Transport,
    point_id: String,
    limits: Limits,
}

#[derive(Debug)]
enum Transport {
    Http1(Pool),
    Reqwest(ViaReqwest),
}

/// The time limits of each request.
#[derive(Debug, Clone, Copy)]
struct Limits {
    total: Duration,
    first_token: Option<Duration>,
    stall: Duration,
}

impl Client {
    pub(crate) fn new(target: &Target, point: &LoadPoint) -> Result<Self, TargetError> {
        let accept = if point.streaming { "text/event-stream" } else { "application/json" };
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static(accept)),
        ]);
        let urls = target.urls(point.endpoint.path())?;
        let connect = limit(point.connect_timeout_s);
        let direct = target.http == HttpVersion::Http1 && target.proxy == Proxy::Off;
        let transport = if !direct {
            Transport::Reqwest(ViaReqwest::new(target.http_client(connect)?, urls, headers))
        } else {
            let agent = HeaderValue::from_static(concat!("tokmark/", env!("CARGO_PKG_VERSION")));
            headers.insert(USER_AGENT, agent);
            headers.extend(target.header_map()?);
            Transport::Http1(Pool::new(&urls, &headers, target.rustls_config()?.as_ref(), connect)?)
        };
        let limits = Limits {
            total: limit(point.request_timeout_s),
            first_token: point.first_token_timeout_s.map(limit),
            stall: limit(point.stall_timeout_s),
        };
        Ok(Self { transport, point_id: point.id.clone(), limits })
    }

    /// Opens connections for `count` requests that are about to be sent together.
    pub(crate) async fn open_ahead(&self, count: usize) {
        if let Transport::Http1(pool) = &self.transport {
            pool.open_ahead(count).await;
        }
    }

    /// Sends the request and reads its answer; every way out finishes the record.
    pub(crate) async fn exchange(&self, in_flight: InFlight<'_>, ready: ReadyRequest, phase: Phase) {
        let watch = Watch::start(self.limits);
        let id = request_id(&self.point_id, phase, ready.id);
        match &self.transport {
            Transport::Http1(pool) => exchange(pool, in_flight, &ready, &id, watch).await,
            Transport::Reqwest(via) => via.exchange(in_flight, ready, &id, watch).await,
        }
    }
}

fn limit(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(FOREVER).min(FOREVER)
}

async fn exchange(pool: &Pool, in_flight: InFlight<'_>, ready: &ReadyRequest, id: &str, mut watch: Watch) {
    let address = pool.address_of(ready.route);
    let mut extra = String::with_capacity(id.len() + 16);
    // Writing into a string cannot fail.
    let _ = write!(extra, "x-request-id: {id}\r\n");
    let request = pool.request(address, &extra, &ready.body);
    let begin = async {
        let mut connection =
            pool.connection(address).await.map_err(|error| (Outcome::Connect, error.to_string()))?;
        let sent = connection.send(&request).await;
        Ok((connection, sent))
    };
    let begun = tokio::select! {
        biased;
        begun = begin => begun.map_err(|(outcome, words)| End::failed(outcome, words)),
        end = watch.expired() => Err(end),
    };
    match begun {
        Ok((connection, sent)) => {
            drop(request);
            if let Some(connection) = read_answer(connection, sent, in_flight, watch).await {
                pool.put_back(connection);
            }
        }
        Err(end) => in_flight.finish(Instant::now(), Some(end)),
    }
}

/// Reads the answer to a request; `sent` is how far the request was written. Returns the connection when it can carry
/// another request.
async fn read_answer(
    mut connection: HttpConnection,
    sent: std::io::Result<Sent>,
    mut in_flight: InFlight<'_>,
    mut watch: Watch,
) -> Option<HttpConnection> {
    let mut response = ResponseReader::default();
    // When the result became known, though the body goes on.
    let mut settled: Option<Instant> = None;
    let broken = loop {
        let read = watch.guard(connection.read(|at, bytes| response.take(at, bytes, &mut in_flight))).await;
        let read = match read {
            Ok(read) => read,
            Err(end) => break Some(end),
        };
        match read {
            Ok(Read::Bytes(at, Ok(()))) => {
                watch.progressed = Some(at);
                if response.has_head() {
                    watch.saw(at, &in_flight);
                }
                if in_flight.settled() && settled.is_none() {
                    settled = Some(at);
                    watch.hurry(at);
                }
                if response.complete() {
                    break None;
                }
            }
            Ok(Read::Bytes(_, Err(broken))) => break Some(End::failed(Outcome::Malformed, broken)),
            Ok(Read::Closed) => {
                break response.missing().map(|words| End::failed(Outcome::Disconnected, words));
            }
            Err(error) => break Some(disconnected(&sent, &error)),
        }
    };
    let whole = matches!(sent, Ok(Sent::Whole)) && broken.is_none();
    in_flight.finish(settled.unwrap_or_else(Instant::now), broken);
    (whole && response.reusable()).then_some(connection)
}

/// A connection broke while it was read, and maybe before, while it was written.
fn disconnected(sent: &std::io::Result<Sent>, read: &std::io::Error) -> End {
    let words = match sent {
        Err(write) => format!("the request could not be written: {write}"),
        Ok(_) => read.to_string(),
    };
    End::failed(Outcome::Disconnected, words)
}

/// The time limits of one request as they stand. Armed once and moved lazily: a read costs no timer operation.
#[derive(Debug)]
pub(crate) struct Watch {
    sleep: Pin<Box<tokio::time::Sleep>>,
    limits: Limits,
    deadline: Instant,
    /// Until content has arrived.
    first_token: Option<Instant>,
    /// Last body bytes; the stall limit applies from the first of them on, the wait for it belongs to the TTFT.
    last_read: Option<Instant>,
    /// The timer will wake the task that drives this.
    armed: bool,
    /// When something was last read, until the task waits again.
    progressed: Option<Instant>,
}

impl Watch {
    fn start(limits: Limits) -> Self {
        let now = Instant::now();
        let deadline = now + limits.total;
        let first_token = limits.first_token.map(|limit| now + limit);
        let first = first_token.map_or(deadline, |first| first.min(deadline));
        let sleep = Box::pin(tokio::time::sleep_until(first.into()));
        Self { sleep, limits, deadline, first_token, last_read: None, armed: false, progressed: None }
    }

    /// What `read` gives, or the limit that passed before.
    ///
    /// A wake-up that read something before the timer's instant cannot have been the timer's (it is never early), so then the
    /// timer is not polled: that would be a fifth of what an event costs in this task.
    async fn guard<T>(&mut self, read: impl Future<Output = T>) -> Result<T, End> {
        let mut read = std::pin::pin!(read);
        std::future::poll_fn(|context| {
            if let Poll::Ready(read) = read.as_mut().poll(context) {
                return Poll::Ready(Ok(read));
            }
            let progressed = self.progressed.take();
            if self.armed && progressed.is_some_and(|at| at < self.sleep.deadline().into_std()) {
                return Poll::Pending;
            }
            let expired = std::pin::pin!(self.expired()).poll(context);
            self.armed = expired.is_pending();
            expired.map(Err)
        })
        .await
    }

    /// Bytes arrived for `in_flight`.
    pub(crate) fn saw(&mut self, at: Instant, in_flight: &InFlight<'_>) {
        if in_flight.has_content() {
            self.first_token = None;
        }
        if in_flight.has_body() && self.last_read.replace(at).is_none() {
            self.arm();
        }
    }

    /// The result is known: only the end of the body is still wanted.
    pub(crate) fn hurry(&mut self, at: Instant) {
        self.first_token = None;
        self.deadline = self.deadline.min(at + DRAIN_LIMIT);
        self.arm();
    }

    fn next(&self) -> Instant {
        let stall = self.last_read.map(|last| last + self.limits.stall);
        [self.first_token, stall].into_iter().flatten().fold(self.deadline, Instant::min)
    }

    fn arm(&mut self) {
        let next = self.next();
        self.sleep.as_mut().reset(next.into());
    }

    /// Returns when a limit has passed. Dropping and calling it again loses nothing.
    pub(crate) async fn expired(&mut self) -> End {
        loop {
            self.sleep.as_mut().await;
            let now = Instant::now();
            if now >= self.deadline {
                return End::failed(Outcome::Timeout, "the request took longer than its time limit");
            }
            if self.first_token.is_some_and(|first| now >= first) {
                let limit = self.limits.first_token.unwrap_or_default().as_secs_f64();
                return End::failed(Outcome::Timeout, format!("no token within {limit} s"));
            }
            if now >= self.next() {
                let silence = format!("no byte for {:.1} s", self.limits.stall.as_secs_f64());
                return End::failed(Outcome::Stalled, silence);
            }
            self.arm();
        }
    }
}
