//! What the load engine costs and how true its figures are, beside a floor: the least a client can do.
//!
//! `cargo bench --bench load` runs everything; `cargo bench --bench load -- cost` one part: `cost`, `pacing`, `streams`,
//! `memory`, `start`, `instructions`. It needs two cores and measures on loopback alone: a token-exact server, the floor and
//! `tokmark bench` are processes of their own, so that each one's CPU time is its own. Records, statistics and AIPerf's
//! export are included in tokmark's. `docs/performance.md` has the bars and the figures.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod floor;
mod instructions;
mod server;
mod stats;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use stats::{children_cpu_s, median};

const US: u64 = 1_000;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number =
        |at: usize| args.get(at).and_then(|arg| arg.parse::<u64>().ok()).context("a number is missing");
    match args.first().map(String::as_str) {
        Some("serve") => server::serve(server::Pace {
            ttft: Duration::from_nanos(number(1)?),
            gap: Duration::from_nanos(number(2)?),
        }),
        Some("floor") => {
            let address = args.get(1).context("an address is missing")?.parse()?;
            println!("{}", floor::run(address, number(2)?, number(3)?, number(4)?)?);
            Ok(())
        }
        Some(part) => run(part),
        None => {
            ["cost", "pacing", "streams", "memory", "start", "instructions"].into_iter().try_for_each(run)
        }
    }
}

fn run(part: &str) -> anyhow::Result<()> {
    match part {
        "cost" => [50, 200, 500, 1000].into_iter().try_for_each(cost),
        "pacing" => pacing(),
        "streams" => streams(),
        "memory" => memory(),
        "start" => start(),
        "instructions" => instructions::run(),
        other => bail!("unknown part {other:?}: cost, pacing, streams, memory, start or instructions"),
    }
}

/// The server in a process of its own.
struct Server {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    address: String,
}

impl Server {
    fn start(ttft_us: u64, gap_us: u64) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", &(ttft_us * US).to_string(), &(gap_us * US).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let address = lines.next().context("the server did not start")??;
        Ok(Self { child, lines, address })
    }

    /// Runs the floor to its end; gives its figures and its CPU seconds.
    fn floor(&self, streams: u64, requests: u64, tokens: u64) -> anyhow::Result<(Value, f64)> {
        let before = children_cpu_s();
        let output = Command::new(std::env::current_exe()?)
            .args(["floor", &self.address])
            .args([streams, requests, tokens].map(|number| number.to_string()))
            .output()?;
        let figures = serde_json::from_slice(&output.stdout).context("the floor failed")?;
        Ok((figures, children_cpu_s() - before))
    }

    /// Runs `tokmark bench` to its end; gives its summary and its CPU seconds.
    fn tokmark(&self, out: &Path, args: &[&str]) -> anyhow::Result<(Value, f64)> {
        let before = children_cpu_s();
        let output = self.command(out, args).output()?;
        let summary = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("tokmark failed: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((summary, children_cpu_s() - before))
    }

    fn command(&self, out: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokmark"));
        self.bench(&mut command, out);
        command.args(args);
        command
    }

    /// The arguments of `tokmark bench` against this server.
    fn bench(&self, command: &mut Command, out: &Path) {
        command.args(["bench", "--url", &format!("http://{}", self.address), "--model", "m"]);
        command.args(["--json", "--out"]).arg(out);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn figure(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// CPU per streamed event as the slope between two answer lengths, and the figures both clients report.
fn cost(streams: u64) -> anyhow::Result<()> {
    const SHORT: u64 = 100;
    const ROUNDS: usize = 3;
    // A hundred thousand events at least, so that what a process costs by itself is small beside them.
    let long = (100_000 / streams).clamp(350, 1_500);
    let server = Server::start(20_000, 20_000)?;
    let events = (streams * (long - SHORT)) as f64;
    let (mut floors, mut ours, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let (mut floor_figures, mut our_figures) = (Value::Null, Value::Null);
    let count = streams.to_string();
    for _ in 0..ROUNDS {
        let (mut floor_cpu, mut our_cpu) = (Vec::new(), Vec::new());
        for tokens in [SHORT, long] {
            let (figures, cpu) = server.floor(streams, streams, tokens)?;
            floor_cpu.push(cpu);
            floor_figures = figures;
            let dir = tempfile::tempdir()?;
            let osl = tokens.to_string();
            let args = ["--concurrency", &count, "--requests", &count, "--osl", &osl];
            let (figures, cpu) = server.tokmark(&dir.path().join("out"), &args)?;
            our_cpu.push(cpu);
            our_figures = figures;
        }
        let slope = |cpu: &[f64]| (cpu.last().unwrap_or(&0.0) - cpu.first().unwrap_or(&0.0)) / events * 1e6;
        floors.push(slope(&floor_cpu));
        ours.push(slope(&our_cpu));
        whole.push(our_cpu.last().unwrap_or(&0.0) / floor_cpu.last().unwrap_or(&1.0));
    }
    let show =
        |values: &[f64]| values.iter().map(|value| format!("{value:.2}")).collect::<Vec<_>>().join(" ");
    println!("\n{streams} streams of 50 tokens/s, true TTFT 20 ms, {SHORT} against {long} tokens each");
    println!("  CPU per event, µs: floor {}; tokmark {}", show(&floors), show(&ours));
    let (floor, own) = (median(floors), median(ours));
    println!("  medians: floor {floor:.2}, tokmark {own:.2}, ratio {:.2}", own / floor);
    println!("  whole processes at {long} tokens, start-up and exports included: ratio {:.2}", median(whole));
    let (f, o) = (&floor_figures, &our_figures);
    println!(
        "  TTFT ms p50/p99: floor {:.2}/{:.2}, tokmark {:.2}/{:.2}",
        figure(f, "/ttft_ms/p50"),
        figure(f, "/ttft_ms/p99"),
        figure(o, "/ttft_ms/p50"),
        figure(o, "/ttft_ms/p99")
    );
    println!(
        "  gaps ms p50/p99: floor {:.3}/{:.2}, tokmark {:.3}/{:.2}",
        figure(f, "/gap_ms/p50"),
        figure(f, "/gap_ms/p99"),
        figure(o, "/icl_ms/p50"),
        figure(o, "/icl_ms/p99")
    );
    println!(
        "  tokens/s: offered {:.0}, floor {:.0}, tokmark {:.0}; verdict {}",
        streams as f64 / 0.02,
        figure(f, "/tokens_per_s"),
        figure(o, "/throughput/output_tokens_per_s"),
        o.pointer("/verdict").unwrap_or(&Value::Null)
    );
    Ok(())
}

/// How far sends are from their intended instants, and whether the intended gaps are exponential (Kolmogorov–Smirnov).
fn pacing() -> anyhow::Result<()> {
    const RATE: f64 = 2000.0;
    let server = Server::start(1_000, 1_000)?;
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("out");
    let args =
        ["--rate", "2000", "--arrival", "poisson", "--duration", "10s", "--osl", "1", "--warmup", "200"];
    server.tokmark(&out, &args)?;
    let (mut lags, mut sent, mut meant) = (Vec::new(), Vec::new(), Vec::new());
    for record in records(&out)? {
        if record.get("phase").and_then(Value::as_str) == Some("measure") {
            let at = |key: &str| record.get(key).and_then(Value::as_u64).unwrap_or(0);
            lags.push(Duration::from_micros(at("sent_us").saturating_sub(at("scheduled_us"))));
            sent.push(at("sent_us"));
            meant.push(at("scheduled_us"));
        }
    }
    let count = lags.len();
    let bound = 1.628 / (count as f64).sqrt();
    println!("\nPoisson arrivals, {RATE}/s for 10 s: {count} requests");
    println!("  sent − intended, ms: {}", stats::percentiles_ms(lags));
    println!(
        "  KS distance of gaps from exponential: intended {:.4}, sent {:.4} (1 % bound {bound:.4})",
        ks_exponential(meant, RATE),
        ks_exponential(sent, RATE)
    );
    Ok(())
}

fn ks_exponential(mut instants_us: Vec<u64>, rate: f64) -> f64 {
    instants_us.sort_unstable();
    let later = instants_us.iter().skip(1);
    let mut gaps: Vec<f64> =
        instants_us.iter().zip(later).map(|(before, after)| (after - before) as f64 / 1e6).collect();
    gaps.sort_unstable_by(f64::total_cmp);
    let count = gaps.len() as f64;
    gaps.iter().enumerate().fold(0.0, |worst, (index, gap)| {
        let expected = 1.0 - (-gap * rate).exp();
        let index = index as f64;
        worst.max((expected - index / count).abs()).max(((index + 1.0) / count - expected).abs())
    })
}

/// Every record below `out`.
fn records(out: &Path) -> anyhow::Result<Vec<Value>> {
    for entry in walkdir::WalkDir::new(out) {
        let entry = entry?;
        if entry.file_name() == "records.jsonl" {
            let file = BufReader::new(std::fs::File::open(entry.path())?);
            return file.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect();
        }
    }
    bail!("no records.jsonl below {}", out.display())
}

/// 15,000 streams at once, one event a second each.
fn streams() -> anyhow::Result<()> {
    let server = Server::start(20_000_000, 1_000_000)?;
    let dir = tempfile::tempdir()?;
    let args = ["--concurrency", "15000", "--requests", "15000", "--osl", "10"];
    let (summary, cpu) = server.tokmark(&dir.path().join("out"), &args)?;
    println!("\n15,000 streams at once, 10 tokens each, one a second");
    println!(
        "  ok {} of {}, peak RSS {:.0} MiB, CPU {cpu:.1} s, verdict {}",
        figure(&summary, "/requests/completed"),
        figure(&summary, "/requests/total"),
        figure(&summary, "/client/max_rss_mib"),
        summary.pointer("/verdict").unwrap_or(&Value::Null)
    );
    Ok(())
}

/// Memory per finished request: growth of the peak between two numbers of requests.
fn memory() -> anyhow::Result<()> {
    let server = Server::start(100, 100)?;
    let mut peaks = Vec::new();
    const REQUESTS: [u64; 2] = [20_000, 120_000];
    for requests in REQUESTS {
        let dir = tempfile::tempdir()?;
        let requests = requests.to_string();
        let args = ["--concurrency", "64", "--requests", &requests, "--osl", "20"];
        let (summary, _) = server.tokmark(&dir.path().join("out"), &args)?;
        peaks.push(figure(&summary, "/client/max_rss_mib"));
    }
    let growth = (peaks.last().unwrap_or(&0.0) - peaks.first().unwrap_or(&0.0)) * 1024.0 * 1024.0;
    println!("\nmemory: peak RSS {peaks:.1?} MiB for {REQUESTS:?} requests of 20 tokens");
    println!("  {:.0} B per finished request", growth / (REQUESTS[1] - REQUESTS[0]) as f64);
    Ok(())
}

/// From the start of the process to the first request, 1,000 streams, 10,000 prompts of 1,000 tokens.
fn start() -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let mut server = Server::start(1_000, 1_000)?;
        let dir = tempfile::tempdir()?;
        let args = ["--concurrency", "1000", "--requests", "10000", "--osl", "1", "--isl", "1000"];
        let begin = Instant::now();
        let mut command = server.command(&dir.path().join("out"), &[]);
        let mut child = command.args(args).stdout(Stdio::null()).spawn()?;
        let line = server.lines.next().context("the server ended")??;
        times.push(begin.elapsed().as_secs_f64());
        anyhow::ensure!(line == "first", "the server said {line:?}");
        child.wait()?;
    }
    println!("\nstart to first request, 1,000 streams, 10,000 prompts of 1,000 tokens: {times:.3?} s");
    Ok(())
}
