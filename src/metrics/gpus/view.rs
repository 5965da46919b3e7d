//! What the samples say of the measured window of a load point.

use std::collections::BTreeMap;

use itertools::Itertools;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::power::{self, Series, seconds};
use super::{Reading, Track, Watch, throttle};

/// Power is not valid when this many intervals passed without a sample: two may be lost to a busy machine.
const GAP_INTERVALS: f64 = 3.0;
/// Gaps up to this length hardly change the energy of a window, however short the interval.
const GAP_S: f64 = 2.0;
/// Fewer samples in the window are a guess: the power of a GPU is an average over up to a second.
const FEWEST_SAMPLES: usize = 3;
/// Counter and power samples of a sound GPU agree within a few percent.
const COUNTER_OFF: f64 = 0.10;
/// They are compared in windows of at least this length: a GPU's power figure lags by up to a second.
const COMPARED_FROM_S: f64 = 10.0;

/// The GPUs of the deployment in the measured window.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct GpuView {
    /// Where the figures come from: `NVML`, `DCGM exporter`, `nvidia-smi`, `amd-smi`, `rocm-smi`.
    pub source: String,
    /// GPUs of the deployment, those that were not found included.
    pub gpus: usize,
    /// Whether power and energy are those of all GPUs over the whole window.
    pub power_valid: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub power_reasons: Vec<String>,
    /// All GPUs together: energy of the window over its length, W.
    pub power_avg_w: Option<f64>,
    /// The highest sum at one instant, W.
    pub power_peak_w: Option<f64>,
    /// All GPUs together before the load, W.
    pub power_idle_w: Option<f64>,
    /// What stood still then.
    pub idle_before: Option<IdleBefore>,
    /// Energy of the window, J.
    pub energy_j: Option<f64>,
    /// Energy over output tokens of the window, J.
    pub j_per_output_token: Option<f64>,
    /// Energy over prompt and output tokens of the window, J.
    pub j_per_total_token: Option<f64>,
    /// Output tokens over energy.
    pub output_tokens_per_j: Option<f64>,
    /// Prompt and output tokens over energy.
    pub total_tokens_per_j: Option<f64>,
    /// Output tokens per second over average power.
    pub output_tokens_per_s_per_w: Option<f64>,
    /// Mean utilization of all GPUs, %.
    pub util_avg_pct: Option<f64>,
    /// The nodes of the GPUs.
    pub nodes: Vec<NodeView>,
    /// Every GPU.
    pub each: Vec<OneGpu>,
}

/// Before what the idle power was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdleBefore {
    /// The servers were ready, and no load ran.
    Load,
    /// No server ran yet.
    Servers,
}

/// A node of the deployment.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeView {
    /// Its name.
    pub node: String,
    /// Where its figures come from; `null` when there is no source.
    pub source: Option<String>,
    /// How far its clock was ahead of the run's, ms; its samples are moved by it. Absent where the run's own clock stamps them.
    pub clock_offset_ms: Option<f64>,
    /// How far that may be off, ms.
    pub clock_error_ms: Option<f64>,
    /// Why its samples are missing, or ended early.
    pub problem: Option<String>,
}

/// One GPU in the measured window.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct OneGpu {
    /// Its node.
    pub node: String,
    /// As the deployment names it on its node: a number or a UUID.
    pub gpu: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its product name.
    pub name: Option<String>,
    /// Samples in the window.
    pub samples: usize,
    /// Mean utilization, %.
    pub util_avg_pct: Option<f64>,
    /// Highest utilization, %.
    pub util_max_pct: Option<f64>,
    /// Most memory in use, MiB.
    pub mem_max_mib: Option<f64>,
    /// Memory, MiB.
    pub mem_total_mib: Option<f64>,
    /// Highest temperature, °C.
    pub temp_max_c: Option<f64>,
    /// Temperature at which it lowers its clocks, °C.
    pub temp_limit_c: Option<f64>,
    /// Energy of the window over its length, W.
    pub power_avg_w: Option<f64>,
    /// Highest power of a sample, W.
    pub power_peak_w: Option<f64>,
    /// Power limit, W.
    pub power_limit_w: Option<f64>,
    /// Energy of the window, J.
    pub energy_j: Option<f64>,
    /// The energy is that of its own counter; else it is the integral of its power.
    pub energy_counted: bool,
    /// Mean SM clock of the samples in which it was busy, MHz.
    pub sm_avg_mhz: Option<f64>,
    /// Highest SM clock it can have, MHz.
    pub sm_max_mhz: Option<f64>,
    /// Mean memory clock, MHz.
    pub mem_avg_mhz: Option<f64>,
    /// Share of the samples with each reason for lower clocks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub throttled: BTreeMap<String, f64>,
    /// Corrected ECC errors of the window.
    pub ecc_corrected: Option<u64>,
    /// Uncorrected ECC errors of the window.
    pub ecc_uncorrected: Option<u64>,
    /// XID errors of the window.
    pub xids: Option<u64>,
    /// The number of the last of them.
    pub last_xid: Option<u64>,
    /// Processes of others on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
}

/// A sample counts as busy from this utilization, %.
const BUSY_PCT: f64 = 50.0;

impl GpuView {
    /// What the samples say of a window, given in µs since 1970; `None` if no GPU was found.
    pub fn of(watch: &Watch, window: (i64, i64)) -> Option<Self> {
        if watch.tracks.is_empty() {
            return None;
        }
        let each: Vec<OneGpu> = watch.tracks.iter().map(|track| OneGpu::of(track, window)).collect();
        let power: Vec<Series> = watch.tracks.iter().map(power::power).collect();
        let is_whole = watch.missing.is_empty();
        let energy_j = each.iter().map(|gpu| gpu.energy_j).sum::<Option<f64>>().filter(|_| is_whole);
        let length_s = seconds(window.1 - window.0);
        let (idle_before, power_idle_w) = idle(watch, &power).unzip();
        let power_reasons = reasons(watch, &each, &power, window);
        Some(Self {
            source: watch.nodes.iter().filter_map(|node| node.source.as_deref()).unique().join(", "),
            gpus: each.len() + watch.missing.len(),
            power_valid: power_reasons.is_empty(),
            power_reasons,
            power_avg_w: energy_j.filter(|_| length_s > 0.0).map(|energy| energy / length_s),
            power_peak_w: power::peak(&power, window).filter(|_| is_whole),
            power_idle_w,
            idle_before,
            energy_j,
            util_avg_pct: mean(each.iter().filter_map(|gpu| gpu.util_avg_pct)),
            nodes: watch.nodes.clone(),
            each,
            ..Self::default()
        })
    }

    /// With the figures per token of a window in which so many tokens were generated, and so many had gone in.
    pub fn with_tokens(mut self, output: f64, prompt: f64, window_s: f64) -> Self {
        let Some(energy) = self.energy_j.filter(|energy| *energy > 0.0) else { return self };
        let total = output + prompt;
        let per = |tokens: f64| (tokens > 0.0).then(|| energy / tokens);
        self.j_per_output_token = per(output);
        self.j_per_total_token = per(total);
        self.output_tokens_per_j = Some(output / energy);
        self.total_tokens_per_j = Some(total / energy);
        let power = self.power_avg_w.filter(|power| *power > 0.0 && window_s > 0.0);
        self.output_tokens_per_s_per_w = power.map(|power| output / window_s / power);
        self
    }
}

/// All GPUs together while they had nothing to do: best with the servers ready, else before them.
fn idle(watch: &Watch, power: &[Series]) -> Option<(IdleBefore, f64)> {
    let sum = |(from, to): (i64, i64)| {
        let of_one = |series: &Series| {
            mean(series.iter().filter(|(at, _)| (from..=to).contains(at)).map(|(_, power)| *power))
        };
        power.iter().map(of_one).sum::<Option<f64>>()
    };
    let with = |before: IdleBefore, range: Option<(i64, i64)>| Some((before, sum(range?)?));
    let loaded = with(IdleBefore::Load, watch.before_load);
    loaded.or_else(|| with(IdleBefore::Servers, watch.before_servers)).filter(|_| watch.missing.is_empty())
}

impl OneGpu {
    fn of(track: &Track, window: (i64, i64)) -> Self {
        let (from, to) = window;
        let inside: Vec<&Reading> = track
            .samples
            .iter()
            .filter(|(at, _)| (from..=to).contains(at))
            .map(|(_, reading)| reading)
            .collect();
        let all =
            |figure: fn(&Reading) -> Option<f64>| inside.iter().filter_map(move |reading| figure(reading));
        let highest = |figure: fn(&Reading) -> Option<f64>| all(figure).reduce(f64::max);
        let last = |figure: fn(&Reading) -> Option<f64>| {
            track.samples.iter().rev().find_map(|(_, reading)| figure(reading))
        };
        let risen = |count: fn(&Reading) -> Option<u64>| risen(track, window, count);
        let is_busy = |reading: &&&Reading| reading.util_pct.is_none_or(|util| util >= BUSY_PCT);
        let series = power::power(track);
        let counted = power::counted(track, window);
        let energy_j = counted.or_else(|| power::integral(&series, window));
        let length_s = seconds(to - from);
        let xids = risen(|reading| reading.xids);
        Self {
            node: track.node.clone(),
            gpu: track.device.gpu.clone(),
            uuid: track.device.uuid.clone(),
            name: track.device.name.clone(),
            samples: inside.len(),
            util_avg_pct: mean(all(|reading| reading.util_pct)),
            util_max_pct: highest(|reading| reading.util_pct),
            mem_max_mib: highest(|reading| reading.mem_used_mib),
            mem_total_mib: last(|reading| reading.mem_total_mib),
            temp_max_c: highest(|reading| reading.temp_c),
            temp_limit_c: last(|reading| reading.temp_limit_c),
            power_avg_w: energy_j.filter(|_| length_s > 0.0).map(|energy| energy / length_s),
            power_peak_w: highest(|reading| reading.power_w),
            power_limit_w: last(|reading| reading.power_limit_w),
            energy_j,
            energy_counted: counted.is_some(),
            sm_avg_mhz: mean(inside.iter().filter(is_busy).filter_map(|reading| reading.sm_mhz)),
            sm_max_mhz: last(|reading| reading.sm_max_mhz),
            mem_avg_mhz: mean(all(|reading| reading.mem_mhz)),
            throttled: throttled(&inside),
            ecc_corrected: risen(|reading| reading.ecc_corrected),
            ecc_uncorrected: risen(|reading| reading.ecc_uncorrected),
            xids,
            last_xid: last(|reading| reading.last_xid.map(|xid| xid as f64))
                .filter(|_| xids.is_some_and(|count| count > 0))
                .map(|xid| xid as u64),
            others: inside.iter().filter_map(|reading| reading.others.clone()).flatten().unique().collect(),
        }
    }

    /// `gpu 0` or, on several nodes, `gpu 0 of n1`.
    pub fn called(&self, of_several_nodes: bool) -> String {
        let node = if of_several_nodes { format!(" of {}", self.node) } else { String::new() };
        format!("GPU {}{node}", self.gpu)
    }
}

/// How far a counter rose in a window: from the last sample up to its begin to the last one within.
fn risen(track: &Track, (from, to): (i64, i64), count: fn(&Reading) -> Option<u64>) -> Option<u64> {
    let known = || track.samples.iter().filter_map(|(at, reading)| Some((*at, count(reading)?)));
    let first = known().rfind(|(at, _)| *at <= from).or_else(|| known().next())?;
    let last = known().rfind(|(at, _)| *at <= to)?;
    Some(last.1.saturating_sub(first.1))
}

fn throttled(inside: &[&Reading]) -> BTreeMap<String, f64> {
    let bits: Vec<u64> = inside.iter().filter_map(|reading| reading.throttle).collect();
    let share = |bit: u64| {
        let with = bits.iter().filter(|bits| *bits & bit != 0).count();
        (with > 0).then(|| with as f64 / bits.len() as f64)
    };
    let named = throttle::NAMES.iter().filter_map(|(bit, name)| Some(((*name).to_owned(), share(*bit)?)));
    named.collect()
}

/// Why power and energy are not those of all GPUs over the whole window.
fn reasons(watch: &Watch, each: &[OneGpu], power: &[Series], window: (i64, i64)) -> Vec<String> {
    let several = watch.nodes.len() > 1;
    let mut found: Vec<String> =
        watch.missing.iter().map(|(node, gpu)| format!("GPU {gpu} of {node} was not found")).collect();
    found.extend(
        watch.nodes.iter().filter_map(|node| Some(format!("{}: {}", node.node, node.problem.as_ref()?))),
    );
    let longest = (GAP_INTERVALS * watch.interval_s).max(GAP_S);
    let off_s = |node: &NodeView| node.clock_error_ms.unwrap_or(0.0) / 1e3;
    found.extend(
        watch
            .nodes
            .iter()
            .filter(|node| off_s(node) > longest)
            .map(|node| format!("the clock of {} is known to {:.1} s only", node.node, off_s(node))),
    );
    let length_s = seconds(window.1 - window.0);
    for ((gpu, series), track) in each.iter().zip(power).zip(&watch.tracks) {
        let called = gpu.called(several);
        let gap = power::longest_gap(series, window);
        let counted = gpu.energy_j.filter(|_| gpu.energy_counted && length_s >= COMPARED_FROM_S);
        let summed = power::integral(series, window).filter(|summed| *summed > 0.0);
        if series.is_empty() {
            found.push(format!("{called} tells no power"));
        } else if gap > longest {
            found.push(format!("{called}: {gap:.1} s without a sample"));
        } else if gpu.samples < FEWEST_SAMPLES {
            found.push(format!(
                "{called}: {} samples in a window of {length_s:.1} s, and power needs {FEWEST_SAMPLES}",
                gpu.samples
            ));
        } else if let (Some(counted), Some(summed)) = (counted, summed)
            && (counted / summed - 1.0).abs() > COUNTER_OFF
        {
            found.push(format!(
                "{called}: its counter says {counted:.0} J, its power adds up to {summed:.0} J"
            ));
        }
        if track.device.mig {
            found.push(format!("{called} is divided (MIG): its power is that of all its instances"));
        }
    }
    found
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
