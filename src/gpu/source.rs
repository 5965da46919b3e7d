//! Which source a machine has: the first that knows a GPU, in a fixed order.

use std::path::Path;

use super::dcgm::Dcgm;
use super::nvml::NvmlSource;
use super::tool::{self, Tool};
use super::{Ask, Hello, Sample};
use crate::metrics::gpus::Device;

/// An open source.
pub(super) enum Source {
    Nvml(Box<NvmlSource>),
    Dcgm(Dcgm),
    Tool(Tool),
}

/// A GPU as a source lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its number among those of the source.
    pub index: u32,
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub mig: bool,
    /// UUIDs of its MIG instances.
    pub instances: Vec<String>,
}

/// The GPUs that were asked for: where each stands in the list, and what is known of it; and the names of those that are not listed.
pub(super) struct Found {
    pub devices: Vec<(usize, Device)>,
    pub missing: Vec<String>,
}

impl Found {
    /// CUDA takes numbers, UUIDs, and unambiguous beginnings of UUIDs.
    pub(super) fn of(asked: &[String], listed: &[Listed]) -> Self {
        let is_it = |name: &str, gpu: &Listed| match name.parse::<u32>() {
            Ok(number) => gpu.index == number,
            Err(_) => {
                let begins =
                    |uuid: &String| uuid.to_ascii_lowercase().starts_with(&name.to_ascii_lowercase());
                !name.is_empty()
                    && (gpu.uuid.as_ref().is_some_and(begins) || gpu.instances.iter().any(begins))
            }
        };
        let mut found = Self { devices: Vec::new(), missing: Vec::new() };
        for name in asked {
            match listed.iter().position(|gpu| is_it(name, gpu)) {
                Some(at) => {
                    let Listed { uuid, name: product, mig, .. } = listed[at].clone();
                    found.devices.push((at, Device { gpu: name.clone(), uuid, name: product, mig }));
                }
                None => found.missing.push(name.clone()),
            }
        }
        found
    }
}

/// An open source, and the asked GPUs that it knows.
type Opened = Result<(Source, Found), String>;

/// Opens the first source that knows one of the GPUs.
pub(super) fn open(ask: &Ask) -> (Hello, Option<Source>) {
    let mut hello = Hello { has_driver: has_driver(), ..Hello::default() };
    let nvml = || NvmlSource::open(ask).map(|(source, found)| (Source::Nvml(Box::new(source)), found));
    if let Some(source) = hello.tries("NVML", nvml(), ask) {
        return (hello, Some(source));
    }
    let dcgm = || Dcgm::open(ask).map(|(source, found)| (Source::Dcgm(source), found));
    if let Some(source) = hello.tries("DCGM exporter", dcgm(), ask) {
        return (hello, Some(source));
    }
    for tool in tool::known() {
        let name = tool.name.clone();
        let opened = Tool::open(tool, ask).map(|(source, found)| (Source::Tool(source), found));
        if let Some(source) = hello.tries(&name, opened, ask) {
            return (hello, Some(source));
        }
    }
    (hello, None)
}

impl Hello {
    /// The source, if it knows one of the GPUs; else notes why it is of no use.
    fn tries(&mut self, name: &str, opened: Opened, ask: &Ask) -> Option<Source> {
        match opened {
            Ok((_, found)) if found.devices.is_empty() => {
                self.tried.push(format!("{name}: knows no GPU {}", ask.gpus.join(", ")));
                None
            }
            Ok((source, found)) => {
                self.source = Some(name.to_owned());
                self.missing = found.missing;
                self.devices = found.devices.into_iter().map(|(_, device)| device).collect();
                Some(source)
            }
            Err(reason) => {
                self.tried.push(format!("{name}: {reason}"));
                None
            }
        }
    }
}

/// Whether the machine has devices of NVIDIA's or AMD's driver.
fn has_driver() -> bool {
    ["/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd"].iter().any(|path| Path::new(path).exists())
}

impl Source {
    /// The samples since the last call; an error if there will be no more.
    pub(super) fn read(&mut self) -> Result<Vec<Sample>, String> {
        match self {
            Self::Nvml(source) => Ok(vec![source.read()]),
            Self::Dcgm(source) => source.read().map(|sample| vec![sample]),
            Self::Tool(source) => source.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_found_by_number_uuid_and_instance() {
        let gpu = |index: u32, uuid: &str| Listed { index, uuid: Some(uuid.into()), ..Listed::default() };
        let divided = Listed { mig: true, instances: vec!["MIG-77".into()], ..gpu(2, "GPU-cc") };
        let listed = [gpu(0, "GPU-aa11"), gpu(1, "GPU-bb22"), divided];
        let asked = ["1", "GPU-aa", "MIG-77", "7", "GPU-dd"].map(str::to_owned);
        let found = Found::of(&asked, &listed);
        let at: Vec<usize> = found.devices.iter().map(|(at, _)| *at).collect();
        assert_eq!((at, found.missing), (vec![1, 0, 2], vec!["7".to_owned(), "GPU-dd".to_owned()]));
        assert!(found.devices[2].1.mig && found.devices[2].1.gpu == "MIG-77");
    }
}
