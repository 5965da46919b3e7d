//! HTTP/1.1 as the load engine needs it: one request in flight per connection, reads stamped as they return.
//!
//! Not reqwest: it puts a task, a channel and a buffer of each connection between the socket and the reader, and its reads
//! have no time stamp. A read here is one system call into one buffer per thread, and its bytes are parsed in place. HTTP/2
//! and proxies go through reqwest.
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
