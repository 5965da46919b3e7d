//! Free ports of this machine: ports that can be bound on every address now.

use std::net::{Ipv4Addr, TcpListener};

use super::PortQuery;

/// Starts of free ranges from `base`, at most `want`. Two queries may get the same ports.
pub(super) fn free(query: &PortQuery) -> Vec<u16> {
    free_by(query, &|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
}

/// Skips port 0, because binding it always succeeds.
fn free_by(query: &PortQuery, is_free: &dyn Fn(u16) -> bool) -> Vec<u16> {
    let count = query.count.max(1);
    let starts = (query.base..=u16::MAX).step_by(usize::from(query.stride.max(1)));
    let fits = |start: &u16| {
        let Some(last) = start.checked_add(count - 1) else { return false };
        *start > 0 && (*start..=last).all(is_free)
    };
    starts.filter(fits).take(usize::from(query.want)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(base: u16, count: u16, stride: u16, want: u16) -> PortQuery {
        PortQuery { base, count, stride, want }
    }

    #[test]
    fn whole_free_ranges() {
        let taken = [8001, 8012];
        let is_free = |port: u16| !taken.contains(&port);
        let table: [(PortQuery, &[u16]); 7] = [
            (query(8000, 1, 1, 3), &[8000, 8002, 8003]),
            (query(8000, 2, 1, 2), &[8002, 8003]),
            (query(8000, 2, 10, 3), &[8010, 8020, 8030]),
            (query(8000, 3, 10, 2), &[8020, 8030]),
            (query(8000, 1, 1, 0), &[]),
            (query(65534, 2, 1, 5), &[65534]),
            (query(0, 0, 0, 2), &[1, 2]),
        ];
        for (query, expected) in table {
            assert_eq!(free_by(&query, &is_free), expected, "{query:?}");
        }
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        assert!(!free(&query(port, 1, 1, 1)).contains(&port));
    }
}
