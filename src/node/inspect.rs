//! Inspects the machine this runs on.

use std::ffi::OsStr;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ports;
use super::{Address, Disk, PathReport, Query, Report, WeightsQuery, WeightsReport};

/// Reports on this machine. Facts that it cannot find out are absent; it never fails.
pub fn report(query: &Query) -> Report {
    report_with(query, &|_| Vec::new())
}

/// The same, with a function that checks model folders.
pub fn report_with(query: &Query, check_weights: &dyn Fn(&[WeightsQuery]) -> Vec<WeightsReport>) -> Report {
    let addresses = addresses();
    let address = query.interface.as_ref().and_then(|wanted| {
        addresses.iter().find(|address| address.interface == *wanted).map(|address| address.ip.clone())
    });
    Report {
        host: nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into()),
        node: std::env::var("SLURMD_NODENAME").ok(),
        arch: std::env::consts::ARCH.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cuda_visible_devices: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
        addresses,
        address,
        resolved: query.names.iter().map(|name| (name.clone(), resolve(name))).collect(),
        free: query.ports.iter().map(ports::free).collect(),
        paths: query.paths.iter().map(|path| path_report(path)).collect(),
        weights: check_weights(&query.weights),
        disk: Disk {
            cwd: free_bytes(Path::new(".")),
            tmp: free_bytes(&std::env::temp_dir()),
            enroot: query.paths.iter().any(|path| path == "enroot").then(enroot).flatten(),
        },
        gpus: gpus(Path::new("/dev")),
        // Last, so that slow paths do not make it old.
        unix_ns: now_ns(),
    }
}

/// Nanoseconds since 1970; 0 before.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn addresses() -> Vec<Address> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    all.filter_map(|entry| {
        let address = entry.address?;
        let ip = address.as_sockaddr_in()?.ip();
        Some(Address { interface: entry.interface_name, ip: ip.to_string() })
    })
    .collect()
}

fn resolve(name: &str) -> Option<String> {
    let found = (name, 0).to_socket_addrs().ok()?;
    found.filter(SocketAddr::is_ipv4).map(|address| address.ip().to_string()).next()
}

fn path_report(path: &str) -> PathReport {
    if !path.contains('/') {
        let found = find_program(path).is_some();
        let problem = (!found).then(|| "not on PATH".to_owned());
        return PathReport { path: path.to_owned(), readable: found, is_dir: false, problem };
    }
    let found = std::fs::metadata(path);
    let is_dir = found.as_ref().is_ok_and(std::fs::Metadata::is_dir);
    let tried = found.and_then(|found| {
        if found.is_dir() {
            std::fs::read_dir(path).map(drop)
        } else if found.is_file() {
            std::fs::File::open(path).map(drop)
        } else {
            // Opening a pipe would wait for its other end.
            Ok(())
        }
    });
    let problem = tried.err().map(|error| error.to_string());
    PathReport { path: path.to_owned(), readable: problem.is_none(), is_dir, problem }
}

/// Where a program is on PATH.
pub fn find_program(name: &str) -> Option<String> {
    find_program_in(name, &std::env::var_os("PATH")?)
}

/// Where a program is in the folders of a PATH; a name with a slash is a path.
pub fn find_program_in(name: &str, folders: &OsStr) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &std::path::PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let at = |folder: std::path::PathBuf| if name.contains('/') { name.into() } else { folder.join(name) };
    let found = std::env::split_paths(folders).map(at).find(is_program)?;
    Some(found.display().to_string())
}

fn free_bytes(path: &Path) -> Option<u64> {
    let space = nix::sys::statvfs::statvfs(path).ok()?;
    Some(space.blocks_available().saturating_mul(space.fragment_size()))
}

/// Finds enroot's folder of containers as enroot does: the environment, its configuration (whose values the shell expands), the
/// user's data folder. Source: enroot.in.
const ENROOT_DATA_PATH: &str = r#"
path=${ENROOT_DATA_PATH-}
if [ -z "$path" ] && [ -r /etc/enroot/enroot.conf ]; then
    while IFS=$' \t=' read -r key value; do
        [ "$key" != ENROOT_DATA_PATH ] || path=$(eval echo "$value")
    done </etc/enroot/enroot.conf
fi
printf %s "${path:-${XDG_DATA_HOME:-$HOME/.local/share}/enroot}"
"#;

/// enroot's folder of containers and the free space there, or where it would be created.
fn enroot() -> Option<(String, u64)> {
    let output = std::process::Command::new("bash").args(["-c", ENROOT_DATA_PATH]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok().filter(|path| path.starts_with('/'))?;
    let free = Path::new(&path).ancestors().find_map(free_bytes)?;
    Some((path, free))
}

/// Device files of GPUs in a folder: `nvidia` and a number.
fn gpus(dev: &Path) -> u32 {
    let Ok(entries) = std::fs::read_dir(dev) else { return 0 };
    let is_gpu = |name: &str| {
        let number = name.strip_prefix("nvidia");
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    u32::try_from(names.filter(|name| is_gpu(name)).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_answers_a_query() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("weights");
        std::fs::write(&file, "x").unwrap();
        let path = |path: &Path| path.display().to_string();
        let query = Query {
            names: vec!["127.0.0.7".into(), "no such.host".into()],
            paths: vec![path(dir.path()), path(&file), path(&dir.path().join("gone"))],
            interface: Some("lo".into()),
            ..Query::default()
        };
        let before = now_ns();
        let answer = report(&query);
        assert!(answer.unix_ns >= before && answer.unix_ns <= now_ns());
        assert_eq!(answer.resolved["127.0.0.7"].as_deref(), Some("127.0.0.7"));
        assert_eq!(answer.resolved["no such.host"], None);
        assert_eq!(answer.address.as_deref(), Some("127.0.0.1"));
        assert!(answer.addresses.iter().any(|one| (&*one.interface, &*one.ip) == ("lo", "127.0.0.1")));
        let paths: Vec<_> = answer.paths.iter().map(|path| (path.readable, path.is_dir)).collect();
        assert_eq!(paths, [(true, true), (true, false), (false, false)]);
        let gone = answer.paths[2].problem.as_deref().unwrap();
        assert!(gone.contains("No such file"), "{gone}");
        assert!(answer.disk.cwd.is_some_and(|bytes| bytes > 0) && answer.disk.tmp.is_some());
    }

    #[test]
    fn gpus_are_numbered_device_files() {
        let dev = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "nvidia", "sda1"] {
            std::fs::write(dev.path().join(name), "").unwrap();
        }
        assert_eq!(gpus(dev.path()), 3);
        assert_eq!(gpus(&dev.path().join("gone")), 0);
    }

    #[test]
    fn a_name_without_a_slash_is_a_program() {
        let (found, missing) = (path_report("bash"), path_report("no-such-program"));
        assert_eq!((found.readable, found.problem), (true, None));
        assert_eq!((missing.readable, missing.problem.as_deref()), (false, Some("not on PATH")));
    }

    #[test]
    fn a_pipe_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(path_report(&pipe.display().to_string()).readable);
    }
}
