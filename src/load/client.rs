//! The HTTP client: sends one request and reads its answer within its time limits.
//!
//! One client belongs to one driving thread, so its connections are never contended.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};

use super::answer::End;
use super::http1::{HttpConnection, Pool, Read, ResponseReader, Sent};
use super::in_flight::InFlight;
use super::request_queue::ReadyRequest;
use super::target::{Target, TargetError};
use super::timers::Timers;
use super::via_reqwest::ViaReqwest;
use crate::metrics::record::{Outcome, Phase, request_id};
use crate::plan::LoadPoint;

/// How long an answer whose result is known may take to end, so that its connection can be used again.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// A limit that is never reached, in place of "none": 100 years.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(crate) struct Client {
    transport: Transport,
    pub(crate) timers: Timers,
    point_id: String,
    limits: Limits,
}

enum Transport {
    Http1(Pool),
    Reqwest(ViaReqwest),
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    total: Duration,
    first_token: Option<Duration>,
    stall: Duration,
}

impl Client {
    pub(crate) fn new(target: &Target, point: &LoadPoint, timers: Timers) -> Result<Self, TargetError> {
        let accept = if point.streaming { "text/event-stream" } else { "application/json" };
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static(accept)),
        ]);
        let urls = target.urls(point.endpoint.path())?;
        let connect = limit(point.connect_timeout_s);
        let transport = if target.needs_reqwest() {
            Transport::Reqwest(ViaReqwest::new(target.http_client(connect)?, urls, headers))
        } else {
            let agent = HeaderValue::from_static(concat!("tokmark/", env!("CARGO_PKG_VERSION")));
            headers.insert(USER_AGENT, agent);
            headers.extend(target.header_map()?);
            let tls = target.rustls_config()?;
            Transport::Http1(Pool::new(&urls, &headers, tls.as_ref(), connect, timers.clone())?)
        };
        let limits = Limits {
            total: limit(point.request_timeout_s),
            first_token: point.first_token_timeout_s.map(limit),
            stall: limit(point.stall_timeout_s),
        };
        Ok(Self { transport, timers, point_id: point.id.clone(), limits })
    }

    pub(crate) async fn open_ahead(&self, count: usize) {
        if let Transport::Http1(pool) = &self.transport {
            pool.open_ahead(count).await;
        }
    }

    /// Sends the request and reads its answer; every way out finishes the record.
    pub(crate) async fn exchange(&self, in_flight: InFlight<'_>, ready: ReadyRequest, phase: Phase) {
        let watch = Watch::start(self.limits, &self.timers);
        let id = request_id(&self.point_id, phase, ready.id);
        match &self.transport {
            Transport::Http1(pool) => exchange(pool, in_flight, &ready, &id, watch).await,
            Transport::Reqwest(via) => via.exchange(in_flight, ready, &id, watch).await,
        }
    }
}

pub(crate) fn limit(seconds: f64) -> Duration {
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
    let broken = poll_fn(|context| {
        let mut last = None;
        loop {
            let take = |at, bytes: &[u8]| response.take(at, bytes, &mut in_flight);
            let at = match connection.poll_read(context, take) {
                Poll::Pending => return watch.poll(context, last).map(Some),
                Poll::Ready(Ok(Read::Bytes(at, Ok(())))) => at,
                Poll::Ready(Ok(Read::Bytes(_, Err(broken)))) => {
                    return Poll::Ready(Some(End::failed(Outcome::Malformed, broken)));
                }
                Poll::Ready(Ok(Read::Closed)) => {
                    let missing = response.missing();
                    return Poll::Ready(missing.map(|words| End::failed(Outcome::Disconnected, words)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(disconnected(&sent, &error))),
            };
            last = Some(at);
            if response.has_head() {
                watch.saw(at, &in_flight);
            }
            if response.complete() {
                return Poll::Ready(None);
            }
        }
    })
    .await;
    let whole = matches!(sent, Ok(Sent::Whole)) && broken.is_none();
    in_flight.finish(watch.settled.unwrap_or_else(Instant::now), broken);
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
    /// When the result became known, though the body may go on.
    pub(crate) settled: Option<Instant>,
}

impl Watch {
    fn start(limits: Limits, timers: &Timers) -> Self {
        let now = Instant::now();
        let deadline = now + limits.total;
        let first_token = limits.first_token.map(|limit| now + limit);
        let first = first_token.map_or(deadline, |first| first.min(deadline));
        let sleep = Box::pin(timers.sleep_until(first));
        Self { sleep, limits, deadline, first_token, last_read: None, armed: false, settled: None }
    }

    /// The limit that has passed; `last` is when the last read of this wake-up returned. A wake-up that read something before the
    /// timer's instant cannot have been the timer's, and polling it would be a fifth of what an event costs in this task.
    fn poll(&mut self, context: &mut Context<'_>, last: Option<Instant>) -> Poll<End> {
        if self.armed && last.is_some_and(|at| at < self.sleep.deadline().into_std()) {
            return Poll::Pending;
        }
        let expired = std::pin::pin!(self.expired()).poll(context);
        self.armed = expired.is_pending();
        expired
    }

    pub(crate) fn saw(&mut self, at: Instant, in_flight: &InFlight<'_>) {
        if in_flight.has_content() {
            self.first_token = None;
        }
        if in_flight.has_body() && self.last_read.replace(at).is_none() {
            self.arm();
        }
        if in_flight.settled() && self.settled.is_none() {
            self.settled = Some(at);
            self.first_token = None;
            self.deadline = self.deadline.min(at + DRAIN_LIMIT);
            self.arm();
        }
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
