//! A server that writes exact bytes: what it answers to the n-th request is a list of steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// One step of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Write these bytes at once.
    Send(Vec<u8>),
    /// Write these bytes one at a time, each in a segment of its own.
    Drip(Vec<u8>),
    /// Write these bytes again and again, so many times at most, as long as the client takes them.
    Repeat(Vec<u8>, usize),
    /// Go on when this many connections have been closed by the server.
    Closed(usize),
    /// Read the rest of the request, in an answer that began without it.
    ReadRequest,
    /// Say nothing more until the client hangs up.
    Hold,
    /// Close the connection.
    Close,
    /// Close it with a reset.
    Reset,
}

/// Writes these bytes at once.
pub(crate) fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    closed: AtomicUsize,
    requests: AtomicUsize,
}

type Script = dyn Fn(usize) -> Vec<Step> + Send + Sync;

/// Answers request `n` (from 0, over all connections) with `script(n)`. It lives on a thread of its own.
pub(crate) struct Server {
    pub(crate) address: std::net::SocketAddr,
    counts: Arc<Counts>,
    over: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Answers when the whole request has been read.
    pub(crate) fn play(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start(Arc::new(script), false)
    }

    /// Answers as soon as the first bytes of a request are there.
    pub(crate) fn hasty(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start(Arc::new(script), true)
    }

    fn start(script: Arc<Script>, hasty: bool) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (counts, over) = (Arc::new(Counts::default()), CancellationToken::new());
        let (counts_there, over_there) = (Arc::clone(&counts), over.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Some(Ok((stream, _))) = over_there.run_until_cancelled(listener.accept()).await {
                    counts_there.connections.fetch_add(1, SeqCst);
                    let (script, counts) = (Arc::clone(&script), Arc::clone(&counts_there));
                    tokio::spawn(async move {
                        // An error is the client's hanging up: the record tells why.
                        let _ended = serve(stream, &*script, &counts, hasty).await;
                        counts.closed.fetch_add(1, SeqCst);
                    });
                }
            });
        });
        Self { address, counts, over, thread: Some(thread) }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.counts.connections.load(SeqCst)
    }

    /// Requests that began to arrive so far.
    pub(crate) fn requests(&self) -> usize {
        self.counts.requests.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn serve(mut stream: TcpStream, script: &Script, counts: &Counts, hasty: bool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut got = Vec::new();
    loop {
        if got.is_empty() && stream.read_buf(&mut got).await? == 0 {
            return Ok(());
        }
        let number = counts.requests.fetch_add(1, SeqCst);
        if !hasty {
            read_request(&mut stream, &mut got).await?;
        }
        for step in script(number) {
            match step {
                Step::Send(bytes) => stream.write_all(&bytes).await?,
                Step::Drip(bytes) => {
                    for byte in bytes {
                        stream.write_all(&[byte]).await?;
                        tokio::task::yield_now().await;
                    }
                }
                Step::Repeat(bytes, times) => {
                    for _ in 0..times {
                        stream.write_all(&bytes).await?;
                    }
                }
                Step::Closed(count) => {
                    while counts.closed.load(SeqCst) < count {
                        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    }
                }
                Step::ReadRequest => read_request(&mut stream, &mut got).await?,
                Step::Hold => {
                    while stream.read(&mut [0; 1024]).await? > 0 {}
                    return Ok(());
                }
                Step::Close => return Ok(()),
                Step::Reset => return stream.set_zero_linger(),
            }
        }
    }
}

/// Takes one request off the front of `got`, reading what is missing.
async fn read_request(stream: &mut TcpStream, got: &mut Vec<u8>) -> std::io::Result<()> {
    let head_end = loop {
        if let Some(at) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(got).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8(got[..head_end].to_vec()).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let end = head_end + length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
    while got.len() < end {
        if stream.read_buf(got).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    got.drain(..end);
    Ok(())
}
