//! User instructions per streamed event, counted by valgrind: the one cost that a busy machine does not change.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::Server;

/// Tokens of an answer.
const TOKENS: u64 = 100;
/// Answers at once. Few and slow enough that a client under valgrind takes one event a read.
const STREAMS: u64 = 10;
/// Between two events of a stream.
const GAP_US: u64 = 20_000;
/// The two lengths whose slope is the cost.
const REQUESTS: [u64; 2] = [20, 100];

/// Counts for the floor and for `tokmark bench`, with its export apart.
pub(crate) fn run() -> anyhow::Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("\ninstructions: SKIPPED, valgrind is not installed (apt-get install valgrind)");
        return Ok(());
    }
    println!();
    let server = Server::start(GAP_US, GAP_US)?;
    let [floor, whole, export] = [floor, whole, export].map(|count| slope(&server, count));
    let (floor, whole, export) = (floor?, whole?, export?);
    println!(
        "user instructions per event: {TOKENS} tokens a request, one event a read, {REQUESTS:?} requests"
    );
    println!("  floor {floor:.0}; tokmark {:.0}, with AIPerf's export {whole:.0}", whole - export);
    Ok(())
}

/// What one more event costs.
fn slope(server: &Server, count: fn(&Server, u64) -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    let [short, long] = REQUESTS;
    let difference = count(server, long)?.saturating_sub(count(server, short)?);
    Ok(difference as f64 / ((long - short) * TOKENS) as f64)
}

fn floor(server: &Server, requests: u64) -> anyhow::Result<u64> {
    let mut command = counted(&[]);
    command.arg(std::env::current_exe()?).args(["floor", &server.address]);
    collected(command.args([STREAMS, requests, TOKENS].map(|number| number.to_string())))
}

fn whole(server: &Server, requests: u64) -> anyhow::Result<u64> {
    tokmark(server, requests, &[])
}

/// Only what runs inside the export.
fn export(server: &Server, requests: u64) -> anyhow::Result<u64> {
    tokmark(server, requests, &["--collect-atstart=no", "--toggle-collect=*PointFolder*export*"])
}

/// Prints how many events came in one read with the event before, as on a machine that is too busy: they cost less.
fn tokmark(server: &Server, requests: u64, options: &[&str]) -> anyhow::Result<u64> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("out");
    let mut command = counted(options);
    command.arg(env!("CARGO_BIN_EXE_tokmark"));
    server.bench(&mut command, &out);
    let (streams, requests, tokens) = (STREAMS.to_string(), requests.to_string(), TOKENS.to_string());
    let count =
        collected(command.args(["--concurrency", &streams, "--requests", &requests, "--osl", &tokens]))?;
    let (mut events, mut joined) = (0, 0);
    for record in super::records(&out)? {
        let chunks: Vec<u64> = serde_json::from_value(record["chunks_us"].clone())?;
        events += chunks.len();
        joined += chunks.iter().zip(chunks.iter().skip(1)).filter(|(before, after)| before == after).count();
    }
    println!("  {requests} requests: {count} instructions, {joined} of {events} events shared a read");
    Ok(count)
}

fn counted(options: &[&str]) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).args(options);
    command
}

/// Runs it and reads what valgrind prints: `==7== Collected : 123`.
fn collected(command: &mut Command) -> anyhow::Result<u64> {
    let output = command.output()?;
    let printed = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("failed under valgrind: {printed}");
    }
    let line = printed.lines().find_map(|line| line.split("Collected :").nth(1));
    Ok(line.context("valgrind printed no count")?.trim().parse()?)
}
