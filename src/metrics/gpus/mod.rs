//! Telemetry of the GPUs of a deployment: samples over time, and what they say of a measured window.

mod power;
pub mod throttle;
mod view;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

pub use view::{GpuView, NodeView, OneGpu};

/// One GPU at one instant. What its source does not tell is absent.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// Share of the last sample period in which a kernel ran, %.
    pub util_pct: Option<f64>,
    pub mem_used_mib: Option<f64>,
    pub mem_total_mib: Option<f64>,
    pub temp_c: Option<f64>,
    /// Temperature at which the hardware lowers its clocks.
    pub temp_limit_c: Option<f64>,
    pub power_w: Option<f64>,
    pub power_limit_w: Option<f64>,
    /// Energy since some instant in the past.
    pub energy_j: Option<f64>,
    pub sm_mhz: Option<f64>,
    pub sm_max_mhz: Option<f64>,
    pub mem_mhz: Option<f64>,
    /// Why the clocks are lower than they could be; the bits of [`throttle`].
    pub throttle: Option<u64>,
    /// ECC errors since the driver was loaded.
    pub ecc_corrected: Option<u64>,
    pub ecc_uncorrected: Option<u64>,
    /// XID errors since the sampling began.
    pub xids: Option<u64>,
    /// The number of the last of them.
    pub last_xid: Option<u64>,
    /// Processes on the GPU that do not belong to this run: `4711 python3`.
    pub others: Option<Vec<String>>,
}

impl Reading {
    /// Sets the figure with this name; other names are ignored.
    pub fn set(&mut self, role: &str, value: f64) {
        // `as` saturates, and turns negative values into 0.
        let count = || Some(value as u64);
        match role {
            "util_pct" => self.util_pct = Some(value),
            "mem_used_mib" => self.mem_used_mib = Some(value),
            "mem_total_mib" => self.mem_total_mib = Some(value),
            "temp_c" => self.temp_c = Some(value),
            "temp_limit_c" => self.temp_limit_c = Some(value),
            "power_w" => self.power_w = Some(value),
            "power_limit_w" => self.power_limit_w = Some(value),
            "energy_j" => self.energy_j = Some(value),
            "sm_mhz" => self.sm_mhz = Some(value),
            "sm_max_mhz" => self.sm_max_mhz = Some(value),
            "mem_mhz" => self.mem_mhz = Some(value),
            "throttle" => self.throttle = count(),
            "ecc_corrected" => self.ecc_corrected = count(),
            "ecc_uncorrected" => self.ecc_uncorrected = count(),
            _ => {}
        }
    }
}

/// A GPU of the deployment.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// As the deployment names it: a number or a UUID.
    pub gpu: String,
    pub uuid: Option<String>,
    /// Its product name.
    pub name: Option<String>,
    /// It is divided into instances, which share its power and clocks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mig: bool,
}

/// The samples of one GPU, in the order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Track {
    pub node: String,
    pub device: Device,
    /// µs since 1970 on the clock of the run.
    pub samples: Vec<(i64, Reading)>,
}

/// What was sampled, up to some instant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watch {
    pub interval_s: f64,
    pub nodes: Vec<NodeView>,
    /// One per GPU of the deployment that was found.
    pub tracks: Vec<Track>,
    /// GPUs of the deployment that the source did not know, with their node.
    pub missing: Vec<(String, String)>,
    /// When no server of this run used the GPUs yet, and when the servers were ready without load: begin and end, µs.
    pub before_servers: Option<(i64, i64)>,
    pub before_load: Option<(i64, i64)>,
}
