//! Samples the GPUs of one machine: NVML, a DCGM exporter's page, or the table of a vendor's program.
//!
//! `tokmark node --gpus ASK` is one sampler: it prints a [`Line`] of JSON for each sample, until its stdin ends. Whoever holds the other end
//! of its stdin keeps it alive, so that it never outlives a run that is killed.

mod dcgm;
mod nvml;
mod owner;
mod source;
mod table;
mod tool;

use std::io::BufRead;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::metrics::gpus::{Device, Reading};
use source::Source;

/// What to sample; one JSON argument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The GPUs, as `CUDA_VISIBLE_DEVICES` names them: numbers or UUIDs.
    pub gpus: Vec<String>,
    pub interval_s: f64,
    /// The DCGM exporter's page.
    pub dcgm_url: String,
}

impl Ask {
    /// The ask as one argument.
    pub fn to_arg(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a sampler says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Once, first.
    Hello(Hello),
    Sample(Sample),
    /// The clock of the sampler, ns since 1970, in answer to a line on its stdin, which it repeats.
    Clock {
        asked: String,
        unix_ns: i64,
    },
    /// The source ended, and why.
    Lost(String),
}

/// Which GPUs a sampler reads, and from where.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// `NVML` …; `None` if no source knows a GPU. The sampler then ends.
    pub source: Option<String>,
    /// The asked GPUs that were found; samples count them from 0.
    pub devices: Vec<Device>,
    /// Asked GPUs that the source does not know.
    pub missing: Vec<String>,
    /// Why each source before it was of no use.
    pub tried: Vec<String>,
    /// The machine has devices of a GPU driver.
    pub has_driver: bool,
}

/// All GPUs at one instant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// ns since 1970.
    pub unix_ns: i64,
    /// The place of each among the devices, and what it said.
    pub gpus: Vec<(usize, Reading)>,
}

/// ns since 1970.
pub fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Samples until `stdin` ends or `out` returns `false`.
pub fn sample(ask: &Ask, stdin: impl BufRead + Send + 'static, out: &mut dyn FnMut(&Line) -> bool) {
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdin.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let (hello, source) = source::open(ask);
    let Some(mut source) = source else {
        out(&Line::Hello(hello));
        return;
    };
    if !out(&Line::Hello(hello)) {
        return;
    }
    let interval = Duration::from_secs_f64(ask.interval_s);
    let mut next = Instant::now();
    loop {
        if !read(&mut source, out) {
            return;
        }
        // A slow source skips samples; it never catches up with a burst of them.
        next = (next + interval).max(Instant::now());
        if !wait(&asked, next, out) {
            return;
        }
    }
}

fn read(source: &mut Source, out: &mut dyn FnMut(&Line) -> bool) -> bool {
    match source.read() {
        Ok(samples) => samples.into_iter().all(|sample| out(&Line::Sample(sample))),
        Err(reason) => {
            out(&Line::Lost(reason));
            false
        }
    }
}

/// Answers questions about the clock until an instant. `false` once stdin has ended.
fn wait(asked: &mpsc::Receiver<String>, until: Instant, out: &mut dyn FnMut(&Line) -> bool) -> bool {
    loop {
        match asked.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(asked) => {
                if !out(&Line::Clock { asked, unix_ns: unix_ns() }) {
                    return false;
                }
            }
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}
