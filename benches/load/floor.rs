//! The floor: the least a client can do with streamed answers. Non-blocking reads, find the blank lines, stamp, count.
//!
//! No HTTP, no JSON, no records, no time limits: one thread, one epoll, one buffer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde_json::{Value, json};

use crate::stats::{cpu_s, percentiles_ms};

struct Stream {
    socket: TcpStream,
    requests_left: u64,
    sent: Instant,
    last: Option<Instant>,
    /// The last bytes read, for what is cut by a read.
    tail: Vec<u8>,
}

/// Sends `requests` requests over `streams` connections and prints what it measured as JSON.
pub(crate) fn run(address: SocketAddr, streams: u64, requests: u64, tokens: u64) -> anyhow::Result<Value> {
    let body = format!(
        "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{}\"}}],\"max_tokens\":{tokens},\"stream\":true}}",
        "word ".repeat(32)
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let mut open = Vec::new();
    for index in 0..streams {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, index))?;
        let now = Instant::now();
        open.push(Stream {
            socket,
            requests_left: requests / streams,
            sent: now,
            last: None,
            tail: Vec::new(),
        });
    }
    let begin = Instant::now();
    for stream in &mut open {
        stream.sent = Instant::now();
        stream.socket.write_all(request.as_bytes())?;
    }
    let (mut ttft, mut gaps, mut events, mut busy) = (Vec::new(), Vec::new(), 0_u64, open.len());
    let mut ready = vec![EpollEvent::empty(); 1024];
    let mut buffer = vec![0; 64 << 10];
    while busy > 0 {
        let count = epoll.wait(&mut ready, EpollTimeout::NONE)?;
        for event in ready.iter().take(count) {
            let Some(stream) = open.get_mut(usize::try_from(event.data())?) else { continue };
            let read = stream.socket.read(&mut buffer)?;
            let at = Instant::now();
            let bytes = buffer.get(..read).unwrap_or_default();
            let blank = memchr::memmem::find_iter(bytes, b"\n\n").count() as u64;
            // Finish, usage and [DONE] come with the last token.
            stream.tail.extend_from_slice(bytes.get(bytes.len().saturating_sub(8)..).unwrap_or_default());
            stream.tail.drain(..stream.tail.len().saturating_sub(8));
            let ended = stream.tail.ends_with(b"\r\n0\r\n\r\n");
            let content = blank - if ended { 3 } else { 0 };
            for _ in 0..content {
                match stream.last.replace(at) {
                    None => ttft.push(at - stream.sent),
                    Some(before) => gaps.push(at - before),
                }
            }
            events += content;
            if ended {
                stream.last = None;
                stream.tail.clear();
                stream.requests_left -= 1;
                if stream.requests_left == 0 {
                    busy -= 1;
                } else {
                    stream.sent = Instant::now();
                    stream.socket.write_all(request.as_bytes())?;
                }
            }
        }
    }
    let wall_s = begin.elapsed().as_secs_f64();
    Ok(json!({
        "events": events, "wall_s": wall_s, "tokens_per_s": events as f64 / wall_s,
        "ttft_ms": percentiles_ms(ttft), "gap_ms": percentiles_ms(gaps), "cpu_s": cpu_s(),
    }))
}
