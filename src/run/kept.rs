//! Which load points of an earlier attempt count: not those that failed because of the servers or the allocation.

use std::collections::BTreeMap;

use crate::metrics::Rating;
use crate::metrics::summary::Summary;

/// Whether a finished point is measured again. An invalid result stays when the load itself is the reason.
pub(super) fn is_due_again(summary: &Summary) -> bool {
    summary.verdict.result == Rating::Invalid && is_of_servers(&summary.requests.by_outcome)
}

/// Whether requests failed in ways that a dead, unreachable or overloaded server causes.
fn is_of_servers(by_outcome: &BTreeMap<String, u64>) -> bool {
    let is_of_server = |outcome: &str| {
        matches!(outcome, "connect" | "disconnected" | "stalled" | "timeout" | "server_error")
            || outcome.starts_with("http_5")
    };
    by_outcome.iter().any(|(outcome, count)| *count > 0 && is_of_server(outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_measured_again_when_the_servers_were_the_reason() {
        let table: [(&[(&str, u64)], bool); 7] = [
            (&[("ok", 205), ("connect", 84)], true),
            (&[("http_500", 24)], true),
            (&[("ok", 3), ("stalled", 4)], true),
            (&[("ok", 10)], false),
            (&[("http_400", 24)], false),
            (&[("ok", 3), ("empty", 9)], false),
            (&[("ok", 3), ("connect", 0)], false),
        ];
        for (outcomes, again) in table {
            let outcomes = outcomes.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
            assert_eq!(is_of_servers(&outcomes), again, "{outcomes:?}");
        }
    }
}
