//! No answer fills memory. Measured in a process of its own: the peak of this one belongs to all tests.

use super::rows::{good, parts, stream_head};
use super::server::{Server, Step, send};
use super::{outcomes, point, run};

/// Set in the process that measures.
const MARK: &str = "TOKMARK_TEST_MEASURES_MEMORY";

/// Peak resident memory of this process, MiB.
fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

/// The longest event is 16 MiB; its buffer may have grown to twice that, and is copied once when it grows.
const ALLOWED_MIB: usize = 100;

#[test]
fn answers_without_end_do_not_fill_memory() {
    if std::env::var_os(MARK).is_none() {
        let name = "hostile::memory::answers_without_end_do_not_fill_memory";
        let exe = std::env::current_exe().unwrap();
        let child = std::process::Command::new(exe)
            .args(["--exact", name, "--nocapture"])
            .env(MARK, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        return;
    }
    let part = |text: &str| parts(&[text]).into_bytes();
    let half_gib = |text: &str| vec![send(stream_head()), Step::Repeat(part(text), (512 << 20) / text.len())];
    let block = "x".repeat(1 << 16);
    let line = [vec![send(stream_head() + &parts(&["data: "]))], half_gib(&block)[1..].to_vec()].concat();
    let choices = "{},".repeat(5 << 20);
    // A parsed choice is a hundred times as large as `{},`: the event is short enough to be parsed.
    let lists = vec![send(
        stream_head() + &parts(&[&format!("data: {{\"choices\":[{choices}{{}}]}}\n\n")]) + "0\r\n\r\n",
    )];
    let nested = format!("data: {{\"error\":[{}1]}}\n\n", "[],".repeat(5 << 20));
    let trees = vec![send(stream_head() + &parts(&[&nested]) + "0\r\n\r\n")];
    for (name, answer, expected) in [
        ("a line", line, "malformed"),
        ("data lines", half_gib(&"data: x\n".repeat(1 << 13)), "malformed"),
        ("an event's names", half_gib(&format!("event: {block}\n")), "empty"),
        ("comments", half_gib(&format!(": {block}\n")), "empty"),
        ("choices", lists, "malformed"),
        ("an error", trees, "server_error"),
        (
            "a head",
            vec![send("HTTP/1.1 200 OK\r\nx: "), Step::Repeat(block.clone().into_bytes(), 1 << 13)],
            "malformed",
        ),
        (
            "an error body",
            [
                vec![send("HTTP/1.1 500 x\r\n\r\n")],
                vec![Step::Repeat(block.clone().into_bytes(), 1 << 13), Step::Close],
            ]
            .concat(),
            "http_500",
        ),
    ] {
        let answer = if expected == "empty" { [answer, vec![send("0\r\n\r\n")]].concat() } else { answer };
        let server = Server::play(move |n| if n == 0 { answer.clone() } else { good() });
        let before = peak_mib();
        let records = run(server.address, point(1, 2));
        let grown = peak_mib() - before;
        assert_eq!(outcomes(&records), [expected, "ok"], "{name}: {:?}", records[0].error);
        assert!(grown < ALLOWED_MIB, "{name}: {grown} MiB");
    }
}
