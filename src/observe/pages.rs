//! Reads the metrics pages of all servers at one instant.

use std::time::Duration;

use crate::load::probe;
use crate::metrics::server::Page;

/// Time limit for one page. A load point waits for the pages before and after it; a page takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The texts of the pages, in the order of the URLs; `None` if one is not to be had, because a sum that misses a server would be
/// wrong.
pub async fn texts(urls: &[String]) -> Option<Vec<String>> {
    let mut fetching = tokio::task::JoinSet::new();
    for (number, url) in urls.iter().cloned().enumerate() {
        fetching.spawn(async move { (number, probe::get(&url, TIMEOUT).await) });
    }
    let mut pages = vec![String::new(); urls.len()];
    while let Some(answer) = fetching.join_next().await {
        let (number, page) = answer.ok()?;
        *pages.get_mut(number)? = page.ok().filter(|page| page.status == 200)?.body;
    }
    Some(pages)
}

/// The pages in neutral roles; empty if one is not to be had.
pub async fn read(urls: &[String]) -> Vec<Page> {
    texts(urls).await.unwrap_or_default().iter().map(|text| Page::of(text)).collect()
}
