//! Sends one request and sees it through to its end.
//!
//! Arrow: `drive` calls [`Client::exchange`]; reads go to `flight`, stamped before anything looks at them.
//! One client belongs to one driving thread, so its connection pool is never contended.

use std::error::Error as _;
use std::pin::Pin;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response, Url};

use super::answer::End;
use super::flight::Flight;
use super::supply::Prepared;
use super::target::{Target, TargetError};
use crate::metrics::record::{Outcome, Phase, request_id};
use crate::plan::LoadPoint;

/// How long an answer whose result is known may take to end, so that its connection can be used again.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// A limit that is never reached, in place of "none": 100 years.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    point_id: String,
    streaming: bool,
    total: Duration,
    stall: Duration,
}

impl Client {
    pub(crate) fn new(target: &Target, point: &LoadPoint) -> Result<Self, TargetError> {
        let accept = if point.streaming { "text/event-stream" } else { "application/json" };
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static(accept)),
        ]);
        let limit = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(FOREVER).min(FOREVER);
        Ok(Self {
            http: target.http_client(limit(point.connect_timeout_s))?,
            url: target.url(point.endpoint.path())?,
            headers,
            point_id: point.id.clone(),
            streaming: point.streaming,
            total: limit(point.request_timeout_s),
            stall: limit(point.stall_timeout_s),
        })
    }

    /// Sends the request and reads its answer; the flight lands whatever happens.
    pub(crate) async fn exchange(&self, mut flight: Flight<'_>, prepared: Prepared, phase: Phase) {
        let mut watch = Watch::start(self.total, self.stall);
        let request = self.request(prepared, phase);
        let answered = tokio::select! {
            biased;
            answered = self.http.execute(request) => answered.map_err(|error| end_of(&error)),
            end = watch.expired() => Err(end),
        };
        let at = Instant::now();
        match answered {
            Ok(response) => {
                let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
                flight.headers(at, response.status().as_u16(), content_type, self.streaming);
                read_body(response, flight, watch).await;
            }
            Err(end) => flight.land(at, Some(end)),
        }
    }

    fn request(&self, prepared: Prepared, phase: Phase) -> Request {
        let mut request = Request::new(Method::POST, self.url.clone());
        request.headers_mut().clone_from(&self.headers);
        if let Ok(id) = HeaderValue::try_from(request_id(&self.point_id, phase, prepared.id)) {
            request.headers_mut().insert(X_REQUEST_ID, id);
        }
        *request.body_mut() = Some(prepared.body.into());
        request
    }
}

async fn read_body(mut response: Response, mut flight: Flight<'_>, mut watch: Watch) {
    // When the result became known, though the body goes on.
    let mut settled: Option<Instant> = None;
    let broken = loop {
        let read = tokio::select! {
            biased;
            read = response.chunk() => read,
            end = watch.expired() => break Some(end),
        };
        let at = Instant::now();
        match read {
            Ok(Some(bytes)) => {
                watch.saw_bytes(at);
                if flight.read(at, &bytes) && settled.is_none() {
                    settled = Some(at);
                    watch.hurry(at);
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(end_of(&error)),
        }
    };
    flight.land(settled.unwrap_or_else(Instant::now), broken);
    // The connection returns to the pool when its own tasks have run. Sending the next request before that would open
    // another one, and the number of connections would creep above the concurrency.
    drop(response);
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}

/// The time limits of one request. Armed once and moved lazily: a read costs no timer operation.
struct Watch {
    sleep: Pin<Box<tokio::time::Sleep>>,
    deadline: Instant,
    stall: Duration,
    /// Last body bytes; the stall limit applies from the first of them on, the wait for it belongs to the TTFT.
    last_read: Option<Instant>,
}

impl Watch {
    fn start(total: Duration, stall: Duration) -> Self {
        let deadline = Instant::now() + total;
        Self { sleep: Box::pin(tokio::time::sleep_until(deadline.into())), deadline, stall, last_read: None }
    }

    fn saw_bytes(&mut self, at: Instant) {
        if self.last_read.replace(at).is_none() {
            self.arm();
        }
    }

    /// The result is known: only the end of the body is still wanted.
    fn hurry(&mut self, at: Instant) {
        self.deadline = self.deadline.min(at + DRAIN_LIMIT);
        self.arm();
    }

    fn next(&self) -> Instant {
        self.last_read.map_or(self.deadline, |last| self.deadline.min(last + self.stall))
    }

    fn arm(&mut self) {
        let next = self.next();
        self.sleep.as_mut().reset(next.into());
    }

    /// Returns when a limit has passed. Dropping and calling it again loses nothing.
    async fn expired(&mut self) -> End {
        loop {
            self.sleep.as_mut().await;
            let now = Instant::now();
            if now >= self.deadline {
                return End::failed(Outcome::Timeout, "the request took longer than its time limit");
            }
            if now >= self.next() {
                let silence = format!("no byte for {:.1} s", self.stall.as_secs_f64());
                return End::failed(Outcome::Stalled, silence);
            }
            self.arm();
        }
    }
}

/// What a transport error means, by its type. Its text is only passed on.
fn end_of(error: &reqwest::Error) -> End {
    let mut outcome = if error.is_connect() { Outcome::Connect } else { Outcome::Disconnected };
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = cause.to_string();
        let hyper_parse = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        let io_parse = cause.downcast_ref::<std::io::Error>().is_some_and(|error| {
            // hyper reports broken chunked framing so.
            matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput)
        });
        if outcome == Outcome::Disconnected && (hyper_parse || io_parse) {
            outcome = Outcome::Malformed;
        }
        source = cause.source();
    }
    End::failed(outcome, words)
}
