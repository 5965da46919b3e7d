//! What a million tokens cost, from the price of a GPU-hour.

use super::zones::{CutShort, Level};
use crate::recipe::Price;

/// Cost of a million tokens in the currency of the price.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    pub output: f64,
    /// Of prompt and output tokens together; `None` when only output tokens were counted.
    pub total: Option<f64>,
}

/// The cost at a load level: GPUs × price ÷ (tokens per hour) × 10⁶. `None` when the number of GPUs is not known, nothing came
/// out, or the measurement was cut short. The time of start-up and idle GPUs is not in it.
pub fn cost(level: &Level, price: &Price) -> Option<Cost> {
    let gpus = level.gpus.filter(|gpus| *gpus > 0.0 && level.cut_short == CutShort::No)?;
    let of =
        |tokens_per_s: f64| (tokens_per_s > 0.0).then(|| gpus * price.amount * 1e6 / (tokens_per_s * 3600.0));
    Some(Cost { output: of(level.output_tokens_per_s?)?, total: level.total_tokens_per_s.and_then(of) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let price: Price = "3.6 USD".parse().unwrap();
        let level = Level {
            gpus: Some(4.0),
            output_tokens_per_s: Some(2000.0),
            total_tokens_per_s: Some(8000.0),
            ..Level::default()
        };
        // 4 GPUs cost 14.4 an hour, in which they make 7.2 million output tokens, and read and make 28.8 million.
        assert_eq!(cost(&level, &price), Some(Cost { output: 2.0, total: Some(0.5) }));
        assert_eq!(cost(&Level { gpus: None, ..level.clone() }, &price), None, "no GPUs, no cost; never 0");
        assert_eq!(cost(&Level { output_tokens_per_s: Some(0.0), ..level.clone() }, &price), None);
        let cost = cost(&Level { total_tokens_per_s: None, ..level }, &price);
        assert_eq!(cost, Some(Cost { output: 2.0, total: None }));
    }
}
