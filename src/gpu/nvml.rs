//! NVML, NVIDIA's management library, loaded at run time.
//!
//! Source of the functions and of what they return: NVML API reference; crate `nvml-wrapper`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use nvml_wrapper::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;

use super::owner::Owner;
use super::source::{Found, Listed};
use super::{Ask, Sample, unix_ns};
use crate::metrics::gpus::Reading;

/// Names of the library. The driver installs the first; the second comes with development packages.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];

/// Names another library, for one in an unusual place.
const LIBRARY_VARIABLE: &str = "TOKMARK_NVML";

/// Events taken in one sample at most.
const MOST_EVENTS: u32 = 1000;

const MIB: f64 = (1_u64 << 20) as f64;

pub(super) struct NvmlSource {
    /// One per asked GPU that was found.
    devices: Vec<(Device<'static>, Constant)>,
    /// `None` where the driver has no events.
    events: Option<EventSet<'static>>,
    /// XID errors by UUID: how many, and the last.
    xids: BTreeMap<String, (u64, u64)>,
    owner: Owner,
}

/// What does not change.
#[derive(Debug, Clone, Default)]
struct Constant {
    uuid: String,
    temp_limit_c: Option<f64>,
    power_limit_w: Option<f64>,
    sm_max_mhz: Option<f64>,
}

impl NvmlSource {
    pub(super) fn open(ask: &Ask) -> Result<(Self, Found), String> {
        // Lives as long as the process, which does nothing but sample.
        let nvml: &'static Nvml = Box::leak(Box::new(load()?));
        let count = nvml.device_count().map_err(|error| error.to_string())?;
        let list = |index: u32| Some(listed(index, &nvml.device_by_index(index).ok()?));
        let listed: Vec<Listed> = (0..count).filter_map(list).collect();
        let found = Found::of(&ask.gpus, &listed);
        let open = |at: usize| nvml.device_by_index(listed.get(at)?.index).ok();
        let opened = found.devices.iter().filter_map(|(at, _)| open(*at));
        let devices: Vec<(Device<'static>, Constant)> = opened
            .map(|device| (Constant::of(&device), device))
            .map(|(constant, device)| (device, constant))
            .collect();
        let events = events(nvml, &devices);
        Ok((Self { devices, events, xids: BTreeMap::new(), owner: Owner::of_this_run() }, found))
    }

    pub(super) fn read(&mut self) -> Sample {
        self.take_events();
        let unix_ns = unix_ns();
        let mut gpus = Vec::new();
        for (at, (device, constant)) in self.devices.iter().enumerate() {
            let mut reading = reading(device, constant);
            // A GPU that fell off the bus says nothing; an empty reading would only hide the gap.
            if reading == Reading::default() {
                continue;
            }
            if self.events.is_some() {
                let (count, last) = self.xids.get(&constant.uuid).copied().unwrap_or_default();
                (reading.xids, reading.last_xid) = (Some(count), (count > 0).then_some(last));
            }
            let processes = device.running_compute_processes().ok();
            reading.others =
                processes.map(|all| all.iter().filter_map(|process| self.owner.other(process.pid)).collect());
            gpus.push((at, reading));
        }
        Sample { unix_ns, gpus }
    }

    fn take_events(&mut self) {
        let Some(events) = &self.events else { return };
        for _ in 0..MOST_EVENTS {
            match events.wait(0) {
                Ok(event) => {
                    let Ok(uuid) = event.device.uuid() else { continue };
                    let number = match event.event_data {
                        Some(XidError::Value(number)) => number,
                        _ => 0,
                    };
                    let known = self.xids.entry(uuid).or_default();
                    *known = (known.0 + 1, number);
                }
                Err(_) => return,
            }
        }
    }
}

fn load() -> Result<Nvml, String> {
    let given: Option<OsString> = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty());
    let names: Vec<OsString> = match given {
        Some(path) => vec![path],
        None => LIBRARIES.map(OsString::from).into(),
    };
    let mut failure = String::new();
    for name in names {
        match Nvml::builder().lib_path(&name).init() {
            Ok(nvml) => return Ok(nvml),
            // The first library that is there decides.
            Err(error @ NvmlError::LibloadingError(_)) => failure = error.to_string(),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(failure)
}

fn listed(index: u32, device: &Device<'static>) -> Listed {
    let mig = device.mig_mode().is_ok_and(|mode| mode.current == 1);
    let instance = |number: u32| device.mig_device_by_index(number).ok()?.uuid().ok();
    let places = if mig { device.mig_device_count().unwrap_or(0) } else { 0 };
    Listed {
        index,
        uuid: device.uuid().ok(),
        name: device.name().ok(),
        mig,
        instances: (0..places).filter_map(instance).collect(),
    }
}

impl Constant {
    fn of(device: &Device<'static>) -> Self {
        Self {
            uuid: device.uuid().unwrap_or_default(),
            temp_limit_c: device.temperature_threshold(TemperatureThreshold::Slowdown).ok().map(f64::from),
            power_limit_w: device.enforced_power_limit().ok().map(|mw| f64::from(mw) / 1e3),
            sm_max_mhz: device.max_clock_info(Clock::SM).ok().map(f64::from),
        }
    }
}

fn reading(device: &Device<'static>, constant: &Constant) -> Reading {
    let memory = device.memory_info().ok();
    let ecc = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
    let clock = |kind| device.clock_info(kind).ok().map(f64::from);
    let reading = Reading {
        util_pct: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu)),
        mem_used_mib: memory.as_ref().map(|memory| memory.used as f64 / MIB),
        mem_total_mib: memory.as_ref().map(|memory| memory.total as f64 / MIB),
        temp_c: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
        power_w: device.power_usage().ok().map(|mw| f64::from(mw) / 1e3),
        energy_j: device.total_energy_consumption().ok().map(|mj| mj as f64 / 1e3),
        sm_mhz: clock(Clock::SM),
        mem_mhz: clock(Clock::Memory),
        throttle: device.current_throttle_reasons().ok().map(|reasons| reasons.bits()),
        ecc_corrected: ecc(MemoryError::Corrected),
        ecc_uncorrected: ecc(MemoryError::Uncorrected),
        ..Reading::default()
    };
    if reading == Reading::default() {
        return reading;
    }
    let Constant { temp_limit_c, power_limit_w, sm_max_mhz, .. } = *constant;
    Reading { temp_limit_c, power_limit_w, sm_max_mhz, ..reading }
}

/// Registers for XID errors; `None` if any GPU has no such events, because a count that misses one would be wrong.
fn events(nvml: &'static Nvml, devices: &[(Device<'static>, Constant)]) -> Option<EventSet<'static>> {
    let mut set = nvml.create_event_set().ok()?;
    for (device, _) in devices {
        set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok()?;
    }
    Some(set)
}
