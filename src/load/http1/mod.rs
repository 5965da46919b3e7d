//! HTTP/1.1 as the load engine needs it: one request in flight per connection, reads stamped as they return.
//!
//! Not reqwest, which puts a task, a channel and a buffer between the socket and the reader: a read here is one system call into
//! one buffer per thread, parsed in place. `head`, `framing` and `response` are pure.

mod connection;
mod framing;
mod head;
mod pool;
mod response;

pub(crate) use connection::{HttpConnection, Read, Sent, take_read_delay};
pub(crate) use pool::Pool;
pub use response::{ResponseReader, Sink};
