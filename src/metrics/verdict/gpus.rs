//! What the GPUs of the deployment say against a result: they idled, were slowed down, had errors, or worked for others too.

use std::collections::BTreeMap;

use itertools::Itertools;

use super::Reason;
use crate::metrics::gpus::{GpuView, OneGpu, throttle};

/// A GPU whose utilization never rose above this idled, %. NVML counts the time in which any kernel ran, so that even a GPU that waits for
/// memory or for other GPUs is near 100.
pub const IDLE_PCT: f64 = 1.0;
/// Fewer samples may have missed the work.
pub const FEWEST_SAMPLES: usize = 3;
/// Slowed down in more than this share of the samples: the driver reports a short dip at every change of the load.
pub const THROTTLED_SHARE: f64 = 0.05;
/// Hot within this distance of the temperature at which the hardware slows down, °C: cards differ by about as much in one node.
pub const HOT_MARGIN_C: f64 = 3.0;
/// Hot, where that temperature is not known, °C: the slowdown temperatures of data-center GPUs lie between 85 and 95.
pub const HOT_C: f64 = 85.0;
/// A busy GPU at its power limit keeps well above this share of its highest SM clock; below it, clocks were set or held down.
pub const CLOCK_FALLEN: f64 = 0.5;
/// GPUs of a deployment wait for the slowest: its SM clock is below this share of their median.
pub const CLOCK_BEHIND: f64 = 0.9;

pub(super) fn reasons(view: Option<&GpuView>) -> Vec<Reason> {
    let Some(view) = view else { return Vec::new() };
    let several = view.nodes.len() > 1;
    let median = median(view.each.iter().filter_map(|gpu| gpu.sm_avg_mhz).collect());
    let idled = view.each.iter().filter(|gpu| idled(gpu)).map(|gpu| (String::new(), gpu));
    let mut found: Vec<Reason> = grouped(idled, several)
        .into_iter()
        .map(|(_, gpus)| {
            let of = format!("of the {} of the deployment", view.gpus);
            Reason::suspect(format!(
                "{gpus} {of} idled through the measured window: paid for, and never used"
            ))
        })
        .collect();
    type Judge = fn(&OneGpu, Option<f64>) -> Option<String>;
    const JUDGES: [Judge; 7] = [
        throttled,
        |gpu, _| hot(gpu),
        |gpu, _| fallen(gpu),
        behind,
        |gpu, _| ecc(gpu),
        |gpu, _| xid(gpu),
        |gpu, _| others(gpu),
    ];
    for judge in JUDGES {
        let judged = view.each.iter().filter_map(|gpu| Some((judge(gpu, median)?, gpu)));
        found.extend(
            grouped(judged, several)
                .into_iter()
                .map(|(what, gpus)| Reason::suspect(format!("{gpus} {what}"))),
        );
    }
    found
}

/// GPUs of which the same is to be said, together.
fn grouped<'a>(said: impl Iterator<Item = (String, &'a OneGpu)>, several: bool) -> Vec<(String, String)> {
    let mut groups: Vec<(String, Vec<&OneGpu>)> = Vec::new();
    for (what, gpu) in said {
        match groups.iter_mut().find(|(known, _)| *known == what) {
            Some((_, group)) => group.push(gpu),
            None => groups.push((what, vec![gpu])),
        }
    }
    groups.into_iter().map(|(what, gpus)| (what, names(&gpus, several))).collect()
}

/// `GPU 0`, `GPUs 0, 1`, and with the node where there are several: `GPUs 0, 1 of n1; 3 of n2`.
fn names(gpus: &[&OneGpu], several: bool) -> String {
    let mut by_node: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for gpu in gpus {
        by_node.entry(&gpu.node).or_default().push(&gpu.gpu);
    }
    let of = |(node, gpus): (&str, Vec<&str>)| {
        let node = if several { format!(" of {node}") } else { String::new() };
        format!("{}{node}", gpus.join(", "))
    };
    let head = if gpus.len() == 1 { "GPU" } else { "GPUs" };
    format!("{head} {}", by_node.into_iter().map(of).join("; "))
}

fn idled(gpu: &OneGpu) -> bool {
    gpu.samples >= FEWEST_SAMPLES && gpu.util_max_pct.is_some_and(|util| util <= IDLE_PCT)
}

fn throttled(gpu: &OneGpu, _: Option<f64>) -> Option<String> {
    let harmful =
        throttle::NAMES.iter().filter(|(bit, _)| bit & throttle::HARMFUL != 0).map(|(_, name)| *name);
    let of = |name: &str| {
        gpu.throttled
            .get(name)
            .copied()
            .filter(|share| *share > THROTTLED_SHARE)
            .map(|share| (name.to_owned(), share))
    };
    let found: Vec<(String, f64)> = harmful.filter_map(of).collect();
    let words = found
        .iter()
        .map(|(name, share)| format!("{name} in {:.0} % of the samples", 100.0 * share))
        .join(", ");
    (!found.is_empty()).then(|| format!("slowed down: {words}"))
}

fn hot(gpu: &OneGpu) -> Option<String> {
    let temp = gpu.temp_max_c?;
    match gpu.temp_limit_c {
        Some(limit) => (temp >= limit - HOT_MARGIN_C)
            .then(|| format!("reached {temp:.0} °C, and slows down at {limit:.0} °C")),
        None => (temp >= HOT_C).then(|| format!("reached {temp:.0} °C")),
    }
}

fn fallen(gpu: &OneGpu) -> Option<String> {
    let (clock, highest) = (gpu.sm_avg_mhz?, gpu.sm_max_mhz?);
    let is_fallen = !idled(gpu) && gpu.util_max_pct.is_some() && clock < CLOCK_FALLEN * highest;
    is_fallen.then(|| format!("ran at {clock:.0} MHz on average while busy, of {highest:.0} MHz"))
}

fn behind(gpu: &OneGpu, median: Option<f64>) -> Option<String> {
    let (clock, median) = (gpu.sm_avg_mhz?, median?);
    let is_behind = !idled(gpu) && clock < CLOCK_BEHIND * median;
    is_behind
        .then(|| format!("ran at {clock:.0} MHz, half of the deployment's GPUs at {median:.0} MHz or more"))
}

fn ecc(gpu: &OneGpu) -> Option<String> {
    let errors = gpu.ecc_uncorrected.filter(|errors| *errors > 0)?;
    Some(format!("had {errors} uncorrected ECC errors in the measured window"))
}

fn xid(gpu: &OneGpu) -> Option<String> {
    let errors = gpu.xids.filter(|errors| *errors > 0)?;
    let last = gpu.last_xid.map(|xid| format!(", the last XID {xid}")).unwrap_or_default();
    Some(format!("had {errors} XID errors in the measured window{last}"))
}

fn others(gpu: &OneGpu) -> Option<String> {
    let first = gpu.others.first()?;
    let more = gpu.others.len() - 1;
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("had a process of others on it during the measured window: {first}{more}"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
#[path = "gpus/tests.rs"]
mod tests;
