//! Requests through reqwest: HTTP/2 and proxies, which `http1` leaves out.
//!
//! Reads are stamped when reqwest hands them over, behind its connection task and channel.

use std::error::Error as _;
use std::time::Instant;

use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response, Url};

use super::answer::End;
use super::client::Watch;
use super::http1::Sink as _;
use super::in_flight::InFlight;
use super::request_queue::ReadyRequest;
use crate::metrics::record::Outcome;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Debug)]
pub(crate) struct ViaReqwest {
    http: reqwest::Client,
    urls: Vec<Url>,
    headers: HeaderMap,
}

impl ViaReqwest {
    /// Requests to `urls` in turn, each with `headers` beside the client's own.
    pub(crate) fn new(http: reqwest::Client, urls: Vec<Url>, headers: HeaderMap) -> Self {
        Self { http, urls, headers }
    }

    pub(crate) async fn exchange(
        &self,
        mut in_flight: InFlight<'_>,
        ready: ReadyRequest,
        request_id: &str,
        mut watch: Watch,
    ) {
        let Some(request) = self.request(ready, request_id) else {
            return in_flight.finish(Instant::now(), Some(End::failed(Outcome::Connect, "no address")));
        };
        let answered = tokio::select! {
            biased;
            answered = self.http.execute(request) => answered.map_err(|error| end_of(&error)),
            end = watch.expired() => Err(end),
        };
        let at = Instant::now();
        match answered {
            Ok(response) => {
                let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
                let status = response.status().as_u16();
                in_flight.head(at, status, text(CONTENT_ENCODING));
                read_body(response, in_flight, watch).await;
            }
            Err(end) => in_flight.finish(at, Some(end)),
        }
    }

    fn request(&self, ready: ReadyRequest, request_id: &str) -> Option<Request> {
        let turn = ready.id % self.urls.len().max(1) as u64;
        let url = self.urls.get(usize::try_from(turn).ok()?)?.clone();
        let mut request = Request::new(Method::POST, url);
        request.headers_mut().clone_from(&self.headers);
        if let Ok(id) = HeaderValue::try_from(request_id) {
            request.headers_mut().insert(X_REQUEST_ID, id);
        }
        *request.body_mut() = Some(ready.body.into());
        Some(request)
    }
}

async fn read_body(mut response: Response, mut in_flight: InFlight<'_>, mut watch: Watch) {
    let broken = loop {
        let read = tokio::select! {
            biased;
            read = response.chunk() => read,
            end = watch.expired() => break Some(end),
        };
        let at = Instant::now();
        match read {
            Ok(Some(bytes)) => {
                in_flight.payload(at, &bytes);
                watch.saw(at, &in_flight);
            }
            Ok(None) => break None,
            Err(error) => break Some(end_of(&error)),
        }
    };
    in_flight.finish(watch.settled.unwrap_or_else(Instant::now), broken);
    // The connection returns to the pool when its own tasks have run. Sending the next request before that would open
    // another one, and the number of connections would creep above the concurrency.
    drop(response);
    for _ in 0..2 {
        tokio::task::yield_now().await;
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
