//! The start of a safetensors file: what it says of its tensors and its length is never believed without the file's own length.
//!
//! Input: the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokmark::internals::weights::shard::read;

fuzz_target!(|input: &[u8]| {
    let length = input.len() as u64;
    match read(input, length) {
        Ok(shard) => {
            assert!(shard.data < length && shard.length == length);
            // One byte more or less is another file.
            assert!(read(input, length + 1).is_err());
            assert!(read(input, length - 1).is_err());
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
});
