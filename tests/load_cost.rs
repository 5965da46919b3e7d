//! What the load engine costs per streamed event, beside a floor: the least a client can do.
//!
//! Not run by default, it measures instead of checking:
//! `cargo test --release --test load_cost -- --ignored --nocapture`
//!
//! The server writes pre-rendered chunks (the bytes of vLLM, one token each) on a thread of its own; its CPU time
//! (`RUSAGE_THREAD`) is taken off the process's. The floor reads the same answers from bare sockets, looks for blank lines, stamps
//! and counts: no HTTP client, no JSON, no records.

#![cfg(test)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokmark::load::{Options, Progress, Target, drive, sse};
use tokmark::metrics::{Phase, RequestRecord};
use tokmark::plan::{Arrival, AtEnd, Endpoint, Length, LoadPoint, OpenLoop, Slo, Spacing, Stop, WhenFull};

const EVENT: &str = concat!(
    "data: {\"id\":\"chatcmpl-a7161fe424bc7e93\",\"object\":\"chat.completion.chunk\",\"created\":1795312788,",
    "\"model\":\"tiny-llama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" RuntimeError\"},\"logprobs\":null,",
    "\"finish_reason\":null,\"token_ids\":null}]}\n\n"
);
const LAST: &str = concat!(
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n"
);

fn cpu(who: UsageWho) -> Duration {
    let usage = getrusage(who).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000))
        .sum()
}

/// Answers every request with `tokens` events, one each `every` (zero: as fast as they go).
struct Server {
    address: SocketAddr,
    cpu_us: Arc<AtomicU64>,
    over: CancellationToken,
}

impl Server {
    fn start(tokens: usize, every: Duration) -> Self {
        let (cpu_us, over) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let (cpu_there, over_there) = (Arc::clone(&cpu_us), over.clone());
        let (address, listening) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                address.send(listener.local_addr().unwrap()).unwrap();
                let mut clock = tokio::time::interval(Duration::from_millis(20));
                loop {
                    tokio::select! {
                        () = over_there.cancelled() => return,
                        _ = clock.tick() => cpu_there.store(cpu(UsageWho::RUSAGE_THREAD).as_micros() as u64, Relaxed),
                        accepted = listener.accept() => {
                            let stream = accepted.unwrap().0;
                            stream.set_nodelay(true).unwrap();
                            tokio::spawn(serve(stream, tokens, every));
                        }
                    }
                }
            });
        });
        Self { address: listening.recv().unwrap(), cpu_us, over }
    }

    /// Client CPU and wall time of `work`.
    fn measure(&self, work: impl FnOnce() -> u64) -> (u64, Duration, Duration) {
        let before = (cpu(UsageWho::RUSAGE_SELF), self.cpu_us.load(Relaxed), Instant::now());
        let events = work();
        let wall = before.2.elapsed();
        // The server's clock ticks every 20 ms: let it tick once more.
        std::thread::sleep(Duration::from_millis(50));
        let server = Duration::from_micros(self.cpu_us.load(Relaxed) - before.1);
        (events, (cpu(UsageWho::RUSAGE_SELF) - before.0).saturating_sub(server), wall)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

fn framed(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

async fn serve(mut stream: TcpStream, tokens: usize, every: Duration) {
    let (event, last) = (framed(EVENT), [framed(LAST), b"0\r\n\r\n".to_vec()].concat());
    let mut request = vec![0; 64 << 10];
    loop {
        // The requests are small: one read is one request.
        if stream.read(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let head =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut next = tokio::time::Instant::now();
        if stream.write_all(head).await.is_err() {
            return;
        }
        for _ in 0..tokens {
            if !every.is_zero() {
                next += every;
                tokio::time::sleep_until(next).await;
            }
            if stream.write_all(&event).await.is_err() {
                return;
            }
        }
        if stream.write_all(&last).await.is_err() {
            return;
        }
    }
}

fn point(streams: u32, requests: u64, tokens: u32) -> LoadPoint {
    LoadPoint {
        id: "cost".into(),
        isl: Length { mean: 32, stddev: 0 },
        osl: Length { mean: tokens, stddev: 0 },
        arrival: Arrival::Closed { concurrency: streams },
        stop: Stop::Requests(requests),
        warmup_requests: 0,
        warmup_duration_s: None,
        at_end: AtEnd::default(),
        endpoint: Endpoint::Chat,
        streaming: true,
        ignore_eos: true,
        seed: 1,
        slo: Slo::default(),
        request_timeout_s: 600.0,
        stall_timeout_s: 600.0,
        connect_timeout_s: 30.0,
        first_token_timeout_s: None,
        max_tokens_field: Default::default(),
        continuous_usage_stats: false,
        left_out: Vec::new(),
        extra_body: serde_json::Map::new(),
    }
}

fn engine(server: &Server, point: &LoadPoint, threads: usize) -> u64 {
    let target = Target::new(format!("http://{}", server.address), "m");
    let (progress, stop) = (Progress::default(), CancellationToken::new());
    let (mut chunks, options) = (0, Options { threads: Some(threads) });
    let mut sink = |record: &RequestRecord| {
        assert!(record.error.is_none(), "{record:?}");
        chunks += record.chunks_us.len() as u64;
    };
    let run = drive(&target, point, &options, &progress, &mut sink, &stop).unwrap();
    let mut lag = run.client.loop_lag_us.clone();
    lag.sort_unstable();
    let at = |share: f64| lag.get((lag.len() as f64 * share) as usize).copied().unwrap_or(0);
    println!(
        "    loop lag p50 {} us, p99 {} us; peak RSS {:.0} MiB",
        at(0.5),
        at(0.99),
        run.client.max_rss_mib
    );
    chunks
}

fn floor(server: &Server, streams: u32, requests: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = server.address;
    let each = requests / u64::from(streams);
    runtime.block_on(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..streams {
            tasks.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let (mut buffer, mut stamps) = (vec![0; 8 << 10], Vec::new());
                for _ in 0..each {
                    stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    let mut tail = Vec::new();
                    while !tail.ends_with(b"\r\n0\r\n\r\n") {
                        let read = stream.read(&mut buffer).await.unwrap();
                        let at = Instant::now();
                        let bytes = &buffer[..read];
                        stamps.extend(bytes.windows(2).filter(|two| two == b"\n\n").map(|_| at));
                        tail.clear();
                        tail.extend_from_slice(&bytes[read.saturating_sub(16)..]);
                    }
                }
                stamps.len() as u64
            });
        }
        let mut events = 0;
        while let Some(count) = tasks.join_next().await {
            events += count.unwrap();
        }
        events - 3 * requests
    })
}

fn report(name: &str, (events, cpu, wall): (u64, Duration, Duration)) {
    println!(
        "{name:<28} {events:>9} events in {:>6.2} s = {:>9.0}/s, client CPU {:>6.2} us/event",
        wall.as_secs_f64(),
        events as f64 / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / events as f64
    );
}

#[test]
#[ignore = "measures; run with --ignored --nocapture in release"]
fn cost_per_event() {
    for (streams, tokens) in [(50, 200), (500, 200), (1000, 200)] {
        let server = Server::start(tokens, Duration::from_millis(20));
        let name = format!("{streams} streams, 50 tok/s");
        for _ in 0..2 {
            report(&format!("floor, {name}"), server.measure(|| floor(&server, streams, u64::from(streams))));
            let point = point(streams, u64::from(streams), tokens as u32);
            report(&format!("engine, {name}"), server.measure(|| engine(&server, &point, 1)));
        }
    }
    let server = Server::start(1000, Duration::ZERO);
    report("floor, 32 streams flat out", server.measure(|| floor(&server, 32, 640)));
    report("engine, 32 streams flat out", server.measure(|| engine(&server, &point(32, 640, 1000), 1)));
}

#[test]
#[ignore = "measures; run with --ignored --nocapture in release"]
fn cost_of_understanding_one_event() {
    let rounds = 2_000_000_u64;
    let before = cpu(UsageWho::RUSAGE_SELF);
    let mut parser = sse::Parser::default();
    let mut events = 0_u64;
    for _ in 0..rounds {
        parser.push(EVENT.as_bytes());
        while let Some(event) = parser.next_event().unwrap() {
            events += u64::from(!event.data.is_empty());
        }
    }
    assert_eq!(events, rounds);
    let spent = cpu(UsageWho::RUSAGE_SELF) - before;
    println!("SSE parse: {:.0} ns/event", spent.as_secs_f64() * 1e9 / rounds as f64);
    let mut parser = sse::Parser::default();
    let before = cpu(UsageWho::RUSAGE_SELF);
    let mut content = 0_u64;
    for _ in 0..rounds {
        parser.push(EVENT.as_bytes());
        while let Some(event) = parser.next_event().unwrap() {
            let payload = tokmark::load::chunk::classify(event.name, event.data).unwrap();
            content += u64::from(
                matches!(payload, tokmark::load::chunk::Payload::Chunk(chunk) if chunk.has_content()),
            );
        }
    }
    let spent = cpu(UsageWho::RUSAGE_SELF) - before;
    assert_eq!(content, rounds);
    println!("SSE parse + classification: {:.0} ns/event", spent.as_secs_f64() * 1e9 / rounds as f64);
    let before = cpu(UsageWho::RUSAGE_SELF);
    let point = LoadPoint { isl: Length { mean: 128, stddev: 0 }, ..point(1, 1, 128) };
    let source = tokmark::load::PromptSource::new(&point);
    let bytes: usize = (0..50_000)
        .map(|id| tokmark::load::request_body(&point, "m", &source.plan(Phase::Measure, id)).len())
        .sum();
    let spent = cpu(UsageWho::RUSAGE_SELF) - before;
    println!(
        "prompt + body, 128 words: {:.1} us each ({} bytes)",
        spent.as_secs_f64() * 1e6 / 50_000.0,
        bytes / 50_000
    );
}

/// How far sends are from the instants the schedule intends, at 2,000 arrivals a second of one-token answers and at one
/// a second, where the CPU shows what waiting costs.
#[test]
#[ignore = "measures; run with --ignored --nocapture in release"]
fn pacing_error() {
    let server = Server::start(1, Duration::ZERO);
    let target = Target::new(format!("http://{}", server.address), "m");
    let idle = (1.0, 5.0);
    for ((rate, seconds), threads) in
        [((2000.0, 10.0), 1), ((2000.0, 10.0), 2), ((500.0, 10.0), 1), (idle, 1)]
    {
        let (max_concurrency, when_full) = (None, WhenFull::Queue);
        let open = OpenLoop { rate, spacing: Spacing::Poisson, max_concurrency, when_full };
        let point = LoadPoint {
            arrival: Arrival::Open(open),
            stop: Stop::DurationS(seconds),
            warmup_requests: 200.min(rate as u64),
            ..point(1, 1, 1)
        };
        let (progress, stop) = (Progress::default(), CancellationToken::new());
        let mut lags = Vec::new();
        let (sent, cpu, _) = server.measure(|| {
            let options = Options { threads: Some(threads) };
            let mut sink = |record: &RequestRecord| {
                if record.phase == Phase::Measure {
                    lags.push(record.sent_us - record.scheduled_us);
                }
            };
            drive(&target, &point, &options, &progress, &mut sink, &stop).unwrap();
            lags.len() as u64
        });
        lags.sort_unstable();
        let at = |share: f64| lags.get((lags.len() as f64 * share) as usize).copied().unwrap_or(0);
        println!(
            "poisson {rate}/s, {threads} thread(s): {sent} sent in {seconds} s, sent - intended p50 {} us, p90 {} us, \
             p99 {} us, max {} us; client CPU {:.0} us/request, {:.1} % of a core",
            at(0.5),
            at(0.9),
            at(0.99),
            lags.last().copied().unwrap_or(0),
            cpu.as_secs_f64() * 1e6 / sent as f64,
            100.0 * cpu.as_secs_f64() / seconds
        );
    }
}
