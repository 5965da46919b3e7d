//! What answers at an address: no API at all, an API that comes later.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::house::{House, free_port};

/// Answers every request as `answer` says, for ever. Returns its URL.
fn served(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _read = stream.read(&mut [0; 8192]);
            let _written = stream.write_all(answer.as_bytes());
        }
    });
    url
}

/// Go's answer to an unknown path.
const UNKNOWN: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 19\r\n\
                       connection: close\r\n\r\n404 page not found\n";

fn attached(house: &House, url: &str, deploy: &str) {
    house.recipe(&format!(
        "[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"attach\"\nurl = \"{url}\"\n{deploy}\n[load]\nisl = 8\nosl = 4\n"
    ));
}

#[test]
fn a_server_that_knows_no_path_is_given_up_within_seconds() {
    let (house, url) = (House::new(), served(UNKNOWN));
    attached(&house, &url, "");
    let began = Instant::now();
    let run = house.run(["run", "./r.toml"]).fails(2);
    for text in [
        format!("{url} serves no OpenAI-compatible API"),
        format!("GET {url}/v1/models answers 404: 404 page not found"),
        format!("POST {url}/v1/chat/completions answers 404: 404 page not found"),
        "deploy.connection.path".to_owned(),
    ] {
        assert!(run.stderr.contains(&text), "{text}: {}", run.stderr);
    }
    let waits = house.run(["bench", "--url", &url, "--model", "m", "--wait", "30m"]).fails(2);
    assert!(waits.stderr.contains(&format!("GET {url}/v1/models answers 404")), "{}", waits.stderr);
    let unnamed = house.run(["bench", "--url", &url]).fails(2);
    assert!(unnamed.stderr.contains("give --model"), "{}", unnamed.stderr);
    // Instead of the 30 minutes of both.
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}

#[test]
fn a_gateway_that_answers_404_until_its_model_comes_is_waited_for() {
    let house = House::new();
    let model_comes = "HTTP/1.1 404 Not Found\r\ncontent-length: 27\r\nconnection: close\r\n\r\n{\"message\":\"Model unknown\"}";
    attached(&house, &served(model_comes), "startup_timeout = \"13s\"");
    let end = house.run(["run", "./r.toml"]).fails(4);
    assert!(end.stderr.contains("deploy.startup_timeout has passed"), "{}", end.stderr);

    // One that knows no path yet, and gets its route two seconds later.
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let gateway = std::thread::spawn(move || {
        listener.set_nonblocking(true).unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    let _read = stream.read(&mut [0; 8192]);
                    let _written = stream.write_all(UNKNOWN.as_bytes());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    });
    attached(&house, &format!("http://127.0.0.1:{port}"), "");
    let running = house.start(["run", "./r.toml"]);
    gateway.join().unwrap();
    let _sim = house.start(["sim", "--port", &port.to_string(), "--model", "org/m", "--speed", "20"]);
    running.finish().succeeds();
}

#[test]
fn bench_names_the_folder_below_which_it_would_write() {
    let house = House::new();
    let sim = house.sim(&["--model", "m"]);
    let bench = ["bench", "--url", sim.url(), "--requests", "2", "--osl", "2"];
    house.run(bench.iter().chain(&["--out", "results"])).succeeds();
    let end = house.run(bench).fails(2);
    assert!(end.stderr.contains("results/: holds a measurement itself"), "{}", end.stderr);
    assert!(end.stderr.contains("give --out DIR"), "{}", end.stderr);
    let given = house.run(bench.iter().chain(&["--out", "results"])).fails(2);
    assert!(given.stderr.contains("--out: results already holds a measurement"), "{}", given.stderr);
}
