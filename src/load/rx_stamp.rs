//! The instant at which the kernel received the bytes of a read: `SO_TIMESTAMPNS` on a TCP socket.
//!
//! Sources: socket(7), cmsg(3), Documentation/networking/timestamping.rst. The stamp is that of the *last* segment a read
//! returns; bytes of earlier segments in the same read waited longer.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns};

/// Longer than any wait in a socket buffer of a client that still works: the system clock was set meanwhile.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Room for one control message with a `timespec` (32 bytes on 64-bit Linux), aligned as `cmsghdr` must be.
#[repr(C, align(16))]
struct ControlBuffer([u8; 64]);

/// Asks the kernel to keep the instant each segment arrives at. False where it cannot.
pub(crate) fn enable(socket: &impl AsFd) -> bool {
    setsockopt(socket, ReceiveTimestampns, &true).is_ok()
}

/// Reads without waiting: the number of bytes (0: the peer has closed), and since the epoch the instant the last segment among
/// them arrived; `None` when the kernel gives no stamp.
///
/// # Errors
/// As `recv`; [`io::ErrorKind::WouldBlock`] when there is nothing, whatever mode the socket is in.
pub(crate) fn read_stamped(socket: &impl AsRawFd, bytes: &mut [u8]) -> io::Result<(usize, Option<Duration>)> {
    let mut control = ControlBuffer([0; 64]);
    let mut slices = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control.0), flags)?;
    // A truncated control message means a missing stamp, not a failed read.
    let arrived = message.cmsgs().ok().and_then(|mut messages| {
        messages.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        })
    });
    Ok((message.bytes, arrived))
}

/// µs from the arrival in the kernel to `stamped`, the system time right after the read. `None` when the system clock was
/// set in between: backwards, or by more than [`LONGEST_DELAY`].
pub(crate) fn delay_us(arrived: Duration, stamped: SystemTime) -> Option<u32> {
    let stamped = stamped.duration_since(UNIX_EPOCH).ok()?;
    let delay = stamped.checked_sub(arrived).filter(|delay| *delay <= LONGEST_DELAY)?;
    u32::try_from(delay.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let ours = TcpStream::connect(listener.local_addr().expect("address")).expect("connection");
        let (theirs, _) = listener.accept().expect("accepted");
        (ours, theirs)
    }

    /// Reads as soon as bytes are available.
    fn read(socket: &TcpStream, bytes: &mut [u8]) -> (usize, Option<Duration>) {
        let started = Instant::now();
        loop {
            match read_stamped(socket, bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(started.elapsed() < Duration::from_secs(10), "nothing came");
                    std::thread::yield_now();
                }
                read => return read.expect("read"),
            }
        }
    }

    /// The kernel switches stamping on for all sockets with the first that asks, a moment later.
    fn stamping() -> (TcpStream, TcpStream) {
        let (ours, mut theirs) = pair();
        assert!(enable(&ours));
        for _ in 0..1_000 {
            theirs.write_all(b"?").expect("write");
            if read(&ours, &mut [0; 8]).1.is_some() {
                return (ours, theirs);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("no stamp came");
    }

    #[test]
    fn bytes_that_wait_show_how_long() {
        let (ours, mut theirs) = stamping();
        let written = Instant::now();
        theirs.write_all(b"data: {}\n\n").expect("write");
        let wait = Duration::from_millis(20);
        std::thread::sleep(wait);
        let mut bytes = [0; 64];
        let (count, arrived) = read(&ours, &mut bytes);
        let (delay, whole) = (delay_us(arrived.expect("a stamp"), SystemTime::now()), written.elapsed());
        assert_eq!(&bytes[..count], b"data: {}\n\n");
        let delay = Duration::from_micros(u64::from(delay.expect("a delay")));
        // The bytes may take a moment to arrive; no more than the whole passed since.
        assert!(delay > wait / 2 && delay <= whole + Duration::from_millis(1), "{delay:?} of {whole:?}");
    }

    #[test]
    fn no_bytes_and_no_more_bytes() {
        let (ours, theirs) = pair();
        let mut bytes = [0; 8];
        let error = read_stamped(&ours, &mut bytes).expect_err("the socket is empty");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        assert_eq!(read(&ours, &mut bytes), (0, None));
    }

    #[test]
    fn a_socket_without_the_option_gives_no_stamp() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"x").expect("write");
        assert_eq!(read(&ours, &mut [0; 8]), (1, None));
    }

    #[test]
    fn a_step_of_the_clock_is_no_delay() {
        let at = |us: u64| Duration::from_micros(us);
        let stamped = UNIX_EPOCH + at(50_000_000);
        assert_eq!(delay_us(at(49_999_750), stamped), Some(250));
        assert_eq!(delay_us(at(50_000_000), stamped), Some(0));
        assert_eq!(delay_us(at(50_000_001), stamped), None, "set back");
        assert_eq!(delay_us(at(40_000_000), stamped), Some(10_000_000));
        assert_eq!(delay_us(at(39_999_999), stamped), None, "set forward");
    }
}
