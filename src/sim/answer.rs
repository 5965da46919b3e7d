//! An answer in progress: the engine loop pushes tokens, the connection takes bytes. Everything runs on one thread, so cells suffice
//! instead of locks. Dropping the connection's end frees the sequence.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};

use super::api_error::ApiError;
use super::driver::Driver;
use super::engine::TokenEvent;
use super::render::Renderer;

/// The state shared by the engine loop and a connection.
#[derive(Debug)]
pub(super) struct Answer {
    renderer: Renderer,
    /// Rendered bytes not yet taken.
    buffer: RefCell<BytesMut>,
    /// The buffer holds the rest of the answer.
    complete: Cell<bool>,
    /// The engine stopped before the answer was complete.
    failed: Cell<bool>,
    /// Injected fault: tokens after this one are dropped.
    stall_at: Option<u32>,
    waker: RefCell<Option<Waker>>,
}

impl Answer {
    pub(super) fn new(renderer: Renderer, stalls: bool) -> Self {
        let stall_at = stalls.then_some(renderer.request().output_tokens / 2);
        Self {
            renderer,
            buffer: RefCell::default(),
            complete: Cell::new(false),
            failed: Cell::new(false),
            stall_at,
            waker: RefCell::default(),
        }
    }

    /// A token has been generated.
    pub(super) fn push(&self, event: &TokenEvent) {
        if self.stall_at.is_some_and(|last| event.nth > last) {
            return;
        }
        if self.renderer.request().stream {
            let mut buffer = self.buffer.borrow_mut();
            self.renderer.token(&mut buffer, event.nth, event.finish);
            if event.finish.is_some() {
                self.renderer.end(&mut buffer, event.nth);
            }
        } else if let Some(finish) = event.finish {
            self.buffer.borrow_mut().put(self.renderer.unary(event.nth, finish));
        } else {
            return;
        }
        self.complete.set(event.finish.is_some());
        self.wake();
    }

    /// The engine stops: an error event ends a stream, an error body answers a unary request.
    pub(super) fn fail(&self) {
        if self.complete.get() {
            return;
        }
        if self.renderer.request().stream {
            let error = ApiError::engine_gone().body;
            self.buffer.borrow_mut().put_slice(format!("data: {error}\n\ndata: [DONE]\n\n").as_bytes());
        }
        self.failed.set(true);
        self.complete.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The next bytes; `None` when everything has been sent.
    fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            return Poll::Ready(Some(buffer.split().freeze()));
        }
        if self.complete.get() {
            return Poll::Ready(None);
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The connection's end of an answer. Dropping it before the last token removes the request from the engine.
pub(super) struct AnswerHandle {
    driver: Rc<Driver>,
    id: u64,
    answer: Rc<Answer>,
}

impl AnswerHandle {
    pub(super) fn new(driver: Rc<Driver>, id: u64, answer: Rc<Answer>) -> Self {
        Self { driver, id, answer }
    }

    /// Waits for a unary answer.
    pub(super) async fn unary(self) -> Result<Bytes, ApiError> {
        let body = poll_fn(|context| self.answer.poll_take(context)).await;
        match body {
            Some(body) if !self.answer.failed.get() => Ok(body),
            _ => Err(ApiError::engine_gone()),
        }
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
            Self::Stream(handle) => handle.answer.poll_take(context),
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
