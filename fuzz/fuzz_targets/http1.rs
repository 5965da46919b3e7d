//! The reader of HTTP/1.1 answers: no bytes make it panic, and how they were split changes nothing.
//!
//! Input: one byte that says where to cut (a read ends after each that many bytes), then the answer with its head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Instant;
use tokmark::internals::load::{ResponseReader, Sink};

/// The status, the payload, and whether the answer is whole.
#[derive(Debug, Default, PartialEq)]
struct Received(Option<u16>, Vec<u8>, bool);

impl Sink for Received {
    fn head(&mut self, _: Instant, status: u16, _: Option<&str>) {
        self.0 = Some(status);
    }

    fn payload(&mut self, _: Instant, bytes: &[u8]) {
        self.1.extend_from_slice(bytes);
    }
}

fn read(answer: &[u8], step: usize) -> Result<Received, String> {
    let (mut response, mut received, at) = (ResponseReader::default(), Received::default(), Instant::now());
    answer.chunks(step).try_for_each(|read| response.take(at, read, &mut received))?;
    received.2 = response.complete();
    Ok(received)
}

fuzz_target!(|input: &[u8]| {
    let Some((step, answer)) = input.split_first() else { return };
    let split = |step: usize| read(answer, step.max(1));
    let (whole, cut, single) = (split(usize::MAX), split(usize::from(*step)), split(1));
    // Bytes behind a broken place are not looked at, so only good answers can be held against each other.
    assert_eq!(whole.is_ok(), single.is_ok(), "{whole:?} against {single:?}");
    if let Ok(Received(_, payload, _)) = &whole {
        assert!(payload.len() <= answer.len());
        assert_eq!((&whole, &whole), (&cut, &single));
    }
});
