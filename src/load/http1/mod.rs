//! HTTP/1.1 as the load engine needs it: one request in flight per connection, reads stamped as they return.
//!
//! Why not reqwest here: its connection tasks, channels and per-connection buffers cost half of the CPU time of a streamed
//! event (`docs/performance.md`), and it stamps nothing. A read here is one system call into one buffer per thread, and its
//! bytes are parsed in place. What is not HTTP/1.1 to the server itself — HTTP/2, proxies — goes through reqwest.
//! `head`, `framing` and `response` are pure; `connection` and `pool` do the input and output.

mod connection;
mod framing;
mod head;
mod pool;
mod response;

pub(crate) use connection::{HttpConnection, Read, Sent, take_read_delay};
pub(crate) use head::Head;
pub(crate) use pool::Pool;
pub use response::read_answer;
pub(crate) use response::{ResponseReader, Sink};
