//! Whether the file system has room for the files of a load point, asked before the load begins.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use crate::plan::LoadPoint;
use crate::plan::load_point::{Arrival, Level, Stop};

/// Bytes that one request takes at least: its record, AIPerf's line of it, and its body in `inputs.json`, without what grows with
/// the lengths of prompt and answer.
const REQUEST: f64 = 1_000.0;

/// Bytes of one instant in a record. Several tokens may share one.
const INSTANT: f64 = 2.0;

/// Bytes of one token of a prompt.
const PROMPT_TOKEN: f64 = 3.0;

const MIB: f64 = 1_048_576.0;

/// Fails if the files of a point cannot fit. `listed` is how many requests `inputs.json` will have.
pub(super) fn enough(dir: &Path, point: &LoadPoint, listed: u64) -> Result<()> {
    let Ok(found) = nix::sys::statvfs::statvfs(dir) else { return Ok(()) };
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    match at_least(point, listed) {
        Some(needed) if needed > free => Err(Error::new(
            ErrorKind::StorageFull,
            format!(
                "{}: the files of this load point need at least {:.0} MiB, and {:.0} MiB are free; make room, or set `experiments` in site.toml or \
                 --experiments to another file system",
                dir.display(),
                needed as f64 / MIB,
                free as f64 / MIB
            ),
        )),
        _ => Ok(()),
    }
}

/// What the files of a point take at least, bytes; `None` when the server decides how many requests there are.
fn at_least(point: &LoadPoint, listed: u64) -> Option<u64> {
    let requests = match (&point.stop, &point.arrival) {
        (Stop::Requests(requests), _) => *requests as f64,
        (Stop::TraceEnd, _) => listed as f64,
        (Stop::DurationS(seconds), Arrival::Open { rate: Level::Constant(rate), .. }) => seconds * rate,
        (Stop::DurationS(_), _) => return None,
    };
    let instants = if point.streaming { f64::from(point.osl.mean) * INSTANT } else { 0.0 };
    let prompts = listed as f64 * f64::from(point.isl.mean) * PROMPT_TOKEN;
    Some((requests * (REQUEST + instants) + prompts) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::load_point::Length;

    fn point(stop: Stop) -> LoadPoint {
        let lengths = (Length::fixed(100), Length::fixed(500));
        LoadPoint { isl: lengths.0, osl: lengths.1, stop, streaming: true, ..LoadPoint::default() }
    }

    #[test]
    fn the_room_grows_with_requests_and_lengths() {
        // 10 × (1000 + 500 × 2) + 10 × 100 × 3
        assert_eq!(at_least(&point(Stop::Requests(10)), 10), Some(23_000));
        assert_eq!(
            at_least(&point(Stop::DurationS(60.0)), 10),
            None,
            "a closed loop sends what the server takes"
        );
        let unstreamed = LoadPoint { streaming: false, ..point(Stop::Requests(10)) };
        assert_eq!(at_least(&unstreamed, 10), Some(13_000));
    }

    #[test]
    fn a_point_that_cannot_fit_is_refused_with_both_sizes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(enough(dir.path(), &point(Stop::Requests(1)), 1).is_ok());
        let refused = enough(dir.path(), &point(Stop::Requests(1 << 52)), 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        assert!(refused.to_string().contains("need at least"), "{refused}");
    }
}
