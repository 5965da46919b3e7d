//! The shapes of two published results come out of the figures of GPU and model, in virtual time: rise, peak, plateau,
//! over-saturation. `cargo test --lib sim::profile::shapes -- --nocapture` prints the tables of docs/sim.md.

use super::*;
use crate::sim::engine::{Engine, FinishReason, SequenceRequest};
use crate::sim::{stable_hash, unit_interval};

/// Lengths of the nth request of a closed loop: prompt and answer.
type Lengths = fn(u64) -> (u32, u32);

/// One request that ended.
struct Ended {
    sent_us: u64,
    first_us: u64,
    end_us: u64,
    tokens: u32,
}

/// A closed loop: `concurrency` requests in flight from the start, the next sent when one ends, `total` in all or until
/// `until_us`. Those in flight then are left out.
struct Loop {
    concurrency: u64,
    total: u64,
    until_us: u64,
    lengths: Lengths,
}

struct Measured {
    ended: Vec<Ended>,
    most_running: usize,
    preemptions: u64,
}

impl Loop {
    fn run(&self, config: EngineConfig) -> Measured {
        let mut engine = Engine::new(config);
        let (mut events, mut ended, mut flight) = (Vec::new(), Vec::new(), BTreeMap::new());
        let (mut now_us, mut sent, mut most_running) = (0, 0, 0);
        while now_us < self.until_us {
            while sent < self.total && (flight.len() as u64) < self.concurrency {
                let (prompt_tokens, output_tokens) = (self.lengths)(sent);
                let finish = FinishReason::Length;
                let request =
                    SequenceRequest { id: sent, arrival_us: now_us, prompt_tokens, output_tokens, finish };
                engine.submit(request).expect("fits");
                flight.insert(sent, Ended { sent_us: now_us, first_us: 0, end_us: 0, tokens: output_tokens });
                sent += 1;
            }
            let Some(step) = engine.begin_step(now_us) else { break };
            most_running = most_running.max(engine.num_running());
            now_us = step.end_us;
            engine.finish_step(&mut events);
            for event in events.iter().filter(|_| now_us <= self.until_us) {
                if event.nth == 1 {
                    flight.get_mut(&event.id).expect("in flight").first_us = now_us;
                }
                if event.finish.is_some() {
                    ended.push(Ended { end_us: now_us, ..flight.remove(&event.id).expect("in flight") });
                }
            }
        }
        Measured { ended, most_running, preemptions: engine.stats().preemptions }
    }
}

impl Measured {
    /// As genai-perf counts: from the first request sent to the last answer, over the requests that ended.
    fn seconds(&self) -> f64 {
        let first = self.ended.iter().map(|request| request.sent_us).min().expect("some ended");
        let last = self.ended.iter().map(|request| request.end_us).max().expect("some ended");
        (last - first) as f64 / 1e6
    }

    fn tokens_per_s(&self) -> f64 {
        self.ended.iter().map(|request| f64::from(request.tokens)).sum::<f64>() / self.seconds()
    }

    fn mean_s(&self, of: impl Fn(&Ended) -> u64) -> f64 {
        self.ended.iter().map(|request| of(request) as f64 / 1e6).sum::<f64>() / self.ended.len() as f64
    }

    fn latency_s(&self) -> f64 {
        self.mean_s(|request| request.end_us - request.sent_us)
    }

    fn ttft_s(&self) -> f64 {
        self.mean_s(|request| request.first_us - request.sent_us)
    }
}

/// A number in [0, 1), the same for the same request and purpose.
fn draw(nth: u64, purpose: u64) -> f64 {
    unit_interval(stable_hash(purpose, &nth.to_le_bytes()))
}

/// Normal to a hair: 12 even draws have variance 1.
fn normal(nth: u64, purpose: u64, mean: f64, stddev: f64) -> u32 {
    let sum: f64 = (0..12).map(|draws| draw(nth, 100 * purpose + draws)).sum();
    (mean + stddev * (sum - 6.0)).round().max(1.0) as u32
}

/// Requested lengths: 200 ± 20 and 100 ± 10 tokens.
fn requested(nth: u64) -> (u32, u32) {
    (normal(nth, 1, 200.0, 20.0), normal(nth, 2, 100.0, 10.0))
}

/// As published: answers of 126 tokens on average, three quarters of them up to 133, nine tenths up to 144.
fn answered(nth: u64) -> (u32, u32) {
    (normal(nth, 1, 200.0, 20.0), normal(nth, 2, 126.0, 14.0))
}

/// Contexts of 2,048 to 4,096 tokens, answers of 256.
fn long_contexts(nth: u64) -> (u32, u32) {
    (2048 + (2048.0 * draw(nth, 1)) as u32, normal(nth, 2, 256.0, 25.0))
}

const CONCURRENCY: [u64; 6] = [10, 20, 40, 80, 120, 200];
const PUBLISHED_TOKENS_PER_S: [f64; 6] = [236.62, 554.70, 766.65, 828.76, 1007.91, 771.25];
const PUBLISHED_LATENCY_S: [f64; 6] = [5.04, 4.31, 6.09, 9.58, 9.95, 17.85];

/// What genai-perf does without --request-count: three windows of 1.2 × 10 s from the start of the load; a request that
/// has not ended by then does not count.
const WINDOWS_US: u64 = 36_000_000;

fn a10g(lengths: Lengths, per_concurrency: u64, until_us: u64) -> [Measured; 6] {
    let engine = Profile::find("a10g").expect("embedded").engine(1);
    CONCURRENCY.map(|concurrency| {
        let total = concurrency.saturating_mul(per_concurrency);
        Loop { concurrency, total, until_us, lengths }.run(engine.clone())
    })
}

fn print_beside_published(title: &str, points: &[Measured; 6]) {
    println!("{title}: concurrency, tok/s (published), mean latency s (published), ended");
    for (at, point) in points.iter().enumerate() {
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} | {} |",
            CONCURRENCY[at],
            point.tokens_per_s(),
            PUBLISHED_TOKENS_PER_S[at],
            point.latency_s(),
            PUBLISHED_LATENCY_S[at],
            point.ended.len()
        );
    }
}

/// `later` is at least `percent` above `earlier`.
fn rises(earlier: f64, later: f64, percent: f64) {
    assert!(later >= earlier * (1.0 + percent / 100.0), "{later:.0} is not {percent} % above {earlier:.0}");
}

#[test]
fn a10g_rises_peaks_and_is_over_saturated_at_200() {
    for (title, lengths) in [("as requested", requested as Lengths), ("as answered", answered)] {
        let points = a10g(lengths, u64::MAX, WINDOWS_US);
        print_beside_published(title, &points);
        let rate = points.each_ref().map(Measured::tokens_per_s);
        rises(rate[0], rate[1], 30.0);
        rises(rate[1], rate[2], 30.0);
        rises(rate[2], rate[3], 10.0);
        let peak = rate[3].max(rate[4]);
        assert!(rate[3].min(rate[4]) > 0.9 * peak, "80 and 120 are the plateau: {rate:?}");
        assert!(rate[5] < 0.88 * rate[4], "200 is at least 12 % below 120: {rate:?}");
        // What is gained in the queue is lost in waiting: from 120 to 200, 1.67 times the load, at least 1.5 times the wait.
        let wait = points.each_ref().map(Measured::latency_s);
        assert!(wait.is_sorted() && wait[5] > 1.5 * wait[4], "{wait:?}");
    }
}

#[test]
fn a10g_counted_to_the_last_request_keeps_its_plateau() {
    // The fall is in the counting: with 5 requests for each in flight, all of them waited for, there is none.
    let points = a10g(requested, 5, u64::MAX);
    print_beside_published("all requests", &points);
    let rate = points.each_ref().map(Measured::tokens_per_s);
    for pair in rate[..4].windows(2) {
        rises(pair[0], pair[1], 20.0);
    }
    assert!(rate[4] < 1.12 * rate[3] && rate[5] < 1.10 * rate[4], "the rise ends: {rate:?}");
    assert!(rate[5] > 0.97 * rate[4], "and nothing falls: {rate:?}");
    // Little's law, as all requests are counted: in flight on average = rate × latency, near the concurrency.
    for (at, point) in points.iter().enumerate() {
        let in_flight = point.ended.len() as f64 / point.seconds() * point.latency_s();
        let share = in_flight / CONCURRENCY[at] as f64;
        assert!((0.9..=1.0).contains(&share), "concurrency {}: {in_flight:.1} in flight", CONCURRENCY[at]);
    }
}

#[test]
fn a10g_has_the_published_latencies_without_being_fitted_to_them() {
    // From 20 on: the run at 10 has the first requests of the server in it, which compile kernels.
    let points = a10g(answered, u64::MAX, WINDOWS_US);
    for (at, point) in points.iter().enumerate().skip(1) {
        let ratio = point.latency_s() / PUBLISHED_LATENCY_S[at];
        assert!((0.7..1.4).contains(&ratio), "concurrency {}: {ratio:.2} of the published", CONCURRENCY[at]);
    }
}

#[test]
fn h100_is_level_once_the_kv_cache_is_full() {
    let engine = Profile::find("h100").expect("embedded").engine(1);
    let users = [32, 64, 128, 256, 512, 1024, 1536];
    let points = users.map(|concurrency| {
        let total = concurrency * 3;
        Loop { concurrency, total, until_us: u64::MAX, lengths: long_contexts }.run(engine.clone())
    });
    println!("h100: users, tok/s, mean TTFT s, mean latency s, most running, preemptions");
    for (users, point) in users.iter().zip(&points) {
        println!(
            "| {users} | {:.0} | {:.2} | {:.1} | {} | {} |",
            point.tokens_per_s(),
            point.ttft_s(),
            point.latency_s(),
            point.most_running,
            point.preemptions
        );
    }
    let rate = points.each_ref().map(Measured::tokens_per_s);
    for pair in rate[..3].windows(2) {
        rises(pair[0], pair[1], 20.0);
    }
    rises(rate[2], rate[3], 10.0);
    for flat in &rate[4..] {
        assert!((flat / rate[3] - 1.0).abs() < 0.06, "flat beyond 256: {rate:?}");
    }
    // Room for some 250 of these contexts, fewer than max_num_seqs.
    let running = points.each_ref().map(|point| point.most_running);
    assert!(running[6] == running[4] && (200..300).contains(&running[4]), "{running:?}");
    // The queue is what tells: each doubling of the users doubles the TTFT or more, while nothing else changes.
    let ttft = points.each_ref().map(Measured::ttft_s);
    assert!(ttft[2] < 2.0 && ttft[4] > 5.0 * ttft[3].min(4.0) && ttft[5] > 2.0 * ttft[4], "{ttft:?}");
}
