//! Room for containers on nodes; `doctor --start`: starts one container of a recipe's image, and writes to `~/.cache` in it.

use std::time::{Duration, SystemTime};

use super::Finding;
use super::answers::NodeAnswer;
use super::probe::{ProbeSize, call};
use crate::document::InputErrors;
use crate::executor::Answer;
use crate::plan::{Container, Plan};
use crate::site::{ContainerRuntime, Site};
use crate::weights::image_failure::{advice, causes};

/// Minutes the job may take: pulling and unpacking a large image takes many.
const MINUTES: u32 = 30;

/// The longest that the job may take.
pub(super) const LIMIT: Duration = Duration::from_secs(60 * MINUTES as u64);

/// Free space for containers below which an engine's image may not fit: those of vLLM and TensorRT-LLM unpack to some 30 GB.
const CONTAINERS_GIB: f64 = 40.0;

/// Run in the container. The engines' caches are below `~/.cache`.
const TRY: &str = "echo \"tokmark: started on $SLURMD_NODENAME\"; \
    mkdir -p ~/.cache && : >~/.cache/.tokmark-doctor && rm ~/.cache/.tokmark-doctor && echo \"tokmark: wrote\"";

/// The srun call that starts a container of the plan's image; `None` if the plan has none.
pub(super) fn argv(site: &Site, plan: &Plan, wait_s: u64) -> Result<Option<Vec<String>>, InputErrors> {
    let Some(container) = &plan.container else { return Ok(None) };
    let kind = Some(plan.gpu.kind.as_str()).filter(|kind| *kind != "none");
    let mut argv = call(site, kind, ProbeSize { nodes: 1, wait_s }, MINUTES)?;
    let image = image(container);
    match container.runtime {
        ContainerRuntime::None => return Ok(None),
        ContainerRuntime::Pyxis => {
            argv.push(format!("--container-image={image}"));
            argv.extend(container.flags());
        }
        ContainerRuntime::Apptainer => {
            argv.extend(["apptainer", "exec", "--nv"].map(str::to_owned));
            argv.extend(container.flags());
            argv.push(image);
        }
    }
    argv.extend(["sh", "-c", TRY].map(str::to_owned));
    Ok(Some(argv))
}

/// The image as a job would use it: the imported file if it exists.
fn image(container: &Container) -> String {
    let imported = container.imported_file().filter(|file| file.is_file());
    imported.map_or_else(|| container.image.clone(), |file| file.display().to_string())
}

/// What came of the call that began at `began`.
pub(super) fn judge(container: &Container, answer: &Answer, began: SystemTime) -> Finding {
    let image = image(container);
    let line = |start: &str| answer.lines.iter().find(|(_, line)| line.starts_with(start));
    let Some((at, started)) = line("tokmark: started on") else {
        let causes = causes(&answer.stderr);
        let end = || answer.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        let why = if causes.is_empty() { end().to_owned() } else { causes.join("\n") };
        if answer.stderr.contains("Requested nodes are busy") || answer.stderr.contains("Immediate execution")
        {
            return Finding::warn(
                "start",
                "no node was free in time",
                "run doctor again later, with a longer --wait",
            );
        }
        return Finding::fail(
            "start",
            format!("no container of {image} starts:\n{why}"),
            advice(&answer.stderr),
        );
    };
    let seconds = at.duration_since(began).unwrap_or_default().as_secs_f64();
    let node = started.rsplit(' ').next().unwrap_or_default();
    let found = format!(
        "a container of {image} started on {node} after {seconds:.1} s, the wait for the node included"
    );
    if line("tokmark: wrote").is_some() {
        return Finding::ok("start", format!("{found}; ~/.cache in it is writable"));
    }
    let why = answer.stderr.lines().find(|line| line.contains(".cache")).unwrap_or_default();
    let next = "engines write caches there: set container.writable or container.mount_home, or XDG_CACHE_HOME below /tmp in [env]";
    Finding::fail("start", format!("{found}, but ~/.cache in it is not writable: {why}"), next)
}

/// The node with least free space where enroot keeps containers.
pub(super) fn room(answers: &[NodeAnswer]) -> Option<Finding> {
    let found = |answer: &NodeAnswer| {
        let (path, bytes) = answer.report.disk.enroot.clone()?;
        Some((bytes as f64 / f64::from(1 << 30), path, answer.report.host.clone()))
    };
    let least = answers.iter().filter_map(found).min_by(|one, other| one.0.total_cmp(&other.0));
    let (free, path, host) = least?;
    let text = format!("{free:.0} GiB free for containers in {path} on {host}");
    Some(if free < CONTAINERS_GIB {
        let next = "`enroot list` there shows what is left of earlier jobs; or set ENROOT_DATA_PATH in [slurm] setup";
        Finding::warn("containers", text, next)
    } else {
        Finding::ok("containers", text)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::super::Status;
    use super::*;

    fn judged(lines: &[&str], stderr: &str) -> Finding {
        let container = "runtime = \"pyxis\"\nimage = \"e:1\"\nmounts = []";
        let began = SystemTime::UNIX_EPOCH;
        let lines =
            lines.iter().map(|line| (began + Duration::from_millis(12_300), (*line).to_owned())).collect();
        let answer = Answer { lines, stderr: stderr.to_owned(), status: ExitStatus::from_raw(0) };
        judge(&toml::from_str(container).unwrap(), &answer, began)
    }

    #[test]
    fn a_container_starts_or_the_reason_is_shown() {
        let began = "tokmark: started on n1";
        let start = "a container of e:1 started on n1 after 12.3 s, the wait for the node included";
        let read_only = "mkdir: cannot create directory '/root/.cache': Read-only file system";
        let unresolved = "pyxis: importing\nslurmstepd: error: pyxis:     curl: (6) Could not resolve host: x\nsrun: error: 1\n";
        let table: [(&[&str], &str, Status, String); 4] = [
            (&[began, "tokmark: wrote"], "", Status::Ok, format!("{start}; ~/.cache in it is writable")),
            (&[began], read_only, Status::Fail, format!("{start}, but ~/.cache in it is not writable: {read_only}")),
            (
                &[],
                unresolved,
                Status::Fail,
                "no container of e:1 starts:\nslurmstepd: error: pyxis:     curl: (6) Could not resolve host: x".into(),
            ),
            (&[], "srun: error: Requested nodes are busy", Status::Warn, "no node was free in time".into()),
        ];
        for (lines, stderr, status, found) in table {
            let finding = judged(lines, stderr);
            assert_eq!((finding.status, finding.found), (status, found));
        }
    }
}
