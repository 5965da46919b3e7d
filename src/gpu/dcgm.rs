//! The metrics page of a DCGM exporter.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::source::{Found, Listed};
use super::table::sources;
use super::{Ask, Sample, unix_ns};
use crate::load::probe;
use crate::metrics::gpus::Reading;
use crate::metrics::server::prometheus::{self, Sample as Figure};

/// Time limit for the page: the exporter answers from its cache.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Dcgm {
    url: String,
    runtime: Runtime,
    /// `gpu` labels of the asked GPUs that were found.
    gpus: Vec<String>,
    /// XID errors seen of each: how many, and the last number.
    xids: Vec<(u64, u64)>,
    began: bool,
}

impl Dcgm {
    pub(super) fn open(ask: &Ask) -> Result<(Self, Found), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let page = fetch(&runtime, &ask.dcgm_url)?;
        let all = of_page(&page);
        if all.is_empty() {
            return Err(format!("{} has no figure of a GPU", ask.dcgm_url));
        }
        let visible = visible(&|minor| File::open(format!("/dev/nvidia{minor}")).is_ok());
        let listed: Vec<Listed> = all.iter().filter_map(|(label, gpu)| gpu.listed(label, &visible)).collect();
        let found = Found::of(&ask.gpus, &listed);
        let labels: Vec<&String> = all
            .iter()
            .filter(|(label, gpu)| gpu.listed(label, &visible).is_some())
            .map(|(label, _)| label)
            .collect();
        let gpus: Vec<String> = found.devices.iter().map(|(at, _)| labels[*at].clone()).collect();
        let xids = vec![(0, 0); gpus.len()];
        Ok((Self { url: ask.dcgm_url.clone(), runtime, gpus, xids, began: false }, found))
    }

    pub(super) fn read(&mut self) -> Result<Sample, String> {
        let unix_ns = unix_ns();
        // An exporter that misses one sample may have the next.
        let all = fetch(&self.runtime, &self.url).map(|page| of_page(&page)).unwrap_or_default();
        let mut gpus = Vec::new();
        for (at, (label, seen)) in self.gpus.iter().zip(&mut self.xids).enumerate() {
            let Some(gpu) = all.get(label) else { continue };
            let mut reading = gpu.reading.clone();
            if let Some(xid) = gpu.xid {
                // The page has the last error alone: a new number is a new error.
                if self.began && xid != 0 && xid != seen.1 {
                    seen.0 += 1;
                }
                seen.1 = xid;
                (reading.xids, reading.last_xid) = (Some(seen.0), (xid != 0).then_some(xid));
            }
            gpus.push((at, reading));
        }
        self.began |= !gpus.is_empty();
        Ok(Sample { unix_ns, gpus })
    }
}

fn fetch(runtime: &Runtime, url: &str) -> Result<String, String> {
    let page = runtime.block_on(probe::get(url, TIMEOUT)).map_err(|error| format!("{url}: {error}"))?;
    if page.status == 200 { Ok(page.body) } else { Err(format!("{url}: HTTP {}", page.status)) }
}

/// A GPU on the page.
#[derive(Debug, Clone, Default, PartialEq)]
struct OnPage {
    uuid: Option<String>,
    name: Option<String>,
    /// Its device file, e.g. `nvidia3`.
    device: Option<String>,
    /// Some of its series are of MIG instances.
    mig: bool,
    reading: Reading,
    xid: Option<u64>,
}

impl OnPage {
    /// `None` if this job may not use it. Its number counts among those that the job may use, as CUDA does.
    fn listed(&self, label: &str, visible: &[u32]) -> Option<Listed> {
        let minor =
            self.device.as_ref().and_then(|device| device.strip_prefix("nvidia")?.parse::<u32>().ok());
        let of_exporter = label.parse().unwrap_or(u32::MAX);
        let index = match minor.filter(|_| !visible.is_empty()) {
            Some(minor) => u32::try_from(visible.iter().position(|known| *known == minor)?).ok()?,
            None => of_exporter,
        };
        let (uuid, name, mig) = (self.uuid.clone(), self.name.clone(), self.mig);
        Some(Listed { index, uuid, name, mig, instances: Vec::new() })
    }
}

/// Device numbers that this process may open, in order: a job's cgroup may hide the others.
fn visible(may_open: &dyn Fn(u32) -> bool) -> Vec<u32> {
    const MOST: u32 = 64;
    (0..MOST).filter(|minor| may_open(*minor)).collect()
}

/// The GPUs of a page, by their `gpu` label. A figure of the whole GPU goes before that of an instance.
fn of_page(page: &str) -> BTreeMap<String, OnPage> {
    let mut gpus: BTreeMap<String, OnPage> = BTreeMap::new();
    let figures = prometheus::parse(page);
    let label = |figure: &Figure, name: &str| {
        figure.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let dcgm = &sources().dcgm;
    for (role, names) in &dcgm.roles {
        let scale = dcgm.scale.get(role).copied().unwrap_or(1.0);
        let Some(name) = names.iter().find(|name| figures.iter().any(|figure| figure.name == **name)) else {
            continue;
        };
        let mut of_role: Vec<&Figure> = figures.iter().filter(|figure| figure.name == *name).collect();
        of_role.sort_by_key(|figure| label(figure, "GPU_I_ID").is_none());
        for figure in of_role {
            let Some(number) = label(figure, "gpu") else { continue };
            let gpu = gpus.entry(number).or_default();
            gpu.uuid = label(figure, "UUID").or(gpu.uuid.take());
            gpu.name = label(figure, "modelName").or(gpu.name.take());
            gpu.device = label(figure, "device").or(gpu.device.take());
            gpu.mig |= label(figure, "GPU_I_ID").is_some_and(|id| !id.is_empty());
            if !figure.value.is_finite() {
                continue;
            }
            match role.as_str() {
                "xid" => gpu.xid = Some(figure.value as u64),
                role => gpu.reading.set(role, figure.value * scale),
            }
        }
    }
    gpus
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a9079f15-493e-6c1c-c78c-73ec2b840cba",pci_bus_id="00000000:18:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",DCGM_FI_DRIVER_VERSION="570.86"} 1980
DCGM_FI_DEV_SM_CLOCK{gpu="1",UUID="GPU-bd94f0f5-8c2f-bc95-74ad-5f99fdc33d01",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 1755
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a9079f15-493e-6c1c-c78c-73ec2b840cba",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 612.250000
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-a9079f15-493e-6c1c-c78c-73ec2b840cba",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 4335301032
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-a9079f15-493e-6c1c-c78c-73ec2b840cba",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",err_code="0",err_msg="No Error"} 0
DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{gpu="1",UUID="GPU-bd94f0f5-8c2f-bc95-74ad-5f99fdc33d01",device="nvidia1"} 4
"#;

    #[test]
    fn a_page_in_roles() {
        let page = of_page(PAGE);
        let first = &page["0"];
        assert_eq!(first.reading.power_w, Some(612.25));
        assert_eq!(first.reading.energy_j, Some(4_335_301.032));
        assert_eq!(
            (first.xid, first.mig, first.name.as_deref()),
            (Some(0), false, Some("NVIDIA H100 80GB HBM3"))
        );
        assert_eq!((page["1"].reading.sm_mhz, page["1"].reading.throttle), (Some(1755.0), Some(4)));
        assert!(of_page("up 1\n<html>").is_empty());
    }

    #[test]
    fn instances_of_a_divided_gpu_are_one_gpu() {
        let page = "DCGM_FI_DEV_POWER_USAGE{gpu=\"0\",UUID=\"GPU-2d\",device=\"nvidia0\",GPU_I_PROFILE=\"1g.6gb\",GPU_I_ID=\"3\"} 52.6\n\
                    DCGM_FI_DEV_POWER_USAGE{gpu=\"0\",UUID=\"GPU-2d\",device=\"nvidia0\",GPU_I_PROFILE=\"1g.6gb\",GPU_I_ID=\"4\"} 52.7\n";
        let page = of_page(page);
        assert!(page.len() == 1 && page["0"].mig);
        assert_eq!(page["0"].reading.power_w, Some(52.7));
    }

    /// A job with the third and fourth GPU of a node counts them 0 and 1.
    #[test]
    fn numbers_count_among_the_gpus_of_the_job() {
        let page = of_page(PAGE);
        let minors = visible(&|minor| minor == 1 || minor == 3);
        assert_eq!(minors, [1, 3]);
        assert_eq!(page["0"].listed("0", &minors), None);
        assert_eq!(page["1"].listed("1", &minors).unwrap().index, 0);
        assert_eq!(page["1"].listed("1", &[]).unwrap().index, 1, "device files that nobody hides");
    }
}
