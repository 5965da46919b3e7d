//! One connection: writes a request, reads stamped bytes.
//!
//! All connections of a thread read into one buffer of that thread, so that a waiting stream holds no buffer of its own.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::load::health::Delays;
use crate::load::rx_stamp;

/// Bytes one read takes at most. Longer answers take several, as they do on the wire.
const READ_BYTES: usize = 64 << 10;

/// One read of so many also asks the kernel when its bytes had arrived.
const STAMPED_EVERY: u32 = 16;

struct Reader {
    buffer: Vec<u8>,
    /// Reads since the kernel was last asked.
    reads: u32,
    /// How long bytes had lain in the socket, by the kernel.
    delay: Delays,
}

thread_local! {
    static READER: RefCell<Reader> =
        RefCell::new(Reader { buffer: vec![0; READ_BYTES], reads: 0, delay: Delays::default() });
}

/// How long bytes had been readable before this thread stamped them, since it was last asked.
pub(crate) fn take_read_delay() -> Delays {
    READER.with_borrow_mut(|reader| std::mem::take(&mut reader.delay))
}

pub(crate) struct HttpConnection {
    stream: Stream,
    /// Which of the pool's addresses it leads to.
    pub(super) address: usize,
}

/// Plain or TLS. Boxed: a session is several hundred bytes, and plain connections are the many.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

#[derive(Debug)]
pub(crate) enum Read<T> {
    /// Bytes, stamped when the call returned, and what the reader made of them.
    Bytes(Instant, T),
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Whole,
    /// The server answers, or has closed, before it has read all of it.
    Interrupted,
}

impl HttpConnection {
    pub(super) fn new(stream: Stream, address: usize) -> Self {
        if let Either::Left(stream) = &stream {
            rx_stamp::enable(stream);
        }
        Self { stream, address }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Either::Left(stream) => stream,
            Either::Right(stream) => stream.get_ref().0,
        }
    }

    /// Writes `request`. Cancelling it leaves the connection unusable.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<Sent> {
        let mut written = 0;
        poll_fn(|context| {
            while let Some(rest) = request.get(written..).filter(|rest| !rest.is_empty()) {
                match Pin::new(&mut self.stream).poll_write(context, rest) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => written += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        ready!(self.tcp().poll_read_ready(context))?;
                        return Poll::Ready(Ok(Sent::Interrupted));
                    }
                }
            }
            Pin::new(&mut self.stream).poll_flush(context).map_ok(|()| Sent::Whole)
        })
        .await
    }

    /// Reads what has come, stamps it, and hands it to `take` before anything else happens.
    pub(crate) fn poll_read<T>(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(Instant, &[u8]) -> T,
    ) -> Poll<io::Result<Read<T>>> {
        READER.with_borrow_mut(|reader| {
            let (count, at) = ready!(poll_stamped(&mut self.stream, context, reader))?;
            Poll::Ready(Ok(match reader.buffer.get(..count) {
                Some(bytes) if count > 0 => Read::Bytes(at, take(at, bytes)),
                _ => Read::Closed,
            }))
        })
    }

    /// Whether an idle connection can still be used: open, with no unexpected bytes.
    pub(super) fn is_quiet(&self) -> bool {
        use nix::sys::socket::{MsgFlags, recv};
        use std::os::fd::AsRawFd as _;
        let socket = self.tcp().as_raw_fd();
        recv(socket, &mut [0; 1], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)
            == Err(nix::errno::Errno::EAGAIN)
    }
}

/// Reads, and stamps what was read. Now and then the stamp is held against the kernel's.
fn poll_stamped(
    stream: &mut Stream,
    context: &mut Context<'_>,
    reader: &mut Reader,
) -> Poll<io::Result<(usize, Instant)>> {
    if let Either::Left(stream) = stream
        && reader.reads >= STAMPED_EVERY
    {
        return poll_compared(stream, context, reader);
    }
    let mut buffer = ReadBuf::new(&mut reader.buffer);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    let (count, at) = (buffer.filled().len(), Instant::now());
    reader.reads += 1;
    Poll::Ready(Ok((count, at)))
}

/// Reads, and notes how long the bytes had been there.
fn poll_compared(
    stream: &TcpStream,
    context: &mut Context<'_>,
    reader: &mut Reader,
) -> Poll<io::Result<(usize, Instant)>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        let read = stream.try_io(Interest::READABLE, || rx_stamp::read_stamped(stream, &mut reader.buffer));
        let (at, wall) = (Instant::now(), SystemTime::now());
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
            Ok((count, arrived)) => {
                reader.reads = 0;
                if let Some(delay_us) = arrived.and_then(|arrived| rx_stamp::delay_us(arrived, wall)) {
                    reader.delay.add(delay_us);
                }
                return Poll::Ready(Ok((count, at)));
            }
        }
    }
}
