//! A small HTTP server for tests, on a port of loopback or a socket of the host: answers that tests say, and what was asked of it.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What came of a client: the request as it stood on the wire.
pub type Answer = dyn Fn(&Request) -> Vec<u8> + Send + Sync;

pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    /// The whole head.
    pub head: String,
    pub body: Vec<u8>,
}

struct Shared {
    answer: Box<Answer>,
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    ended: AtomicBool,
}

/// Runs until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The usual answers: `/`, `/json`, `/echo`, `/redirect`, `/status/404`.
    pub fn new() -> Self {
        Self::with(usual)
    }
    pub fn with(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::wrapped(answer, |stream| Box::new(stream))
    }
    /// With something around each connection, e.g. TLS.
    pub fn wrapped(
        answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Box<dyn Duplex> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let inside = Arc::clone(&shared);
        let wrap = Arc::new(wrap);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if inside.ended.load(Ordering::SeqCst) {
                    return;
                }
                inside.connections.fetch_add(1, Ordering::SeqCst);
                let (shared, wrap) = (Arc::clone(&inside), Arc::clone(&wrap));
                std::thread::spawn(move || serve(wrap(stream), &shared));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
    pub fn port(&self) -> u16 {
        self.address.port()
    }
    /// The heads that came, in order.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }
    /// How often somebody connected, with or without saying anything.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A certificate of its own for these names (`DNS:…,IP:…`), made by openssl(1): the files of certificate and key.
pub fn certificate(folder: &Path, name: &str, names: &str, more: &[&str]) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"]);
    command.arg(format!("/CN={name}")).arg("-addext").arg(format!("subjectAltName={names}"));
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]).args(more);
    let made = command.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    (certificate, key)
}

/// Speaks TLS with this certificate.
pub fn secured((certificate, key): &(PathBuf, PathBuf), answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Server {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let config = Arc::new(config);
    Server::wrapped(answer, move |stream| {
        Box::new(rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), stream))
    })
}

/// The same at a socket of the host. Ends with the process.
pub fn at_socket(path: &Path, answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let shared = Shared {
                answer: Box::new(|_| Vec::new()),
                requests: Mutex::default(),
                connections: AtomicUsize::new(0),
                ended: AtomicBool::new(false),
            };
            answer_one(stream, &shared, &answer);
        }
    });
    connections
}

pub trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

fn serve(mut stream: Box<dyn Duplex>, shared: &Shared) {
    answer_with(&mut *stream, shared, &*shared.answer);
}

fn answer_one(mut stream: UnixStream, shared: &Shared, answer: &Answer) {
    answer_with(&mut stream, shared, answer);
}

fn answer_with(stream: &mut dyn Duplex, shared: &Shared, answer: &Answer) {
    let mut bytes = Vec::new();
    let mut byte = [0u8; 1];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).and_then(|length| length.trim().parse().ok());
    let mut body = vec![0u8; length.unwrap_or(0)];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
    shared.requests.lock().unwrap().push(head.clone());
    let _ = stream.write_all(&answer(&Request { method, path, head, body }));
    let _ = stream.flush();
}

/// An answer with this status and body, and more header lines.
pub fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).as_bytes(), body].concat()
}

pub fn usual(request: &Request) -> Vec<u8> {
    let body: &[u8] = match request.path.split('?').next().unwrap_or("") {
        "/" => b"hello\n",
        "/json" if request.method == "HEAD" => return answer(200, "Content-Type: application/json\r\n", b""),
        "/json" => return answer(200, "Content-Type: application/json\r\n", br#"{"name": "engine"}"#),
        "/echo" => return answer(200, "", &[request.head.as_bytes(), &request.body].concat()),
        "/redirect" => return answer(302, "Location: /\r\n", b""),
        path => {
            let status = path.strip_prefix("/status/").and_then(|status| status.parse().ok()).unwrap_or(404);
            return answer(status, "", b"");
        }
    };
    answer(200, "", if request.method == "HEAD" { b"" } else { body })
}
