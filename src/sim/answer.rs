//! An answer in progress: the engine loop sends tokens, the connection takes bytes. Dropping the connection's end frees the
//! sequence.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::api_error::ApiError;
use super::driver::Driver;
use super::engine::TokenEvent;
use super::render::Renderer;

/// The engine loop's end of an answer. Dropping it ends the answer.
pub(super) struct Answer {
    renderer: Renderer,
    chunks: UnboundedSender<Bytes>,
    /// Injected fault: tokens after this one are dropped.
    stall_at: Option<u32>,
}

impl Answer {
    pub(super) fn new(renderer: Renderer, chunks: UnboundedSender<Bytes>, stalls: bool) -> Self {
        let stall_at = stalls.then_some(renderer.request().output_tokens / 2);
        Self { renderer, chunks, stall_at }
    }

    /// Sends a token that has been generated. Returns whether the answer is complete.
    pub(super) fn push(&self, event: &TokenEvent) -> bool {
        if self.stall_at.is_some_and(|last| event.nth > last) {
            return false;
        }
        let mut out = BytesMut::with_capacity(512);
        match event.finish {
            finish if self.renderer.request().stream => {
                self.renderer.token(&mut out, event.nth, finish);
                if finish.is_some() {
                    self.renderer.end(&mut out, event.nth);
                }
            }
            Some(finish) => out.put(self.renderer.unary(event.nth, finish)),
            None => return false,
        }
        // A client that has gone takes nothing.
        let _ = self.chunks.send(out.freeze());
        event.finish.is_some()
    }

    /// The engine stops: an error event ends a stream. A unary request ends without an answer.
    pub(super) fn fail(self) {
        if self.renderer.request().stream {
            let error = ApiError::engine_gone().body;
            let _ = self.chunks.send(format!("data: {error}\n\ndata: [DONE]\n\n").into());
        }
    }
}

/// The connection's end of an answer. Dropping it before the last token removes the request from the engine.
pub(super) struct AnswerHandle {
    pub(super) driver: Rc<Driver>,
    pub(super) id: u64,
    pub(super) chunks: UnboundedReceiver<Bytes>,
}

impl AnswerHandle {
    /// Waits for a unary answer.
    pub(super) async fn unary(mut self) -> Result<Bytes, ApiError> {
        self.chunks.recv().await.ok_or_else(ApiError::engine_gone)
    }
}

impl Drop for AnswerHandle {
    fn drop(&mut self) {
        self.driver.forget(self.id);
    }
}

/// The body of every response.
pub(super) enum SimBody {
    /// Complete; `None` once sent.
    Full(Option<Bytes>),
    /// Server-sent events as the engine produces them.
    Stream(AnswerHandle),
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take()),
            Self::Stream(handle) => handle.chunks.poll_recv(context),
        };
        data.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
