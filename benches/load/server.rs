//! A token-exact server: every event of every answer leaves at an instant that is fixed when the request has arrived.
//!
//! One thread reads requests, one writes events in the order of their instants (it sleeps in the kernel with a timer slack
//! of 1 ns). The answer to a request with `"max_tokens":N` is N events of one token each, the first `ttft` after the
//! request, one every `gap`, and the end of the stream right behind the last.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const EVENT: &str = concat!(
    "data: {\"id\":\"chatcmpl-a7161fe424bc7e93\",\"object\":\"chat.completion.chunk\",\"created\":1795312788,",
    "\"model\":\"tiny-llama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" RuntimeError\"},\"logprobs\":null,",
    "\"finish_reason\":null,\"token_ids\":null}]}\n\n"
);

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

/// What the server does with each request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Request to first token.
    pub(crate) ttft: Duration,
    /// Token to token.
    pub(crate) gap: Duration,
}

struct Job {
    stream: Arc<TcpStream>,
    at: Instant,
    tokens: u64,
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Serves until standard input ends. Prints its address, and "first" when the first request of the load has arrived.
pub(crate) fn serve(pace: Pace) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port")?;
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXCONN)?;
    listener.set_nonblocking(true)?;
    let address: SocketAddr = listener.local_addr()?;
    say(&address.to_string())?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let (jobs, due) = channel();
    std::thread::spawn(move || write_events(&due, pace));
    read_requests(&listener, &jobs)
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn read_requests(listener: &TcpListener, jobs: &Sender<Job>) -> anyhow::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let mine = u64::try_from(listener.as_raw_fd())?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, mine))?;
    let mut streams: HashMap<u64, (Arc<TcpStream>, Vec<u8>)> = HashMap::new();
    let mut events = vec![EpollEvent::empty(); 1024];
    let mut buffer = vec![0; 64 << 10];
    let mut first = true;
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in events.iter().take(count) {
            if event.data() == mine {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let key = u64::try_from(stream.as_raw_fd())?;
                    epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
                    streams.insert(key, (Arc::new(stream), Vec::new()));
                }
                continue;
            }
            let Some((stream, bytes)) = streams.get_mut(&event.data()) else { continue };
            match stream.as_ref().read(&mut buffer) {
                Ok(read) if read > 0 => bytes.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                _ => {
                    let _ = epoll.delete(stream.as_ref());
                    streams.remove(&event.data());
                    continue;
                }
            }
            if bytes.starts_with(b"GET ") && bytes.ends_with(b"\r\n\r\n") {
                bytes.clear();
                stream.as_ref().write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
            }
            while let Some((length, tokens)) = request(bytes) {
                // Requests of the load have an id, the one that asks what the server understands has none.
                let is_load = find(bytes, b"x-request-id: tokmark-").is_some();
                bytes.drain(..length);
                if is_load && std::mem::take(&mut first) {
                    say("first")?;
                }
                jobs.send(Job { stream: Arc::clone(stream), at: Instant::now(), tokens })?;
            }
        }
    }
}

/// The length of the first whole request, and its `max_tokens`.
fn request(bytes: &[u8]) -> Option<(usize, u64)> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let body = number_after(bytes.get(..head)?, b"content-length: ")?;
    let length = head + usize::try_from(body).ok()?;
    let text = bytes.get(head..length)?;
    Some((length, number_after(text, b"\"max_tokens\":").unwrap_or(1)))
}

fn number_after(bytes: &[u8], key: &[u8]) -> Option<u64> {
    let rest = bytes.get(find(bytes, key)? + key.len()..)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// A stream with events still to be written.
struct Answer {
    job: Job,
    sent: u64,
    /// What the socket did not take.
    left: Vec<u8>,
}

fn write_events(jobs: &Receiver<Job>, pace: Pace) {
    let _ = nix::sys::prctl::set_timerslack(1);
    let (event, first) = (chunk(EVENT), [HEAD, &chunk(EVENT)].concat());
    let mut due: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    let mut answers: HashMap<u64, Answer> = HashMap::new();
    let mut next = 0;
    loop {
        let wait =
            due.peek().map_or(Duration::MAX, |Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        let job = if wait.is_zero() {
            jobs.try_recv().ok()
        } else {
            match jobs.recv_timeout(wait.min(Duration::from_secs(3600))) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        };
        if let Some(job) = job {
            due.push(Reverse((job.at + pace.ttft, next)));
            answers.insert(next, Answer { job, sent: 0, left: Vec::new() });
            next += 1;
        }
        while let Some(Reverse((at, id))) =
            due.peek().copied().filter(|Reverse((at, _))| *at <= Instant::now())
        {
            due.pop();
            let Some(answer) = answers.get_mut(&id) else { continue };
            if answer.left.is_empty() {
                answer.left.extend_from_slice(if answer.sent == 0 { &first } else { &event }.as_bytes());
                answer.sent += 1;
                if answer.sent == answer.job.tokens {
                    answer.left.extend_from_slice(end_of_stream(answer.job.tokens).as_bytes());
                }
            }
            match answer.job.stream.as_ref().write(&answer.left) {
                Ok(written) => drop(answer.left.drain(..written)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => answer.sent = answer.job.tokens,
            }
            if !answer.left.is_empty() {
                due.push(Reverse((Instant::now() + Duration::from_millis(1), id)));
            } else if answer.sent < answer.job.tokens {
                due.push(Reverse((at + pace.gap, id)));
            } else {
                answers.remove(&id);
            }
        }
    }
}

fn end_of_stream(tokens: u64) -> String {
    let finish = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
    let usage = format!(
        "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":32,\"completion_tokens\":{tokens}}}}}\n\n"
    );
    [chunk(finish), chunk(&usage), chunk("data: [DONE]\n\n"), "0\r\n\r\n".to_owned()].concat()
}
