//! Whose fault failed requests are: the load generator's, the server's, or that of the network between them.
//!
//! Pure. Told by the outcome and the system's words for it: a refused connection comes from the server's machine, where nobody
//! listens; a reset one from that machine or anything between; a missing route or an answerless connection from the network.

use super::failures::Failure;
use super::record::Outcome;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who caused failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The load generator or its machine.
    Client,
    Server,
    /// The network, or a machine between both.
    Network,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A process was killed or ended by itself.
    Died,
    /// No connection, because nobody listened, or an answer that refuses the request.
    Refused,
    /// An error inside an answer, an answer that is none, or one that broke off.
    Failed,
    /// No answer in time.
    Silent,
    /// An established connection was reset.
    Reset,
    /// No connection could be made, and nobody refused it.
    Unreachable,
    /// Descriptors or source ports of the client were used up.
    Exhausted,
}

/// Failures of one kind, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Fault {
    pub party: Party,
    pub what: What,
    /// Requests that failed so; 0 for a death.
    pub requests: u64,
    /// The most frequent way, or how the process ended.
    pub evidence: String,
}

impl Fault {
    /// A server of this run that died, and how it ended.
    pub fn death(how: &str) -> Self {
        Self { party: Party::Server, what: What::Died, requests: 0, evidence: how.to_owned() }
    }

    /// Faults of the measured requests, the most frequent first. `failures` are in that order.
    pub fn of(failures: &[Failure]) -> Vec<Self> {
        let mut faults: Vec<Self> = Vec::new();
        for failure in failures {
            let (party, what) = kind(failure);
            match faults.iter_mut().find(|fault| (fault.party, fault.what) == (party, what)) {
                Some(fault) => fault.requests += failure.count,
                None => {
                    faults.push(Self { party, what, requests: failure.count, evidence: failure.to_string() })
                }
            }
        }
        faults.sort_by_key(|fault| std::cmp::Reverse(fault.requests));
        faults
    }
}

/// `the server refused 30 requests (connect: connection refused)`
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { party, what, requests, evidence } = self;
        let who = match party {
            Party::Client => "the load generator",
            Party::Server => "the server",
            Party::Network => "the network",
        };
        let s = if *requests == 1 { "" } else { "s" };
        match what {
            What::Died => return f.write_str(evidence),
            What::Refused => write!(f, "{who} refused {requests} request{s}")?,
            What::Failed => write!(f, "{who} failed at {requests} request{s}")?,
            What::Silent => write!(f, "{who} left {requests} request{s} without an answer in time")?,
            What::Reset => {
                write!(
                    f,
                    "{who}, or the server's machine, reset the connection{s} of {requests} request{s}"
                )?;
            }
            What::Unreachable => write!(f, "{who} made no connection for {requests} request{s}")?,
            What::Exhausted => write!(f, "{who} had no means left for {requests} request{s}")?,
        }
        write!(f, " ({evidence})")
    }
}

fn kind(failure: &Failure) -> (Party, What) {
    let message = failure.message.as_deref().unwrap_or_default().to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match failure.outcome {
        Outcome::Connect if says(&["refused"]) => (Party::Server, What::Refused),
        Outcome::Connect if says(&["too many open files", "cannot assign requested address"]) => {
            (Party::Client, What::Exhausted)
        }
        // An address or a certificate that the client does not accept is no fault of the network.
        Outcome::Connect if says(&["certificate", "tls", "handshake"]) => (Party::Server, What::Failed),
        Outcome::Connect => (Party::Network, What::Unreachable),
        Outcome::Disconnected if says(&["reset"]) => (Party::Network, What::Reset),
        Outcome::Http(_) => (Party::Server, What::Refused),
        Outcome::Timeout | Outcome::Stalled => (Party::Server, What::Silent),
        _ => (Party::Server, What::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::record::Phase;

    fn failure(count: u64, outcome: Outcome, message: &str) -> Failure {
        Failure {
            count,
            outcome,
            status: None,
            message: Some(message.into()),
            alike: false,
            phase: Phase::Measure,
            first_us: 0,
        }
    }

    #[test]
    fn each_way_has_its_party() {
        let table = [
            (Outcome::Connect, "Connection refused (os error 111)", Party::Server, What::Refused),
            (Outcome::Connect, "Too many open files (os error 24)", Party::Client, What::Exhausted),
            (
                Outcome::Connect,
                "Cannot assign requested address (os error 99)",
                Party::Client,
                What::Exhausted,
            ),
            (Outcome::Connect, "No route to host (os error 113)", Party::Network, What::Unreachable),
            (Outcome::Connect, "no connection within 30.0 s", Party::Network, What::Unreachable),
            (Outcome::Connect, "invalid peer certificate: UnknownIssuer", Party::Server, What::Failed),
            (Outcome::Disconnected, "Connection reset by peer (os error 104)", Party::Network, What::Reset),
            (Outcome::Disconnected, "the connection ended before the answer", Party::Server, What::Failed),
            (Outcome::Http(503), "no worker", Party::Server, What::Refused),
            (Outcome::ServerError, "out of memory", Party::Server, What::Failed),
            (Outcome::Stalled, "no byte for 120 s", Party::Server, What::Silent),
        ];
        for (outcome, message, party, what) in table {
            let found = Fault::of(&[failure(1, outcome, message)]);
            assert_eq!((found[0].party, found[0].what), (party, what), "{outcome} {message}");
        }
        assert_eq!(Fault::of(&[]), []);
    }

    #[test]
    fn ways_of_one_kind_are_added_up() {
        let faults = Fault::of(&[
            failure(3, Outcome::Disconnected, "Connection reset by peer (os error 104)"),
            failure(2, Outcome::Http(503), "busy"),
            failure(2, Outcome::Http(429), "slow down"),
        ]);
        let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "the server refused 4 requests (HTTP 503: busy)",
                "the network, or the server's machine, reset the connections of 3 requests (disconnected: Connection reset \
                 by peer (os error 104))",
            ]
        );
        let json = serde_json::to_value(&faults[0]).unwrap();
        assert_eq!(
            (&json["party"], &json["what"], &json["requests"]),
            (&"server".into(), &"refused".into(), &4.into())
        );
    }
}
