//! Free ports of this machine: those that can be bound on every address at this moment.

use std::net::{Ipv4Addr, TcpListener};

use super::PortAsk;

/// Starts of free ranges, from `base` on, at most as many as wanted. Two questions may be given the same ports.
pub(super) fn free(ask: &PortAsk) -> Vec<u16> {
    free_by(ask, &|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
}

/// Port 0 is no port: binding it always succeeds.
fn free_by(ask: &PortAsk, is_free: &dyn Fn(u16) -> bool) -> Vec<u16> {
    let count = ask.count.max(1);
    let starts = (ask.base..=u16::MAX).step_by(usize::from(ask.stride.max(1)));
    let fits = |start: &u16| {
        let Some(last) = start.checked_add(count - 1) else { return false };
        *start > 0 && (*start..=last).all(is_free)
    };
    starts.filter(fits).take(usize::from(ask.want)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(base: u16, count: u16, stride: u16, want: u16) -> PortAsk {
        PortAsk { base, count, stride, want }
    }

    #[test]
    fn ranges_that_are_free_as_a_whole() {
        let taken = [8001, 8012];
        let is_free = |port: u16| !taken.contains(&port);
        let table: [(PortAsk, &[u16]); 7] = [
            (ask(8000, 1, 1, 3), &[8000, 8002, 8003]),
            (ask(8000, 2, 1, 2), &[8002, 8003]),
            (ask(8000, 2, 10, 3), &[8010, 8020, 8030]),
            (ask(8000, 3, 10, 2), &[8020, 8030]),
            (ask(8000, 1, 1, 0), &[]),
            (ask(65534, 2, 1, 5), &[65534]),
            (ask(0, 0, 0, 2), &[1, 2]),
        ];
        for (ask, expected) in table {
            assert_eq!(free_by(&ask, &is_free), expected, "{ask:?}");
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        assert!(!free(&ask(port, 1, 1, 1)).contains(&port));
    }
}
