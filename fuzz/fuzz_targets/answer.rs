//! A whole answer as the load engine reads it, from the body's bytes to the outcome: parser, classification, record.
//!
//! Input: one byte of circumstances, one that says where to cut, then the body. The split must change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokmark::internals::load::{Understood, understand};
use tokmark::internals::metrics::Outcome;

const STATUS: [u16; 4] = [200, 200, 200, 429];
const KIND: [Option<&str>; 4] =
    [Some("text/event-stream; charset=utf-8"), None, Some("application/json"), Some("text/html")];

fn read(circumstances: u8, body: &[u8], step: usize) -> Understood {
    let pick = usize::from(circumstances);
    let reads: Vec<&[u8]> = body.chunks(step).collect();
    understand(STATUS[pick & 3], KIND[pick >> 2 & 3], pick & 16 == 0, &reads)
}

fuzz_target!(|input: &[u8]| {
    let [circumstances, step, body @ ..] = input else { return };
    let whole = read(*circumstances, body, usize::MAX);
    assert_eq!(whole, read(*circumstances, body, usize::from(*step).max(1)));
    assert_eq!(whole, read(*circumstances, body, 1));
    assert_eq!(whole.error.is_none(), whole.outcome == Outcome::Ok);
    assert!(whole.outcome != Outcome::Ok || whole.chunks > 0);
    assert!(whole.error.is_none_or(|words| !words.is_empty() && words.len() < 2000 && !words.contains('\n')));
    assert!(whole.finish_reason.is_none_or(|reason| reason.len() < 2000));
});
