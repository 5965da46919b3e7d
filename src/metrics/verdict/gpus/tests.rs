use std::collections::BTreeMap;

use super::*;
use crate::metrics::gpus::NodeView;

fn sound(node: &str, gpu: &str) -> OneGpu {
    OneGpu {
        node: node.into(),
        gpu: gpu.into(),
        samples: 60,
        util_avg_pct: Some(95.0),
        util_max_pct: Some(100.0),
        temp_max_c: Some(66.0),
        temp_limit_c: Some(87.0),
        sm_avg_mhz: Some(1755.0),
        sm_max_mhz: Some(1980.0),
        throttled: BTreeMap::from([("sw_power_cap".to_owned(), 0.9)]),
        ecc_corrected: Some(2),
        ecc_uncorrected: Some(0),
        xids: Some(0),
        ..OneGpu::default()
    }
}

/// The reasons for two nodes with two GPUs each, after a change of the last one.
fn reasons_of(change: impl Fn(&mut OneGpu)) -> Vec<String> {
    let mut each = vec![sound("n1", "0"), sound("n1", "1"), sound("n2", "0"), sound("n2", "1")];
    change(each.last_mut().unwrap());
    let nodes = ["n1", "n2"].map(|node| NodeView { node: node.into(), ..NodeView::default() }).into();
    let view = GpuView { gpus: 4, nodes, each, ..GpuView::default() };
    reasons(Some(&view)).into_iter().map(|reason| reason.text).collect()
}

#[test]
fn busy_gpus_at_their_power_limit_are_sound() {
    assert_eq!(reasons_of(|_| {}), Vec::<String>::new());
    assert!(reasons(None).is_empty());
}

#[test]
fn each_fault_names_gpu_node_and_figures() {
    let share = |name: &str, share: f64| BTreeMap::from([(name.to_owned(), share)]);
    type Case = (fn(&mut OneGpu), &'static str);
    let table: [Case; 8] = [
        (
            |gpu| (gpu.util_avg_pct, gpu.util_max_pct) = (Some(0.0), Some(1.0)),
            "GPU 1 of n2 of the 4 of the deployment idled through the measured window: paid for, and never used",
        ),
        (
            |gpu| gpu.throttled = BTreeMap::from([("hw_thermal_slowdown".to_owned(), 0.25)]),
            "GPU 1 of n2 slowed down: hw_thermal_slowdown in 25 % of the samples",
        ),
        (|gpu| gpu.temp_max_c = Some(84.0), "GPU 1 of n2 reached 84 °C, and slows down at 87 °C"),
        (|gpu| (gpu.temp_max_c, gpu.temp_limit_c) = (Some(85.0), None), "GPU 1 of n2 reached 85 °C"),
        (
            |gpu| gpu.sm_avg_mhz = Some(1500.0),
            "GPU 1 of n2 ran at 1500 MHz, half of the deployment's GPUs at 1755 MHz or more",
        ),
        (
            |gpu| gpu.ecc_uncorrected = Some(3),
            "GPU 1 of n2 had 3 uncorrected ECC errors in the measured window",
        ),
        (
            |gpu| (gpu.xids, gpu.last_xid) = (Some(2), Some(79)),
            "GPU 1 of n2 had 2 XID errors in the measured window, the last XID 79",
        ),
        (
            |gpu| gpu.others = vec!["4711 python3".into(), "4712 python3".into()],
            "GPU 1 of n2 had a process of others on it during the measured window: 4711 python3 and 1 more",
        ),
    ];
    for (change, expected) in table {
        assert_eq!(reasons_of(change), [expected]);
    }
    assert_eq!(
        reasons_of(|gpu| gpu.throttled = share("hw_slowdown", 0.05)),
        Vec::<String>::new(),
        "a short dip"
    );
    assert_eq!(reasons_of(|gpu| (gpu.util_max_pct, gpu.samples) = (Some(0.0), 2)), Vec::<String>::new());
}

#[test]
fn a_fault_of_several_gpus_is_one_reason() {
    let mut each = vec![sound("n1", "0"), sound("n1", "1"), sound("n2", "0")];
    for gpu in &mut each {
        (gpu.sm_avg_mhz, gpu.temp_max_c) = (Some(900.0), Some(90.0));
    }
    let view = |nodes: &[&str], each: Vec<OneGpu>| GpuView {
        gpus: each.len(),
        nodes: nodes
            .iter()
            .map(|node| NodeView { node: (*node).to_owned(), ..NodeView::default() })
            .collect(),
        each,
        ..GpuView::default()
    };
    let texts: Vec<String> =
        reasons(Some(&view(&["n1", "n2"], each.clone()))).into_iter().map(|reason| reason.text).collect();
    let expected = [
        "GPUs 0, 1 of n1; 0 of n2 reached 90 °C, and slows down at 87 °C",
        "GPUs 0, 1 of n1; 0 of n2 ran at 900 MHz on average while busy, of 1980 MHz",
    ];
    assert_eq!(texts, expected);
    let one = reasons(Some(&view(&["n1"], each[..1].to_vec())));
    assert!(one[0].text.starts_with("GPU 0 reached 90 °C"), "{one:?}");
}
