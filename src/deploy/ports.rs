//! Ports of each process: the one the user fixed, else the launcher's when it is free, else the next that is.
//!
//! Arrow: `plan`, `place` → here → `deploy`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;

use super::{DeployError, Place};
use crate::document::InputError;
use crate::plan::{Deployment, Plan};
use crate::render::Seat;

/// How far from the preferred port a free one is looked for.
const SEARCH: u16 = 500;

/// Address and ports of every process, by process name.
pub fn seats(
    plan: &Plan,
    deployment: &Deployment,
    place: &Place,
) -> Result<BTreeMap<String, Seat>, DeployError> {
    let endpoint = plan.launcher.endpoint_port();
    let spread = spread(plan, place);
    let mut taken: BTreeSet<(String, u16)> = BTreeSet::new();
    let mut seats = BTreeMap::new();
    for process in &deployment.processes {
        let Some(role) = plan.launcher.role(&process.role) else { continue };
        let node = process.nodes.first().and_then(|node| place.nodes().get(*node as usize));
        let host = node.cloned().unwrap_or_else(|| "127.0.0.1".into());
        let mut ports = BTreeMap::new();
        for (name, preferred) in &role.ports {
            let fixed = endpoint
                .filter(|(serving, port)| serving.name == role.name && port == name && process.index == 0)
                .and(deployment.port);
            let port = match fixed {
                Some(port) if place.is_here(&host) => must_be_free(&host, port)?,
                Some(port) => port,
                None => pick(&host, preferred.saturating_add(spread), place, &taken)?,
            };
            taken.insert((host.clone(), port));
            ports.insert(name.clone(), port);
        }
        seats.insert(process.name.clone(), Seat { host, ports });
    }
    Ok(seats)
}

/// How far from the preferred ports this job looks. Jobs that share nodes start at different ports: on other nodes none
/// can be tried, and on this one two jobs may find the same one free.
fn spread(plan: &Plan, place: &Place) -> u16 {
    const JOBS: u64 = 50;
    let exclusive = |directive: &String| directive == "--exclusive" || directive.starts_with("--exclusive=");
    let Some(job) = place.job().filter(|_| !plan.job.directives.iter().any(exclusive)) else { return 0 };
    let number = job.base().bytes().filter(u8::is_ascii_digit);
    let number = number.fold(0_u64, |number, digit| (number * 10 + u64::from(digit - b'0')) % JOBS);
    u16::try_from(number * u64::from(SEARCH) / JOBS).unwrap_or(0)
}

/// Checks a port the user fixed.
pub fn must_be_free(host: &str, port: u16) -> Result<u16, DeployError> {
    match TcpListener::bind((host, port)) {
        Ok(_) => Ok(port),
        Err(error) => Err(DeployError::Input(
            InputError::new(format!("{host}:{port}"), format!("the port cannot be used: {error}"))
                .key("deploy.port")
                .expected("a free port")
                .next("stop what listens there, choose another port, or leave out deploy.port and let tokmark pick one"),
        )),
    }
}

/// The first free port from `preferred` on. On another node it cannot be tried from here and is taken as it is.
fn pick(
    host: &str,
    preferred: u16,
    place: &Place,
    taken: &BTreeSet<(String, u16)>,
) -> Result<u16, DeployError> {
    let unused = |port: &u16| !taken.contains(&(host.to_owned(), *port));
    let mut candidates = (preferred..=preferred.saturating_add(SEARCH)).filter(unused);
    let found = if place.is_here(host) {
        candidates.find(|port| TcpListener::bind((host, *port)).is_ok())
    } else {
        candidates.next()
    };
    found.ok_or_else(|| {
        DeployError::Input(
            InputError::new(
                host,
                format!("no free port from {preferred} to {}", preferred.saturating_add(SEARCH)),
            )
            .next("free some ports on the node, or set deploy.port"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over_or_refused() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let picked = pick("127.0.0.1", port, &Place::Local, &BTreeSet::new()).unwrap();
        assert_ne!(picked, port);
        let error = must_be_free("127.0.0.1", port).unwrap_err().to_string();
        assert!(error.contains("deploy.port") && error.contains(&port.to_string()), "{error}");
    }
}
