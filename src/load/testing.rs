//! Shared by the tests of the load engine: a load point, and a server that plays scripts.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::target::Target;
use super::{LiveCounters, Options, drive};
use crate::metrics::fold::Fold;
use crate::metrics::record::{PointRun, RequestRecord};
use crate::plan::{Arrival, AtEnd, Endpoint, Length, Level, Limit, LoadPoint, Slo, Spacing, Stop};
use crate::prompts::{Learned, Prompts, TokenizerCache};

/// A small closed-loop point: chat, streamed, 8/4 tokens, as many requests as slots.
pub(crate) fn point(concurrency: u32) -> LoadPoint {
    LoadPoint {
        id: "p".into(),
        repeat: None,
        isl: Length::fixed(8),
        osl: Length::fixed(4),
        arrival: Arrival::closed(concurrency),
        stop: Stop::Requests(u64::from(concurrency)),
        warmup_requests: 0,
        warmup_duration_s: None,
        at_end: AtEnd::default(),
        endpoint: Endpoint::Chat,
        streaming: true,
        ignore_eos: true,
        seed: 1,
        slo: Slo::default(),
        request_timeout_s: 30.0,
        stall_timeout_s: 30.0,
        connect_timeout_s: 30.0,
        first_token_timeout_s: None,
        max_tokens_field: Default::default(),
        continuous_usage_stats: false,
        left_out: Vec::new(),
        scaled: None,
        prompts: crate::plan::PromptSpec::default(),
        exports: Vec::new(),
        extra_body: serde_json::Map::default(),
    }
}

/// The prompts of `point`.
pub(crate) fn prompts(point: &LoadPoint) -> Arc<Prompts> {
    Arc::new(Prompts::prepare(point, 0, Learned::default(), &TokenizerCache::default()).unwrap())
}

/// The same as an open loop without a limit of requests in flight.
pub(crate) fn open_point(rate: f64, spacing: Spacing) -> LoadPoint {
    let arrival = Arrival::Open { rate: Level::Constant(rate), spacing, limit: Limit::default() };
    LoadPoint { arrival, ..point(1) }
}

/// A point as it ran, with the records its sink was given.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) run: PointRun,
    pub(crate) records: Vec<RequestRecord>,
}

impl Driven {
    /// Drives `point` on so many threads.
    pub(crate) fn new(target: &Target, point: &LoadPoint, threads: usize) -> Self {
        Self::watched(target, point, threads, &LiveCounters::default(), &CancellationToken::new())
    }

    /// The same, watched and stopped from outside.
    pub(crate) fn watched(
        target: &Target,
        point: &LoadPoint,
        threads: usize,
        counters: &LiveCounters,
        stop: &CancellationToken,
    ) -> Self {
        let mut records = Vec::new();
        let mut sink = |record: &RequestRecord| records.push(record.clone());
        let options = Options { threads: Some(threads), ..Options::default() };
        let run = drive(target, point, &prompts(point), &options, counters, &mut sink, stop).unwrap();
        Self { run, records }
    }

    /// Measured requests that the planned end cut.
    pub(crate) fn cut_at_end(&self) -> u64 {
        Fold::of(&self.records).cut_at_end(&self.run)
    }
}

impl std::ops::Deref for Driven {
    type Target = PointRun;

    fn deref(&self) -> &PointRun {
        &self.run
    }
}

/// One step of a scripted answer.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Write these bytes.
    Send(Vec<u8>),
    /// Go on when this many requests are being answered at once, or this many have come in all.
    Together(usize, usize),
    /// Go on when this many connections have been closed.
    Closed(usize),
    /// Send nothing more until the client hangs up.
    Hold,
    /// Close the connection.
    Close,
    /// Close it with a reset.
    Reset,
}

/// The requests that the scripted server received.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    pub(crate) connections: usize,
    pub(crate) closed: usize,
    /// `X-Request-Id` and body of each request, in order of arrival.
    pub(crate) requests: Vec<(String, String)>,
    pub(crate) in_flight: usize,
    pub(crate) max_in_flight: usize,
}

/// A server on a thread of its own that answers request `n` (from 0) with `script(n)` and keeps the connection.
pub(crate) struct Server {
    pub(crate) address: std::net::SocketAddr,
    received: watch::Sender<Received>,
    over: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

type Script = dyn Fn(usize) -> Vec<Step> + Send + Sync;

impl Server {
    pub(crate) fn play(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (received, over) = (watch::Sender::new(Received::default()), CancellationToken::new());
        let (sender, stop) = (received.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let script: Arc<Script> = Arc::new(script);
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        accepted = listener.accept() => {
                            sender.send_modify(|received| received.connections += 1);
                            let stream = accepted.unwrap().0;
                            let (script, received) = (Arc::clone(&script), sender.clone());
                            tokio::spawn(async move {
                                serve(stream, script, &received).await;
                                received.send_modify(|received| received.closed += 1);
                            });
                        }
                    }
                }
            });
        });
        Self { address, received, over, thread: Some(thread) }
    }

    pub(crate) fn target(&self) -> Target {
        Target::new(format!("http://{}", self.address), "m")
    }

    pub(crate) fn received(&self) -> Received {
        self.received.borrow().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, received: &watch::Sender<Received>) {
    while let Some(request) = read_request(&mut stream).await {
        let mut number = 0;
        received.send_modify(|received| {
            number = received.requests.len();
            received.requests.push(request);
            received.in_flight += 1;
            received.max_in_flight = received.max_in_flight.max(received.in_flight);
        });
        let mut landed = false;
        for step in script(number) {
            match step {
                Step::Send(bytes) => {
                    // The client may send its next request before this task runs again.
                    let last = bytes.ends_with(b"0\r\n\r\n");
                    if last {
                        landed = true;
                        received.send_modify(|received| received.in_flight -= 1);
                    }
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::Together(at_once, in_all) => {
                    let together = |received: &Received| {
                        received.in_flight >= at_once || received.requests.len() >= in_all
                    };
                    received.subscribe().wait_for(together).await.unwrap();
                }
                Step::Closed(count) => {
                    received.subscribe().wait_for(|received| received.closed >= count).await.unwrap();
                }
                Step::Hold => {
                    let _ = stream.read(&mut [0; 64]).await;
                    return;
                }
                Step::Close => return,
                Step::Reset => {
                    stream.set_zero_linger().unwrap();
                    return;
                }
            }
        }
        if !landed {
            received.send_modify(|received| received.in_flight -= 1);
        }
    }
}

/// The request id and the body of one request; `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let header = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let length: usize = header("content-length:").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes.split_off(head_end)).unwrap();
    Some((header("x-request-id:").unwrap_or_default(), body))
}

/// The head of a chunked event stream.
pub(crate) fn head() -> Step {
    Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
    )
}

/// `text` as one HTTP chunk.
pub(crate) fn part(text: &str) -> Step {
    Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())
}

/// The last HTTP chunk.
pub(crate) fn tail() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}

/// A whole answer with a length.
pub(crate) fn whole(status: &str, kind: &str, body: &str) -> Vec<Step> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    vec![Step::Send(format!("{head}{body}").into_bytes())]
}

pub(crate) const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" a\"}}]}\n\n";
pub(crate) const REASON: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\" r\"}}]}\n\n";
pub(crate) const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
pub(crate) const USAGE: &str = concat!(
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":4,",
    "\"prompt_tokens_details\":{\"cached_tokens\":16}}}\n\n"
);
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// A good streamed answer: reasoning, three tokens, usage.
pub(crate) fn good() -> Vec<Step> {
    let parts = [REASON, TOKEN, TOKEN, TOKEN, FINISH, USAGE, DONE];
    std::iter::once(head()).chain(parts.map(part)).chain([tail()]).collect()
}
