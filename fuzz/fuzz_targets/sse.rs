//! The SSE parser: no bytes make it panic, and how the bytes were split changes nothing.
//!
//! Input: one byte that says where to cut (a read ends after each that many bytes), then the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokmark::internals::load::sse::Parser;

type Seen = (Vec<(Vec<u8>, Vec<u8>)>, u64);

fn events(stream: &[u8], step: usize) -> Seen {
    let mut parser = Parser::default();
    let mut seen = Vec::new();
    for read in stream.chunks(step) {
        parser.push(read);
        while let Ok(Some(event)) = parser.next_event() {
            seen.push((event.name.to_vec(), event.data.to_vec()));
        }
    }
    if let Some(event) = parser.finish() {
        seen.push((event.name.to_vec(), event.data.to_vec()));
    }
    (seen, parser.strange_lines())
}

fuzz_target!(|input: &[u8]| {
    let Some((step, stream)) = input.split_first() else { return };
    let whole = events(stream, usize::MAX);
    assert_eq!(whole, events(stream, usize::from(*step).max(1)));
    assert_eq!(whole, events(stream, 1));
});
