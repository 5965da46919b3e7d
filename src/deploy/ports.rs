//! Ports: the one a user fixed, and where a job begins to look for free ones.
//!
//! Arrow: `plan`, `place` → here → `scene`.

use std::net::TcpListener;

use super::{DeployError, Place};
use crate::document::InputError;
use crate::plan::Plan;
use crate::plan::port_map::SEARCH;

/// How far from the preferred ports this job looks. Jobs that share nodes start at different ports: on other nodes none
/// can be tried, and on this one two jobs may find the same one free.
pub(super) fn spread(plan: &Plan, place: &Place) -> u16 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = must_be_free("127.0.0.1", port).unwrap_err().to_string();
        assert!(error.contains("deploy.port") && error.contains(&port.to_string()), "{error}");
    }
}
