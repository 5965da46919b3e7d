//! Which keys of `[load]` exclude each other.
//!
//! Several keys can set how requests arrive, when the load ends, how long its warm-up is, and where lengths come from. A
//! layer that sets one of them removes the alternatives from lower layers; two of them in one layer are an error. Layers are
//! merged as plain tables, because every value keeps its origin and axes are dotted keys, so the exclusions are a table of
//! keys too.

/// A key of `[load]`, and the keys of `[load]` that it excludes, separated by blanks.
pub type Alternative = (&'static str, &'static str);

/// The four ways in which requests arrive; a layer names at most one of them.
pub const ARRIVALS: [Alternative; 4] = [
    (
        "prompts.trace",
        "concurrency rate arrival stages start_concurrency start_rate requests_per_concurrency warmup_per_concurrency",
    ),
    ("stages", "concurrency rate requests requests_per_concurrency duration warmup_per_concurrency"),
    (
        "rate",
        "concurrency stages start_concurrency start_rate requests_per_concurrency warmup_per_concurrency",
    ),
    ("concurrency", "rate stages start_concurrency start_rate arrival max_concurrency when_full"),
];

/// The other exclusions. A key that excludes itself replaces the whole table of the layer below.
pub(super) const OTHERS: [Alternative; 10] = [
    ("arrival", "arrival"),
    ("requests", "requests_per_concurrency duration"),
    ("requests_per_concurrency", "requests duration"),
    ("duration", "requests requests_per_concurrency"),
    ("warmup_requests", "warmup_per_concurrency warmup_duration"),
    ("warmup_per_concurrency", "warmup_requests warmup_duration"),
    ("warmup_duration", "warmup_requests warmup_per_concurrency"),
    ("mix", "isl osl isl_stddev osl_stddev"),
    ("prompts.dataset", "isl isl_stddev mix prompts.style prompts.trace"),
    (
        "prompts.trace",
        "isl osl isl_stddev osl_stddev mix length_range prompts.style prompts.dataset prompts.conversation",
    ),
];
