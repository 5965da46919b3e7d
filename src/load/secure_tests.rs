//! TLS, HTTP/2 and proxies, against servers on loopback that speak them.

use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::testing::{DONE, Driven, FINISH, Server, TOKEN, USAGE, good, point};
use super::{CaFile, Target, TargetError, Tls};
use crate::metrics::record::Outcome;
use crate::plan::{HttpVersion, LoadPoint, Proxy, Stop};

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

fn ca_file(path: std::path::PathBuf) -> Option<CaFile> {
    let content = std::fs::read(&path).map_err(|error| error.to_string());
    Some(CaFile { path, content })
}

/// Version and `Authorization` of each request.
type Received = Arc<Mutex<Vec<(Version, Option<String>)>>>;

/// A server on a thread of its own that streams a good answer to everything, over TLS and with HTTP/2 if asked for.
struct Speaker {
    url: String,
    received: Received,
    over: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Speaker {
    fn start(http: HttpVersion, tls: bool) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (received, over) = (Received::default(), CancellationToken::new());
        let (seen_there, over_there) = (Arc::clone(&received), over.clone());
        let acceptor = tls.then(|| acceptor(http));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Some(Ok((stream, _))) = over_there.run_until_cancelled(listener.accept()).await {
                    let (acceptor, received) = (acceptor.clone(), Arc::clone(&seen_there));
                    tokio::spawn(async move {
                        match acceptor {
                            None => serve(stream, http, received).await,
                            Some(acceptor) => match acceptor.accept(stream).await {
                                Ok(stream) => serve(stream, http, received).await,
                                Err(_refused) => {}
                            },
                        }
                    });
                }
            });
        });
        Self { url, received, over, thread: Some(thread) }
    }

    fn target(&self) -> Target {
        Target::new(&self.url, "m")
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.over.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn acceptor(http: HttpVersion) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(fixture("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = match http {
        HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
        HttpVersion::Http2 => vec![b"h2".to_vec()],
    };
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http: HttpVersion,
    received: Received,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let key = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        received.lock().unwrap().push((request.version(), key));
        let body = [TOKEN, TOKEN, TOKEN, TOKEN, FINISH, USAGE, DONE].concat();
        let answer = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(answer.body(Full::new(Bytes::from(body))))
    });
    let stream = TokioIo::new(stream);
    let _ = match http {
        HttpVersion::Http1 => {
            hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
        }
        HttpVersion::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(stream, service)
                .await
        }
    };
}

/// Six requests, two at a time.
fn run(target: &Target) -> Driven {
    let point = LoadPoint { stop: Stop::Requests(6), ..point(2) };
    Driven::new(target, &point, 1)
}

#[track_caller]
fn assert_all(run: &Driven, outcome: Outcome) {
    assert!(!run.records.is_empty());
    assert!(run.records.iter().all(|record| record.outcome == outcome), "{:#?}", run.records);
}

#[test]
fn a_private_authority_is_trusted_when_its_file_is_given() {
    let server = Speaker::start(HttpVersion::Http1, true);
    let trusting = Target {
        tls: Tls { ca_file: ca_file(fixture("ca.pem")), insecure: false },
        api_key: Some("k".into()),
        ..server.target()
    };
    assert_all(&run(&trusting), Outcome::Ok);
    assert!(server.received.lock().unwrap().iter().all(|(_, key)| key.as_deref() == Some("Bearer k")));
    let by_name = Target { base_urls: vec![server.url.replace("127.0.0.1", "localhost")], ..trusting };
    assert_all(&run(&by_name), Outcome::Ok);
}

#[test]
fn any_certificate_passes_only_when_insecure() {
    let server = Speaker::start(HttpVersion::Http1, true);
    let insecure = Target { tls: Tls { ca_file: None, insecure: true }, ..server.target() };
    assert_all(&run(&insecure), Outcome::Ok);
    let before = server.received.lock().unwrap().len();
    let wrong =
        Target { tls: Tls { ca_file: ca_file(fixture("server.pem")), insecure: false }, ..server.target() };
    let checked = run(&wrong);
    assert!(checked.records.iter().all(|record| record.outcome != Outcome::Ok) || checked.records.is_empty());
    assert_eq!(server.received.lock().unwrap().len(), before, "a request reached a server nobody trusts");
}

#[test]
fn http2_without_and_with_tls() {
    for tls in [false, true] {
        let server = Speaker::start(HttpVersion::Http2, tls);
        let target = Target {
            http: HttpVersion::Http2,
            tls: Tls { ca_file: ca_file(fixture("ca.pem")), insecure: false },
            ..server.target()
        };
        assert_all(&run(&target), Outcome::Ok);
        let received = server.received.lock().unwrap();
        assert!(
            received.len() == 6 && received.iter().all(|(version, _)| *version == Version::HTTP_2),
            "{received:?}"
        );
    }
}

#[test]
fn http2_is_never_a_silent_http1() {
    for tls in [false, true] {
        let server = Speaker::start(HttpVersion::Http1, tls);
        let tls = Tls { ca_file: ca_file(fixture("ca.pem")), insecure: false };
        let target = Target { http: HttpVersion::Http2, tls, ..server.target() };
        assert!(run(&target).records.iter().all(|record| record.outcome != Outcome::Ok));
        assert!(server.received.lock().unwrap().is_empty());
    }
}

#[test]
fn a_proxy_is_used_when_set() {
    let proxy = Server::play(|_| good());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let target =
        Target { proxy: Proxy::Url(format!("http://{}", proxy.address)), ..Target::new(nobody, "m") };
    assert_all(&run(&target), Outcome::Ok);
    assert_eq!(proxy.received().requests.len(), 6);
}

#[test]
fn unusable_settings_are_named() {
    let error = |target: Target| target.check().unwrap_err().to_string();
    let with = |tls: Tls| Target { tls, ..Target::new("https://h", "m") };
    let ca = |file: std::path::PathBuf| error(with(Tls { ca_file: ca_file(file), insecure: false }));
    let dir = tempfile::tempdir().unwrap();
    let written = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        ca(path)
    };
    assert!(ca("/no/such/ca.pem".into()).contains("CA file /no/such/ca.pem: No such file"));
    assert!(ca(fixture("server.key")).contains("server.key: a private key and no certificate; expected"));
    assert!(written("empty", b" \n").contains("an empty file"));
    assert!(written("text", b"hello").contains("no PEM"));
    assert!(written("der", &[0x30, 0x82, 1, 0]).contains("a certificate in DER, not PEM"));
    let broken = b"-----BEGIN CERTIFICATE-----\nMIIB\n";
    assert!(written("broken", broken).contains("PEM that breaks off"));
    let garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(written("garbage", garbage).contains("cannot be used"));
    let both = Tls { ca_file: ca_file(fixture("ca.pem")), insecure: true };
    assert!(matches!(with(both).check(), Err(TargetError::InsecureWithCa)));
    let proxied =
        |proxy: &str| error(Target { proxy: Proxy::Url(proxy.into()), ..Target::new("http://h", "m") });
    for proxy in ["", "proxy", "socks5://h:1", "user:secret@h"] {
        let message = proxied(proxy);
        assert!(message.contains("expected http://host:port") && !message.contains("secret"), "{message}");
    }
    assert!(matches!(Target { base_urls: vec![], ..Target::new("", "m") }.check(), Err(TargetError::NoUrl)));
    // Without TLS nobody wants the file.
    assert!(
        Target {
            tls: Tls { ca_file: ca_file("/no".into()), insecure: false },
            ..Target::new("http://h", "m")
        }
        .check()
        .is_ok()
    );
}

#[test]
fn every_connection_offers_its_http_version_alone() {
    for (http, alpn) in [(HttpVersion::Http1, "http/1.1"), (HttpVersion::Http2, "h2")] {
        let tls = Tls { ca_file: ca_file(fixture("ca.pem")), insecure: false };
        let config = Target { http, tls, ..Target::new("https://h", "m") }.rustls_config().unwrap().unwrap();
        assert_eq!(config.alpn_protocols, [alpn.as_bytes()]);
    }
    assert!(Target::new("http://h", "m").rustls_config().unwrap().is_none());
}

#[test]
fn several_servers_share_the_load_in_turn() {
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let servers = [(); 3].map(|()| Speaker::start(http, false));
        let base_urls = servers.iter().map(|server| server.url.clone()).collect();
        let target = Target { http, base_urls, ..servers[0].target() };
        assert_all(&run(&target), Outcome::Ok);
        assert_eq!(servers.each_ref().map(|server| server.received.lock().unwrap().len()), [2, 2, 2]);
    }
}
