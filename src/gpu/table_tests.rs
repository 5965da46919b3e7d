use super::*;

fn spec(name: &str) -> ToolSpec {
    sources().tool.iter().find(|tool| tool.name == name).expect("a known program").clone()
}

fn rows(name: &str, text: &str) -> Vec<Row> {
    let spec = spec(name);
    let mut lines = text.lines();
    let head = lines.by_ref().find_map(|line| Head::of(&spec, line)).expect("a head");
    lines.filter_map(|line| head.row(&spec, line)).collect()
}

/// Columns stand in the order of the roles. An A30 divided by MIG has no utilization, a lost GPU nothing.
#[test]
fn nvidia_smi() {
    let text = "\
index, uuid, name, mig.mode.current, utilization.gpu [%], memory.used [MiB], temperature.gpu, power.draw [W], enforced.power.limit [W], clocks.current.sm [MHz], clocks_event_reasons.active, ecc.errors.uncorrected.volatile.total
0, GPU-a9079f15-493e-6c1c-c78c-73ec2b840cba, NVIDIA H100 80GB HBM3, Disabled, 97 %, 71234 MiB, 66, 612.25 W, 700.00 W, 1755 MHz, 0x0000000000000004, 0
1, GPU-bd94f0f5-8c2f-bc95-74ad-5f99fdc33d01, NVIDIA A30, Enabled, [N/A], 1024 MiB, 40, 52.64 W, 165.00 W, 210 MHz, 0x0000000000000001, [N/A]
2, GPU-00000000-0000-0000-0000-000000000000, [Unknown Error], [Not Supported], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [Not Supported], [Unknown Error], [Not Supported], [N/A]
";
    let [busy, divided, lost] = rows("nvidia-smi", text).try_into().expect("three rows");
    assert_eq!((busy.index, busy.name.as_deref(), busy.mig), (0, Some("NVIDIA H100 80GB HBM3"), false));
    let expected = Reading {
        util_pct: Some(97.0),
        mem_used_mib: Some(71234.0),
        temp_c: Some(66.0),
        power_w: Some(612.25),
        power_limit_w: Some(700.0),
        sm_mhz: Some(1755.0),
        throttle: Some(4),
        ecc_uncorrected: Some(0),
        ..Reading::default()
    };
    assert_eq!(busy.reading, expected);
    assert!(divided.mig && divided.reading.util_pct.is_none() && divided.reading.power_w == Some(52.64));
    assert_eq!((lost.reading, lost.name), (Reading::default(), None));
}

/// The head of amd-smi 26.2 in its order, cells of lists in quotes.
#[test]
fn amd_smi() {
    let text = "\
gpu,gfx_activity,umc_activity,mm_activity,vcn_activity,socket_power,gfx_voltage,throttle_status,power_management,gfx_0_clk,gfx_0_min_clk,gfx_0_max_clk,mem_0_clk,edge,hotspot,mem,total_correctable_count,total_uncorrectable_count,total_energy_consumption,total_vram,used_vram
0,95,80,N/A,\"['N/A', 'N/A']\",1180,850,UNTHROTTLED,ENABLED,2100,500,2402,2000,N/A,78,60,3,0,123456.789,294896,131072
1,0,0,N/A,\"['N/A', 'N/A']\",N/A,N/A,THROTTLED,ENABLED,132,500,2402,900,40,45,25,0,0,N/A,294896,283
";
    let [busy, idle] = rows("amd-smi", text).try_into().expect("two rows");
    assert_eq!(
        (busy.reading.power_w, busy.reading.util_pct, busy.reading.temp_c),
        (Some(1180.0), Some(95.0), Some(78.0))
    );
    assert_eq!((busy.reading.energy_j, busy.reading.throttle), (Some(123_456.789), Some(0)));
    assert_eq!(
        (busy.reading.sm_mhz, busy.reading.sm_max_mhz, busy.reading.mem_mhz),
        (Some(2100.0), Some(2402.0), Some(2000.0))
    );
    assert_eq!((idle.index, idle.reading.power_w, idle.reading.throttle), (1, None, Some(throttle::UNNAMED)));
}

/// From a Radeon RX 7900 XTX and a system with `sclk` columns.
#[test]
fn rocm_smi() {
    let text = "\n\
device,Temperature (Sensor edge) (C),Temperature (Sensor junction) (C),Temperature (Sensor memory) (C),sclk clock speed:,sclk clock level:,Average Graphics Package Power (W),GPU use (%),VRAM Total Memory (B),VRAM Total Used Memory (B)
card0,31.0,37.0,42.0,(1502Mhz),1,19.0,7,25753026560,27947008
";
    let [card] = rows("rocm-smi", text).try_into().expect("one row");
    assert_eq!((card.index, card.reading.temp_c, card.reading.power_w), (0, Some(37.0), Some(19.0)));
    assert_eq!((card.reading.sm_mhz, card.reading.util_pct), (Some(1502.0), Some(7.0)));
    assert_eq!(card.reading.mem_total_mib, Some(24560.0), "25753026560 B");
}

#[test]
fn heads_that_are_repeated_and_banners_are_no_rows() {
    let spec = spec("nvidia-smi");
    assert_eq!(Head::of(&spec, "Welcome to lab"), None);
    let head = Head::of(&spec, "index, power.draw [W]").expect("a head");
    assert_eq!(head.row(&spec, "index, power.draw [W]"), None);
    assert_eq!(head.row(&spec, ""), None);
    assert_eq!(head.row(&spec, "3, 70.00 W").expect("a row").reading.power_w, Some(70.0));
    assert_eq!(cells("a, \"b, c\",d\r\n"), ["a", "b, c", "d"]);
}

proptest::proptest! {
    #[test]
    fn never_panics(head in "[\\PC]*", line in "[\\PC]*") {
        for tool in &sources().tool {
            if let Some(head) = Head::of(tool, &head) {
                let _ = head.row(tool, &line);
            }
            let head = Head::of(tool, &tool.roles.values().flatten().cloned().collect::<Vec<_>>().join(",")).expect("a head");
            let _ = head.row(tool, &line);
        }
    }
}
