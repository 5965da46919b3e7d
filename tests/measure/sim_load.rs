//! How true and how cheap the simulated engine is, measured from outside over loopback. Ignored by default: figures need
//! a quiet machine and a release build.
//!
//! `cargo test --release --test measure sim_load -- --ignored --nocapture --test-threads 1`
//!
//! The server is a process of its own, pinned to core 0 with `taskset`; the client reads raw bytes on another core, so that
//! its cost is small. CPU time is the server's own `process_cpu_seconds_total`, lateness its `tokmark_sim_step_lag_*`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", env!("CARGO_BIN_EXE_tokmark"), "sim", "--port", "0"]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("taskset is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address =
            line.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
        Self { child, address: address.to_owned() }
    }

    fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(&self.address).expect("connects");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        let line = page.lines().find(|line| line.starts_with(name)).expect("the metric");
        line.rsplit(' ').next().expect("a value").parse().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(isl: usize, osl: usize) -> Vec<u8> {
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"{}"}}],"max_tokens":{osl},"ignore_eos":true,"stream":true}}"#,
        "word ".repeat(isl)
    );
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\nconnection: close";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// One client, one request at a time: quick profile, ISL 100, OSL 200. The model says TTFT = 4000 + 20 + 100·20 =
/// 6,020 µs and ITL = 4,020 µs.
#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn a_client_measures_what_the_model_predicts() {
    let server = Server::start(&["--profile", "quick"]);
    let (mut ttfts, mut itls, mut offs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let stream = TcpStream::connect(&server.address).expect("connects");
        stream.set_nodelay(true).expect("set");
        let mut reader = BufReader::new(stream);
        let sent = Instant::now();
        reader.get_mut().write_all(&request(100, 200)).expect("sent");
        let (mut times, mut line) = (Vec::new(), String::new());
        while reader.read_line(&mut line).expect("a line") > 0 {
            if line.contains(r#""delta":{"content":"#) {
                times.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            line.clear();
        }
        assert_eq!(times.len(), 200);
        ttfts.push(times[0]);
        itls.push((times[199] - times[0]) / 199.0);
        offs.extend(times.iter().enumerate().map(|(n, us)| us - (6_020.0 + 4_020.0 * n as f64)));
    }
    for (name, values) in [
        ("TTFT µs (model 6020)", &mut ttfts),
        ("ITL µs (model 4020)", &mut itls),
        ("token after model, µs", &mut offs),
    ] {
        values.sort_by(f64::total_cmp);
        let [low, mid, high, max] = [0.0, 0.5, 0.99, 1.0].map(|share| percentile(values, share));
        println!("{name}: min {low:.0} p50 {mid:.0} p99 {high:.0} max {max:.0}");
    }
    let (lag, steps) =
        (server.metric("tokmark_sim_step_lag_seconds_total"), server.metric("tokmark_sim_steps_total"));
    println!(
        "server: mean lag {:.0} µs over {steps} steps, worst {:.0} µs",
        lag / steps * 1e6,
        server.metric("tokmark_sim_step_lag_seconds_max") * 1e6
    );
    assert!((percentile(&ttfts, 0.5) - 6_020.0).abs() < 1_000.0);
    assert!((percentile(&itls, 0.5) - 4_020.0).abs() < 100.0);
}

/// 2,000 streams at once on one core: `SIM_PROFILE` (default gb200), `SIM_STREAMS` (2000), `SIM_SECONDS` (10).
#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn two_thousand_streams_on_one_core() {
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or(default.to_owned());
    let streams: usize = setting("SIM_STREAMS", "2000").parse().expect("a number");
    let window = Duration::from_secs(setting("SIM_SECONDS", "10").parse().expect("a number"));
    let profile = setting("SIM_PROFILE", "gb200");
    let server = Server::start(&["--profile", &profile]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let body = request(128, 30_000);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..streams {
            let (body, address) = (body.clone(), server.address.clone());
            tasks.spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
                stream.write_all(&body).await.expect("sent");
                let mut buffer = [0; 16 * 1024];
                while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
            });
        }
        let started = Instant::now();
        while server.metric("vllm:num_requests_running") < streams as f64 {
            assert!(started.elapsed() < Duration::from_secs(60), "not all streams run");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let all = || ["process_cpu_seconds_total", "vllm:generation_tokens_total", "tokmark_sim_steps_total",
            "tokmark_sim_step_lag_seconds_total", "tokmark_sim_slipped_seconds_total"].map(|name| server.metric(name));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (before, start) = (all(), Instant::now());
        tokio::time::sleep(window).await;
        let (after, seconds) = (all(), start.elapsed().as_secs_f64());
        let [cpu, tokens, steps, lag, slipped] = std::array::from_fn(|at| after[at] - before[at]);
        println!(
            "{profile}: {streams} streams, {:.0} chunks/s, step {:.2} ms, CPU {:.1}% of one core, {:.2} µs a chunk, \
             mean step lag {:.2} ms, slipped {slipped:.3} s",
            tokens / seconds, seconds / steps * 1e3, cpu / seconds * 100.0, cpu / tokens * 1e6, lag / steps * 1e3
        );
        tasks.abort_all();
    });
}
