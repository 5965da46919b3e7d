//! The reader of HTTP/1.1 answers: no bytes make it panic, and how they were split changes nothing.
//!
//! Input: one byte that says where to cut (a read ends after each that many bytes), then the answer with its head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokmark::internals::load::read_answer;

fuzz_target!(|input: &[u8]| {
    let Some((step, answer)) = input.split_first() else { return };
    let split = |step: usize| read_answer(&answer.chunks(step.max(1)).collect::<Vec<_>>());
    let (whole, cut, single) = (split(usize::MAX), split(usize::from(*step)), split(1));
    // Bytes behind a broken place are not looked at, so only good answers can be held against each other.
    assert_eq!(whole.is_ok(), single.is_ok(), "{whole:?} against {single:?}");
    if let Ok((_, payload, _)) = &whole {
        assert!(payload.len() <= answer.len());
        assert_eq!((&whole, &whole), (&cut, &single));
    }
});
