//! A whole answer as the load engine reads it, from the body's bytes to the outcome: parser, classification, record.
//!
//! Input: one byte of circumstances, one that says where to cut, then the body. The split must change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokmark::internals::load::{Answer, End};
use tokmark::internals::metrics::{Outcome, Usage};

const STATUS: [u16; 4] = [200, 200, 200, 429];

#[derive(Debug, PartialEq)]
struct Understood {
    end: End,
    chunks: u64,
    words: u64,
    usage: Option<Usage>,
    finish_reason: Option<String>,
}

fn read(circumstances: u8, body: &[u8], step: usize) -> Understood {
    let pick = usize::from(circumstances);
    let mut answer = Answer::new(STATUS[pick & 3], pick & 16 == 0);
    body.chunks(step).for_each(|read| answer.read(0, read));
    let (end, chunks) = (answer.end(0, None), answer.chunks());
    let content = answer.into_content();
    Understood { end, chunks, words: content.words, usage: content.usage, finish_reason: content.finish_reason }
}

fuzz_target!(|input: &[u8]| {
    let [circumstances, step, body @ ..] = input else { return };
    let whole = read(*circumstances, body, usize::MAX);
    assert_eq!(whole, read(*circumstances, body, usize::from(*step).max(1)));
    assert_eq!(whole, read(*circumstances, body, 1));
    let End { outcome, error } = whole.end;
    assert_eq!(error.is_none(), outcome == Outcome::Ok);
    assert!(outcome != Outcome::Ok || whole.chunks > 0);
    assert!(error.is_none_or(|words| !words.is_empty() && words.len() < 2000 && !words.contains('\n')));
    assert!(whole.finish_reason.is_none_or(|reason| reason.len() < 2000));
});
