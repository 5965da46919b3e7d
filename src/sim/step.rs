//! The contents of one engine step: the input of the step-time models.

/// The contents of one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepLoad {
    /// Sequences that take part in the step, in prefill or decode.
    pub seqs: u32,
    /// Prompt tokens computed in the step, including recomputation after a preemption.
    pub prefill_tokens: u64,
    /// Tokens computed by sequences in decode, one each.
    pub decode_tokens: u64,
    /// Context tokens the step attends to, summed over its sequences.
    pub kv_tokens: u64,
    /// The same where a layer sees only the sliding window; equal to `kv_tokens` without one.
    pub window_tokens: u64,
    /// Pairs of a computed token and a context token it attends to.
    pub pairs: u64,
    /// The same within the sliding window.
    pub window_pairs: u64,
}

impl StepLoad {
    /// Adds a sequence that computes `scheduled` tokens after `computed` ones. `window` 0 means no sliding window.
    pub fn add(&mut self, computed: u32, scheduled: u32, decoding: bool, window: u32) {
        let (before, new) = (u64::from(computed), u64::from(scheduled));
        let seen = |tokens: u64| if window == 0 { tokens } else { tokens.min(u64::from(window)) };
        // On average, a token of the chunk sees the earlier tokens and half of the chunk.
        let mean_context = before + new.div_ceil(2);
        self.seqs += 1;
        self.kv_tokens += before + new;
        self.window_tokens += seen(before + new);
        self.pairs += new * mean_context;
        self.window_pairs += new * seen(mean_context);
        if decoding {
            self.decode_tokens += new;
        } else {
            self.prefill_tokens += new;
        }
    }

    /// Tokens that the matrices multiply.
    pub fn tokens(&self) -> u64 {
        self.prefill_tokens + self.decode_tokens
    }
}
