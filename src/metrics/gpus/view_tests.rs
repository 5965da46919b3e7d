use super::super::{Device, NodeView};
use super::*;

const S: i64 = 1_000_000;

/// A GPU that draws so much power at each second from 0 on.
fn track(node: &str, gpu: &str, watts: &[f64]) -> Track {
    let sample = |(at, power): (i64, &f64)| {
        let busy = *power > 150.0;
        let reading = Reading {
            power_w: Some(*power),
            util_pct: Some(if busy { 90.0 } else { 0.0 }),
            sm_mhz: Some(if busy { 1700.0 } else { 345.0 }),
            xids: Some(if at > 6 { 1 } else { 0 }),
            last_xid: (at > 6).then_some(31),
            throttle: Some(if at % 2 == 0 { throttle::SW_POWER_CAP } else { 0 }),
            ..Reading::default()
        };
        (at * S, reading)
    };
    let device = Device { gpu: gpu.into(), ..Device::default() };
    Track { node: node.into(), device, samples: (0..).zip(watts).map(sample).collect() }
}

/// Two GPUs, idle at 100 W and 60 W for 3 s, then 300 W and 200 W.
fn watch() -> Watch {
    let watts = |idle: f64, busy: f64| [vec![idle; 3], vec![busy; 8]].concat();
    Watch {
        interval_s: 1.0,
        nodes: vec![NodeView { node: "n1".into(), source: Some("NVML".into()), ..NodeView::default() }],
        tracks: vec![track("n1", "0", &watts(100.0, 300.0)), track("n1", "1", &watts(60.0, 200.0))],
        before_load: Some((0, 2 * S)),
        ..Watch::default()
    }
}

/// The window from 4 s to 8 s: 500 W together, so 2000 J; 1000 output tokens and 4000 prompt tokens.
#[test]
fn energy_and_tokens_of_a_window() {
    let view = GpuView::of(&watch(), (4 * S, 8 * S)).unwrap().with_tokens(1000.0, 4000.0, 4.0);
    assert_eq!((view.source.as_str(), view.gpus, view.power_valid), ("NVML", 2, true));
    assert_eq!(
        (view.power_avg_w, view.power_peak_w, view.energy_j),
        (Some(500.0), Some(500.0), Some(2000.0))
    );
    assert_eq!((view.power_idle_w, view.idle_before), (Some(160.0), Some(IdleBefore::Load)));
    assert_eq!((view.j_per_output_token, view.j_per_total_token), (Some(2.0), Some(0.4)));
    assert_eq!((view.output_tokens_per_j, view.total_tokens_per_j), (Some(0.5), Some(2.5)));
    assert_eq!(view.output_tokens_per_s_per_w, Some(0.5), "250 tokens/s at 500 W");
    let first = &view.each[0];
    assert_eq!((first.samples, first.energy_j, first.energy_counted), (5, Some(1200.0), false));
    assert_eq!((first.util_avg_pct, first.sm_avg_mhz), (Some(90.0), Some(1700.0)));
    assert_eq!(first.throttled["sw_power_cap"], 0.6, "at 4, 6 and 8 s of 5 samples");
    assert_eq!((first.xids, first.last_xid), (Some(1), Some(31)));
}

#[test]
fn a_window_without_new_errors_has_none() {
    let view = GpuView::of(&watch(), (7 * S, 9 * S)).unwrap();
    assert_eq!((view.each[0].xids, view.each[0].last_xid), (Some(0), None));
}

#[test]
fn the_counter_goes_before_the_power() {
    let mut watch = watch();
    for track in &mut watch.tracks {
        for (at, reading) in &mut track.samples {
            reading.energy_j = Some(5_000.0 + *at as f64 / 1e6 * 310.0);
        }
    }
    let view = GpuView::of(&watch, (4 * S, 8 * S)).unwrap();
    assert_eq!(
        (view.energy_j, view.power_avg_w, view.power_peak_w),
        (Some(2480.0), Some(620.0), Some(500.0))
    );
    assert!(view.each.iter().all(|gpu| gpu.energy_counted) && view.power_valid);
}

#[test]
fn what_makes_power_invalid() {
    let reasons = |change: fn(&mut Watch), window: (i64, i64)| {
        let mut watch = watch();
        change(&mut watch);
        let view = GpuView::of(&watch, window).unwrap();
        assert_eq!(view.power_valid, view.power_reasons.is_empty());
        (view.power_reasons, view.energy_j)
    };
    let whole = (4 * S, 8 * S);
    let lost = |watch: &mut Watch| watch.missing.push(("n1".into(), "2".into()));
    assert_eq!(reasons(lost, whole), (vec!["GPU 2 of n1 was not found".to_owned()], None));
    let gap = |watch: &mut Watch| watch.tracks[1].samples.retain(|(at, _)| *at <= 4 * S || *at >= 9 * S);
    let (said, energy) = reasons(gap, whole);
    assert_eq!((said, energy), (vec!["GPU 1: 4.0 s without a sample".to_owned()], Some(2000.0)));
    let silent = |watch: &mut Watch| {
        watch.tracks[0].samples.iter_mut().for_each(|(_, reading)| reading.power_w = None)
    };
    assert_eq!(reasons(silent, whole), (vec!["GPU 0 tells no power".to_owned()], None));
    let divided = |watch: &mut Watch| watch.tracks[0].device.mig = true;
    assert_eq!(reasons(divided, whole).0, ["GPU 0 is divided (MIG): its power is that of all its instances"]);
    let short = (4 * S + S / 4, 4 * S + S / 2);
    assert_eq!(reasons(|_| {}, short).0[0], "GPU 0: 0 samples in a window of 0.2 s, and power needs 3");
    let unsure = |watch: &mut Watch| watch.nodes[0].clock_error_ms = Some(4500.0);
    assert_eq!(reasons(unsure, whole).0, ["the clock of n1 is known to 4.5 s only"]);
}

#[test]
fn a_counter_that_contradicts_the_power_is_named() {
    let mut watch = watch();
    watch.tracks.truncate(1);
    watch.tracks[0].samples = track("n1", "0", &[300.0; 14]).samples;
    for (at, reading) in &mut watch.tracks[0].samples {
        reading.energy_j = Some(1.0 + *at as f64 / 1e6 * 150.0);
    }
    let view = GpuView::of(&watch, (S, 12 * S)).unwrap();
    assert_eq!(view.power_reasons, ["GPU 0: its counter says 1650 J, its power adds up to 3300 J"]);
}

#[test]
fn without_gpus_there_is_no_view() {
    assert_eq!(GpuView::of(&Watch::default(), (0, S)), None);
    let unready = Watch { before_load: None, before_servers: Some((0, S)), ..watch() };
    let view = GpuView::of(&unready, (4 * S, 8 * S)).unwrap();
    assert_eq!((view.power_idle_w, view.idle_before), (Some(160.0), Some(IdleBefore::Servers)));
}
