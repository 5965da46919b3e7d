//! Open loops: sends each arrival that the pacer lets in.
//!
//! Arrow: `pace` → here → `client`; `drive` starts it.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::flight::{Flight, Tower};
use super::pace::Ticket;
use super::supply::Supply;

/// Sends what the pacer hands over (nothing in a closed loop) and returns when all flights have ended.
pub(crate) async fn open_loop(
    mut tickets: Option<UnboundedReceiver<Ticket>>,
    client: &Arc<Client>,
    supply: &Arc<Supply>,
    tower: &Arc<Tower>,
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
        let (client, supply, tower) = (Arc::clone(client), Arc::clone(supply), Arc::clone(tower));
        flights.spawn(async move {
            if supply.deadline().is_some_and(|deadline| std::time::Instant::now() >= deadline) {
                return;
            }
            if let Some(prepared) = ticket.redeem() {
                let flight = Flight::depart(&tower, &prepared, ticket.place, Some(ticket.scheduled_us));
                let phase = flight.phase();
                client.exchange(flight, prepared, phase).await;
            }
        });
    }
}
