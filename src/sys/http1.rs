//! One HTTP/1.1 request over a connection that is there, and its answer, within bounds (RFC 9112). For processes beside the fence.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest status line and headers.
const HEAD: usize = 64 << 10;

/// A connection whose waits can be bounded.
pub(super) trait Timed: Read + Write {
    /// # Errors
    /// What setsockopt(2) reports.
    fn bound(&self, time: Duration) -> io::Result<()>;
}
impl Timed for UnixStream {
    fn bound(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }
}
impl Timed for TcpStream {
    fn bound(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub status: u16,
    pub body: Vec<u8>,
    /// There was more than the bound.
    pub truncated: bool,
}

/// Reads up to a moment.
pub(super) struct Until<'s, S> {
    pub stream: &'s mut S,
    pub end: Instant,
}

impl<S: Timed> Until<'_, S> {
    fn bound(&self) -> io::Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { self.stream.bound(left) }
    }
}
impl<S: Timed> Read for Until<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bound()?;
        match self.stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            done => done,
        }
    }
}
impl<S: Timed> Write for Until<'_, S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.bound()?;
        self.stream.write(buffer)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Asks without a body and takes at most so many bytes of the answer's. `target` and `host` are made by the caller and hold no line end.
///
/// # Errors
/// What reading and writing report; `TimedOut`; `InvalidData` for what is no HTTP.
pub(super) fn exchange<S: Timed>(
    stream: &mut S,
    method: &str,
    target: &str,
    host: &str,
    most: usize,
    end: Instant,
) -> io::Result<Response> {
    if [method, target, host].iter().any(|text| text.bytes().any(|byte| byte <= b' ' || byte == 127)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut stream = Until { stream, end };
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: rex\r\nAccept: */*\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut body = Buffered { stream, kept: Vec::new(), at: 0 };
    loop {
        let head = body.head()?;
        let (status, headers) = parsed(&head).ok_or_else(no_http)?;
        // An interim answer; the real one follows.
        if (100..200).contains(&status) {
            continue;
        }
        let header = |name: &str| headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        let (bytes, truncated) = if matches!(status, 204 | 304) {
            (Vec::new(), false)
        } else if header("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked")) {
            body.chunks(most)?
        } else {
            let length = header("content-length").map(|length| length.parse::<usize>().map_err(|_| no_http())).transpose()?;
            body.bytes(length, most)?
        };
        return Ok(Response { status, body: bytes, truncated });
    }
}

fn no_http() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no HTTP")
}

fn parsed(head: &[u8]) -> Option<(u16, Vec<(String, String)>)> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    Some((status, headers.collect()))
}

/// What was read and not yet used.
struct Buffered<'s, S> {
    stream: Until<'s, S>,
    kept: Vec<u8>,
    at: usize,
}

impl<S: Timed> Buffered<'_, S> {
    /// More bytes; false at the end.
    fn more(&mut self) -> io::Result<bool> {
        self.kept.drain(..std::mem::take(&mut self.at));
        let mut block = vec![0u8; 16 << 10];
        loop {
            match self.stream.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    let count = done?;
                    self.kept.extend_from_slice(block.get(..count).unwrap_or_default());
                    return Ok(count > 0);
                }
            }
        }
    }
    fn ready(&self) -> &[u8] {
        self.kept.get(self.at..).unwrap_or_default()
    }
    /// Up to and with this ending, which is left out.
    fn until(&mut self, ending: &[u8], most: usize) -> io::Result<Vec<u8>> {
        loop {
            if let Some(found) = memchr::memmem::find(self.ready(), ending) {
                let bytes = self.ready().get(..found).unwrap_or_default().to_vec();
                self.at += found + ending.len();
                return Ok(bytes);
            }
            if self.ready().len() > most {
                return Err(no_http());
            }
            if !self.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    fn head(&mut self) -> io::Result<Vec<u8>> {
        self.until(b"\r\n\r\n", HEAD)
    }
    /// So many bytes, or to the end; what is beyond `most` is not read.
    fn bytes(&mut self, length: Option<usize>, most: usize) -> io::Result<(Vec<u8>, bool)> {
        let wanted = length.unwrap_or(usize::MAX);
        while self.ready().len() < wanted.min(most.saturating_add(1)) {
            if !self.more()? {
                if length.is_some() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                break;
            }
        }
        let all = self.ready().get(..wanted.min(self.ready().len())).unwrap_or_default();
        Ok((all.get(..most.min(all.len())).unwrap_or_default().to_vec(), all.len() > most))
    }
    fn chunks(&mut self, most: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut all = Vec::new();
        loop {
            let line = self.until(b"\r\n", 1024)?;
            let line = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16).map_err(|_| no_http())?;
            if size == 0 {
                // Trailers are not looked at: the connection ends here.
                return Ok((all, false));
            }
            let mut left = size;
            while left > 0 {
                if self.ready().is_empty() && !self.more()? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let part = self.ready().get(..left.min(self.ready().len())).unwrap_or_default();
                let count = part.len();
                let room = most.saturating_sub(all.len());
                all.extend_from_slice(part.get(..count.min(room)).unwrap_or_default());
                if count > room {
                    return Ok((all, true));
                }
                self.at += count;
                left -= count;
            }
            if !self.until(b"\r\n", 2)?.is_empty() {
                return Err(no_http());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    /// The answer to this text, which the other side says in pieces and then ends.
    fn answered(pieces: &[&[u8]], most: usize) -> io::Result<Response> {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let other = std::thread::spawn(move || {
            let mut request = vec![0u8; 4096];
            let count = theirs.read(&mut request).unwrap();
            for piece in pieces {
                // Whoever has enough has gone.
                let _ = theirs.write_all(&piece);
            }
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let response = exchange(&mut ours, "GET", "/x?y=1", "localhost", most, Instant::now() + Duration::from_secs(5));
        drop(ours);
        assert!(other.join().unwrap().starts_with("GET /x?y=1 HTTP/1.1\r\nHost: localhost\r\n"));
        response
    }

    #[test]
    fn bodies_are_read_in_every_form_and_in_any_pieces() {
        let body = |pieces: &[&[u8]]| answered(pieces, 100).map(|response| (response.status, response.body)).unwrap();
        assert_eq!(body(&[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more"]), (200, b"hello".to_vec()));
        assert_eq!(body(&[b"HTTP/1.0 404 No\r\n\r", b"\nto the ", b"end"]), (404, b"to the end".to_vec()));
        assert_eq!(body(&[b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 204 Done\r\n\r\n"]), (204, Vec::new()));
        let chunked: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5;x=y\r\nhe", b"llo\r", b"\n1\r\n!\r\n0\r\n\r\n"];
        assert_eq!(body(chunked), (200, b"hello!".to_vec()));
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_is_no_http_is_an_error() {
        for text in [
            &b"HTTP/1.1 200 OK\r\n\r\n0123456789"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
        ] {
            let response = answered(&[text], 4).unwrap();
            assert_eq!((response.body.as_slice(), response.truncated), (&b"0123"[..], true));
            let response = answered(&[text], 10).unwrap();
            assert_eq!((response.body.len(), response.truncated), (10, false));
        }
        for bad in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 200",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        ] {
            assert!(answered(&[bad], 100).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_holds_no_line_of_another_and_no_wait_is_without_end() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let end = Instant::now() + Duration::from_millis(50);
        let mut ask = |target: &str| exchange(&mut ours, "GET", target, "localhost", 10, end).unwrap_err().kind();
        assert_eq!(ask("/a HTTP/1.1\r\nX: y"), io::ErrorKind::InvalidInput);
        assert_eq!(ask("/a"), io::ErrorKind::TimedOut);
    }
}
