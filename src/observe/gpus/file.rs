//! `gpu.csv`: a row per GPU and sample. Empty cells are not known.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::experiment::files;
use crate::gpu::{Hello, Sample};
use crate::metrics::gpus::throttle;

const HEAD: &str = "at,node,gpu,uuid,name,source,util_pct,mem_used_mib,mem_total_mib,temp_c,power_w,power_limit_w,energy_j,sm_mhz,\
sm_max_mhz,mem_mhz,throttle,ecc_corrected,ecc_uncorrected,xids,last_xid,others";

/// The file, which is created with the first row.
#[derive(Debug)]
pub(super) struct GpuFile {
    path: PathBuf,
    file: Option<File>,
}

impl GpuFile {
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None }
    }

    /// Adds the rows of a sample. `offset_ns`: how far the node's clock is ahead. A full disk must not end the run.
    pub(super) fn write(&mut self, node: &str, hello: &Hello, sample: &Sample, offset_ns: i64) {
        if self.file.is_none() {
            self.file = files::append(&self.path).ok();
            let is_new =
                self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|file| file.len() == 0));
            if let (true, Some(file)) = (is_new, &mut self.file) {
                let _ = writeln!(file, "{HEAD}");
            }
        }
        let Some(file) = &mut self.file else { return };
        let text: String = rows(node, hello, sample, offset_ns).map(|row| format!("{row}\n")).collect();
        let _ = file.write_all(text.as_bytes());
    }
}

fn rows<'a>(
    node: &'a str,
    hello: &'a Hello,
    sample: &'a Sample,
    offset_ns: i64,
) -> impl Iterator<Item = String> + 'a {
    let at = jiff::Timestamp::from_nanosecond(i128::from(sample.unix_ns - offset_ns)).unwrap_or_default();
    sample.gpus.iter().filter_map(move |(place, reading)| {
        let device = hello.devices.get(*place)?;
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let count = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let cells = [
            // Milliseconds: no source is more exact.
            format!("{at:.3}"),
            quoted(node),
            quoted(&device.gpu),
            device.uuid.clone().unwrap_or_default(),
            quoted(device.name.as_deref().unwrap_or_default()),
            hello.source.clone().unwrap_or_default(),
            number(reading.util_pct),
            number(reading.mem_used_mib),
            number(reading.mem_total_mib),
            number(reading.temp_c),
            number(reading.power_w),
            number(reading.power_limit_w),
            number(reading.energy_j),
            number(reading.sm_mhz),
            number(reading.sm_max_mhz),
            number(reading.mem_mhz),
            reading.throttle.map(|bits| throttle::names(bits).join("|")).unwrap_or_default(),
            count(reading.ecc_corrected),
            count(reading.ecc_uncorrected),
            count(reading.xids),
            count(reading.last_xid),
            quoted(&reading.others.as_ref().map(|others| others.join("|")).unwrap_or_default()),
        ];
        Some(cells.join(","))
    })
}

/// Quotes a cell as RFC 4180 requires.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::gpus::{Device, Reading};

    #[test]
    fn a_row_per_gpu() {
        let device = Device {
            gpu: "0".into(),
            uuid: Some("GPU-a".into()),
            name: Some("NVIDIA H100".into()),
            mig: false,
        };
        let hello = Hello { source: Some("NVML".into()), devices: vec![device], ..Hello::default() };
        let reading = Reading {
            util_pct: Some(97.0),
            power_w: Some(612.25),
            throttle: Some(throttle::SW_POWER_CAP | throttle::HW_THERMAL),
            xids: Some(0),
            others: Some(vec!["4711 python3".into()]),
            ..Reading::default()
        };
        let sample = Sample { unix_ns: 1_700_000_001_250_000_000, gpus: vec![(0, reading)] };
        let row = rows("n1", &hello, &sample, 1_000_000_000).next().unwrap();
        let expected = "2023-11-14T22:13:20.250Z,n1,0,GPU-a,NVIDIA H100,NVML,97,,,,612.25,,,,,,sw_power_cap|hw_thermal_slowdown,,,0,,4711 python3";
        assert_eq!(row, expected);
        assert_eq!(row.split(',').count(), HEAD.split(',').count());
    }
}
