//! Open loops: sends each arrival that the pacer admits.

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::conversation::Conversations;
use super::pace::Admission;

/// Sends what the pacer admits (nothing in a closed loop) and returns when all requests have ended.
pub(crate) async fn open_loop(
    mut admissions: Option<UnboundedReceiver<Admission>>,
    conversations: &Conversations,
    tasks: &mut JoinSet<()>,
    all_started: &CancellationToken,
) {
    loop {
        let admission = match &mut admissions {
            None if tasks.join_next().await.is_none() => return,
            None => continue,
            Some(arriving) => tokio::select! {
                biased;
                admission = arriving.recv() => admission,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            },
        };
        let Some(mut admission) = admission else {
            // Requests that were just spawned are sent before anything can cut them.
            tokio::task::yield_now().await;
            all_started.cancel();
            admissions = None;
            continue;
        };
        let conversations = conversations.clone();
        tasks.spawn(async move {
            if conversations.queue.deadline().is_some_and(|deadline| std::time::Instant::now() >= deadline) {
                return;
            }
            if let Some(request) = admission.request.take() {
                conversations.run(admission.place, request, Some(admission.scheduled_us)).await;
            }
        });
    }
}
