//! How many tokens a block of a trace has: said by the user, by the file, or by its rows.

use super::TraceRow;
use crate::document::InputError;
use crate::plan::prompts::Trace;
use crate::prompts::dataset::records::at;

/// Tokens of a block of a Mooncake trace, unless another number is said or its rows say otherwise.
const MOONCAKE: u32 = 512;

/// Tokens of a block of `rows`, and where the number is from; `recorded` is that of the file.
///
/// # Errors
/// A row whose blocks do not fit its prompt, or rows that several numbers would fit.
pub(super) fn tokens(
    trace: &Trace,
    recorded: Option<u32>,
    rows: &[TraceRow],
) -> Result<(u32, &'static str), InputError> {
    let with_blocks = || rows.iter().filter(|row| !row.blocks.is_empty());
    let given = trace.block_size.map(|size| (size, "as given"));
    if let Some((size, source)) = given.or(recorded.map(|size| (size, "as its file says"))) {
        return match with_blocks().find(|row| !fits(row, size)) {
            Some(row) => Err(unfit(trace, row, size)),
            None => Ok((size, source)),
        };
    }
    let (least, most) = with_blocks()
        .map(bounds)
        .fold((1, u32::MAX), |(least, most), (low, high)| (least.max(low), most.min(high)));
    if (least..=most).contains(&MOONCAKE) {
        return Ok((MOONCAKE, "as Mooncake's are, which fits every row"));
    }
    let powers: Vec<u32> =
        (0..u32::BITS).map(|bits| 1 << bits).filter(|size| (least..=most).contains(size)).collect();
    match powers[..] {
        [one] => Ok((one, "the one power of two that fits every row")),
        [] if least == most => Ok((least, "the one number that fits every row")),
        [] if least < most && with_blocks().all(|row| row.blocks.len() == 1 || bounds(row).0 == least) => {
            Ok((least, "the rounded-up input_length / hash_ids of every row of several"))
        }
        _ => match with_blocks().find(|row| !fits(row, MOONCAKE)) {
            Some(row) => Err(unfit(trace, row, MOONCAKE)),
            None => Ok((MOONCAKE, "as Mooncake's are; the last tokens of some prompts are in no block")),
        },
    }
}

/// Whether the blocks are those of the prompt: one for each `size` tokens begun, or one for each `size` tokens whole.
fn fits(row: &TraceRow, size: u32) -> bool {
    [row.isl.div_ceil(size), row.isl / size].map(|blocks| blocks as usize).contains(&row.blocks.len())
}

/// The least and the most tokens that a block can have, if the last one alone is cut.
fn bounds(row: &TraceRow) -> (u32, u32) {
    let blocks = u32::try_from(row.blocks.len()).unwrap_or(u32::MAX).max(1);
    (row.isl.div_ceil(blocks), if blocks == 1 { u32::MAX } else { (row.isl - 1) / (blocks - 1) })
}

fn unfit(trace: &Trace, row: &TraceRow, size: u32) -> InputError {
    let (blocks, isl) = (row.blocks.len(), row.isl);
    let (holds, would) = (blocks as u64 * u64::from(size), isl.div_ceil(size));
    let problem = format!(
        "{blocks} blocks of {size} tokens are {holds} tokens, and input_length is {isl}, which has {would} such blocks"
    );
    let fitting = match bounds(row) {
        (least, most) if least > most => {
            "no number of tokens in a block fits this row; mend or remove it".to_owned()
        }
        (least, u32::MAX) => {
            format!("blocks of {least} tokens or more would fit this row: block_size, --block-size")
        }
        (least, most) => {
            format!("blocks of {least} to {most} tokens would fit this row: block_size, --block-size")
        }
    };
    at(InputError::new(&*trace.path, problem), row.place)
        .key("hash_ids")
        .expected("a block for each block_size tokens of the prompt, the last one perhaps cut")
        .next(fitting)
}
