//! Open loops: sends each arrival that the pacer lets in.

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::pace::Ticket;
use super::turns::Line;

/// Sends what the pacer hands over (nothing in a closed loop) and returns when all flights have ended.
pub(crate) async fn open_loop(
    mut tickets: Option<UnboundedReceiver<Ticket>>,
    line: &Line,
    flights: &mut JoinSet<()>,
    redeemed: &CancellationToken,
) {
    loop {
        let ticket = match &mut tickets {
            None if flights.join_next().await.is_none() => return,
            None => continue,
            Some(arriving) => tokio::select! {
                biased;
                ticket = arriving.recv() => ticket,
                Some(_) = flights.join_next(), if !flights.is_empty() => continue,
            },
        };
        let Some(mut ticket) = ticket else {
            // Flights that were just started depart before anything can cut them.
            tokio::task::yield_now().await;
            redeemed.cancel();
            tickets = None;
            continue;
        };
        let line = line.clone();
        flights.spawn(async move {
            if line.supply.deadline().is_some_and(|deadline| std::time::Instant::now() >= deadline) {
                return;
            }
            if let Some(prepared) = ticket.redeem() {
                line.converse(ticket.place, prepared, Some(ticket.scheduled_us)).await;
            }
        });
    }
}
