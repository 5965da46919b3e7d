//! Reads the metrics pages of all servers at one instant.

use std::time::Duration;

use crate::load::Target;
use crate::load::probe::PageReader;
use crate::metrics::server::Page;
use crate::plan::MetricsPage;

/// Time limit for one page. A load point waits for the pages before and after it; a page takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The pages in neutral roles, in their order, or why one is not to be had.
pub async fn read(target: &Target, pages: &[MetricsPage]) -> Vec<Result<Page, String>> {
    let mut reading = tokio::task::JoinSet::new();
    for (number, page) in pages.iter().enumerate() {
        let reader = PageReader::new(target, &page.url, TIMEOUT);
        reading.spawn(async move { (number, text(reader).await) });
    }
    let mut answers: Vec<Result<Page, String>> = pages.iter().map(|_| Err("not read".to_owned())).collect();
    while let Some(Ok((number, answer))) = reading.join_next().await {
        if let Some(slot) = answers.get_mut(number) {
            *slot = answer.map(|text| Page::of(&text));
        }
    }
    answers
}

async fn text(reader: Result<PageReader, crate::load::probe::ProbeError>) -> Result<String, String> {
    let page =
        reader.map_err(|error| error.to_string())?.read(TIMEOUT).await.map_err(|error| error.to_string())?;
    if page.status == 200 { Ok(page.body) } else { Err(format!("HTTP {}", page.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::sync::mpsc;

    /// The URL of a server that answers one connection with each of `answers`, then closes; and the requests that it got.
    fn served(answers: Vec<(u16, &'static str)>) -> (String, mpsc::Receiver<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap();
                let _ = sender.send(String::from_utf8_lossy(&request[..read]).to_lowercase());
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        (url, requests)
    }

    fn page(url: &str) -> MetricsPage {
        MetricsPage { url: format!("{url}/metrics"), process: "server-0".into(), pool: None }
    }

    #[tokio::test]
    async fn each_page_or_why_not() {
        let text = "vllm:num_requests_running 3\n";
        let ((good, _), (missing, _), (silent, _)) =
            (served(vec![(200, text)]), served(vec![(404, "")]), served(vec![]));
        let urls = [page(&good), page(&missing), page(&silent), page("not a url")];
        let answers = read(&Target::new(good, "m"), &urls).await;
        assert_eq!(answers[0], Ok(Page::of(text)));
        assert_eq!(answers[1], Err("HTTP 404".to_owned()));
        assert!(answers[2].is_err() && answers[3].is_err(), "{answers:?}");
        assert_eq!(read(&Target::new("http://h", "m"), &[]).await, []);
    }

    /// A gateway asks for the key on its metrics page too; another host must not get it.
    #[tokio::test]
    async fn the_key_goes_to_the_servers_of_the_load_alone() {
        let ((own, asked), (other, asked_there)) = (served(vec![(200, "")]), served(vec![(200, "")]));
        let target = Target {
            api_key: Some("secret-key".into()),
            headers: vec![("x-team".into(), "blue".into())],
            ..Target::new(own.clone(), "m")
        };
        read(&target, &[page(&own), page(&other)]).await;
        let (own, other) = (asked.recv().unwrap(), asked_there.recv().unwrap());
        assert!(own.contains("authorization: bearer secret-key") && own.contains("x-team: blue"), "{own}");
        assert!(!other.contains("secret-key") && !other.contains("x-team"), "{other}");
    }
}
