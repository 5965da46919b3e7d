//! One connection: writes a request, reads stamped bytes.
//!
//! All connections of a thread read into one buffer of that thread, so that a waiting stream holds no buffer of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::load::health::ReadDelay;
use crate::load::rx_stamp;

/// Bytes one read takes at most. Longer answers take several, as they do on the wire.
const READ_BYTES: usize = 64 << 10;

/// One read of so many also asks the kernel when its bytes had arrived.
const STAMPED_EVERY: u32 = 16;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
    /// Reads since the kernel was last asked.
    static READS: Cell<u32> = const { Cell::new(0) };
    /// How long bytes had lain in the socket, by the kernel.
    static DELAY: RefCell<ReadDelay> = RefCell::default();
}

/// How long bytes had been readable before this thread stamped them, since it was last asked.
pub(crate) fn take_read_delay() -> ReadDelay {
    DELAY.take()
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    stream: Stream,
    /// Which of the pool's addresses it leads to.
    pub(super) address: usize,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    /// Boxed: a session is several hundred bytes, and plain connections are the many.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What one read gave.
#[derive(Debug)]
pub(crate) enum Read<T> {
    /// Bytes, stamped when the call returned, and what the reader made of them.
    Bytes(Instant, T),
    /// The other side has closed.
    Closed,
}

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// All of it was written.
    Whole,
    /// The server answers, or has closed, before it has read all of it.
    Interrupted,
}

impl HttpConnection {
    pub(super) fn plain(stream: TcpStream, address: usize) -> Self {
        rx_stamp::enable(&stream);
        Self { stream: Stream::Plain(stream), address }
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>, address: usize) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), address }
    }

    /// Writes `request`. Cancelling it leaves the connection unusable.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<Sent> {
        let mut written = 0;
        poll_fn(|context| {
            while let Some(rest) = request.get(written..).filter(|rest| !rest.is_empty()) {
                match self.stream.poll_write(context, rest) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => written += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        ready!(self.stream.tcp().poll_read_ready(context))?;
                        return Poll::Ready(Ok(Sent::Interrupted));
                    }
                }
            }
            self.stream.poll_flush(context).map_ok(|()| Sent::Whole)
        })
        .await
    }

    /// Waits for bytes, stamps them, and hands them to `take` before anything else happens.
    pub(crate) async fn read<T>(&mut self, mut take: impl FnMut(Instant, &[u8]) -> T) -> io::Result<Read<T>> {
        poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let (count, at) = ready!(self.stream.poll_stamped(context, buffer))?;
                Poll::Ready(Ok(match buffer.get(..count) {
                    Some(bytes) if count > 0 => Read::Bytes(at, take(at, bytes)),
                    _ => Read::Closed,
                }))
            })
        })
        .await
    }

    /// Whether an idle connection can still be used: open, with no unexpected bytes.
    pub(super) fn is_quiet(&self) -> bool {
        use nix::sys::socket::{MsgFlags, recv};
        use std::os::fd::AsRawFd as _;
        let socket = self.stream.tcp().as_raw_fd();
        recv(socket, &mut [0; 1], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)
            == Err(nix::errno::Errno::EAGAIN)
    }
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Reads, and stamps what was read. Now and then the stamp is held against the kernel's.
    fn poll_stamped(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, Instant)>> {
        if let Self::Plain(stream) = self
            && READS.get() >= STAMPED_EVERY
        {
            return poll_compared(stream, context, buffer);
        }
        let count = ready!(self.poll_read(context, buffer))?;
        let at = Instant::now();
        READS.set(READS.get() + 1);
        Poll::Ready(Ok((count, at)))
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}

/// Reads, and notes how long the bytes had been there.
fn poll_compared(
    stream: &TcpStream,
    context: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<(usize, Instant)>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        let read = stream.try_io(Interest::READABLE, || rx_stamp::read_stamped(stream, buffer));
        let (at, wall) = (Instant::now(), SystemTime::now());
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
            Ok((count, arrived)) => {
                READS.set(0);
                if let Some(delay_us) = arrived.and_then(|arrived| rx_stamp::delay_us(arrived, wall)) {
                    DELAY.with_borrow_mut(|delay| delay.add(delay_us));
                }
                return Poll::Ready(Ok((count, at)));
            }
        }
    }
}
