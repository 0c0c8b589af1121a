//! HTTP/1.1 (RFC 9112), one exchange on one connection: a request that the script cannot smuggle anything into, and an answer that is read within limits.

use super::tls::{self, Trust};
use super::{Wire, told};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::policy::url::{Scheme, Url};
use crate::policy::{Action, Granted};
use crate::resource::endpoint::Reached;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

/// Most bytes and fields of an answer's head, and of what follows its chunks.
const HEAD: usize = 64 << 10;
const FIELDS: usize = 128;
/// Longest line that says how long a chunk is.
const CHUNK_LINE: usize = 1 << 10;
/// Interim answers (100, 103) that are passed over.
const INTERIM: usize = 8;

/// Fields that say where a message ends or whom it is for: rex writes them, nobody else.
const OURS: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "http2-settings",
    // The method is what the policy was asked for, and some servers take another one from these.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// The fields that a script gave, checked.
///
/// # Errors
/// [`Kind::BadArgument`] for a name or value that could end a field, and for names that are rex's own.
pub fn checked(fields: &[(String, String)]) -> Result<()> {
    for (name, value) in fields {
        let shown = name.escape_debug();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > 256 || !name.bytes().all(token) {
            return Err(bad_argument(format!("`{shown}` is no name of a header")));
        }
        let lower = name.to_ascii_lowercase();
        if OURS.contains(&lower.as_str()) || lower.starts_with("proxy-") {
            return Err(bad_argument(format!("the header `{shown}` is set by rex itself")));
        }
        if value.len() > 16 << 10 || value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7F) {
            return Err(bad_argument(format!(
                "the value of the header `{shown}` holds a line end or another control character, or is too long"
            )));
        }
    }
    Ok(())
}

/// What is asked for.
pub struct Request<'a> {
    pub method: &'static str,
    pub url: &'a Url,
    /// As checked by [`checked`].
    pub fields: &'a [(String, String)],
    pub body: Option<&'a [u8]>,
    /// Longest body of the answer, as sent and as unpacked.
    pub max_bytes: u64,
    pub trust: &'a Trust,
}

/// What came back.
pub struct Response {
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// From the connection to the end of the TLS handshake, to the first byte of the answer, to its last.
    pub tls: Option<Duration>,
    pub first_byte: Duration,
    pub whole: Duration,
}

impl Response {
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

/// Sends the request and reads the answer.
///
/// # Errors
/// [`Kind::BadData`] for what is no HTTP/1.1, [`Kind::TooLarge`], those of the wire and of TLS.
pub fn exchange<A: Action>(granted: &Granted<A>, wire: Wire<'_>, request: &Request<'_>) -> Result<Response>
where
    A::On: Reached,
{
    if !granted.resource().is_way_to(request.url) {
        return Err(Error::new(Kind::Internal, "another address was judged"));
    }
    let began = Instant::now();
    let mut secured = None;
    let mut stream: Box<dyn Duplex + '_> = match request.url.scheme {
        Scheme::Https if granted.resource().is_network() => {
            let stream = tls::start(wire, &request.url.host, request.trust, true)?;
            secured = Some(began.elapsed());
            Box::new(stream)
        }
        _ => Box::new(wire),
    };
    stream.write_all(&head(request)).map_err(told)?;
    if let Some(body) = request.body {
        // A server may answer before it has read all, and hang up.
        if let Err(error) = stream.write_all(body).map_err(told)
            && error.kind != Kind::Unavailable
        {
            return Err(error);
        }
    }
    stream.flush().map_err(told)?;
    let mut reader = BufReader::with_capacity(16 << 10, stream);
    let mut first_byte = None;
    let (status, fields) = {
        let mut interim = 0;
        loop {
            reader.fill_buf().map_err(told)?;
            first_byte.get_or_insert_with(|| began.elapsed());
            let (status, fields) = answer_head(&mut reader)?;
            match status {
                101 => return Err(bad("it changes to another protocol")),
                100..=199 if interim < INTERIM => interim += 1,
                100..=199 => return Err(bad("too many interim answers")),
                _ => break (status, fields),
            }
        }
    };
    let mut response =
        Response { status, fields, body: Vec::new(), tls: secured, first_byte: first_byte.unwrap_or_default(), whole: Duration::ZERO };
    response.body = body(&mut reader, request, &response)?;
    if !has_field(request.fields, "accept-encoding") {
        unpack(&mut response, request.max_bytes)?;
    }
    response.whole = began.elapsed();
    Ok(response)
}

fn bad(what: &str) -> Error {
    Error::new(Kind::BadData, format!("the answer is not understood: {what}"))
}

fn has_field(fields: &[(String, String)], name: &str) -> bool {
    fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

fn head(request: &Request<'_>) -> Vec<u8> {
    let url = request.url;
    let mut text = format!("{} {}", request.method, url.path);
    if !url.query.is_empty() {
        text.push('?');
        text.push_str(&url.query);
    }
    text.push_str(&format!(" HTTP/1.1\r\nHost: {}\r\n", url.authority()));
    for (name, value) in [
        ("User-Agent", concat!("rex/", env!("CARGO_PKG_VERSION"))),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip"),
        ("Connection", "close"),
    ] {
        if !has_field(request.fields, name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in request.fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    match request.body {
        Some(body) => text.push_str(&format!("Content-Length: {}\r\n", body.len())),
        None if matches!(request.method, "POST" | "PUT" | "PATCH") => text.push_str("Content-Length: 0\r\n"),
        None => {}
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// One line with its end, no longer than this.
fn line(reader: &mut impl BufRead, most: usize) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(most as u64).read_until(b'\n', &mut line).map_err(told)?;
    match line.last() {
        Some(b'\n') => Ok(line),
        _ if line.len() >= most => Err(Error::new(Kind::TooLarge, "a line of the answer is too long")),
        _ => Err(Error::new(Kind::Unavailable, "the other end hung up in the middle")),
    }
}

type Fields = Vec<(String, String)>;

fn answer_head(reader: &mut impl BufRead) -> Result<(u16, Fields)> {
    let mut bytes = Vec::new();
    loop {
        let left = HEAD.saturating_sub(bytes.len());
        if left == 0 {
            return Err(Error::new(Kind::TooLarge, format!("the head of the answer is longer than {} KiB", HEAD >> 10)));
        }
        let line = line(reader, left)?;
        let empty = line == b"\r\n" || line == b"\n";
        bytes.extend(line);
        if empty {
            break;
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    match parsed.parse(&bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Error::new(Kind::TooLarge, format!("the answer has more than {FIELDS} headers")));
        }
        _ => return Err(bad("it is no HTTP/1.1")),
    }
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let fields = parsed.headers.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect();
    Ok((parsed.code.unwrap_or(0), fields))
}

/// How long a body is (RFC 9112, section 6.3).
enum Length {
    None,
    Bytes(u64),
    Chunks,
    ToTheEnd,
}

fn length(request: &Request<'_>, response: &Response) -> Result<Length> {
    if request.method == "HEAD" || matches!(response.status, 204 | 304) {
        return Ok(Length::None);
    }
    let all = |name: &str| response.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.trim()).collect::<Vec<_>>();
    match all("transfer-encoding").as_slice() {
        [] => {}
        [only] if only.eq_ignore_ascii_case("chunked") => return Ok(Length::Chunks),
        _ => return Err(bad("an encoding of transfer besides chunked")),
    }
    let lengths: Vec<&str> = all("content-length").into_iter().flat_map(|value| value.split(',')).map(str::trim).collect();
    let Some(first) = lengths.first() else { return Ok(Length::ToTheEnd) };
    if lengths.iter().any(|length| length != first) || first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad("it does not say how long it is"));
    }
    first.parse().map(Length::Bytes).map_err(|_| bad("it does not say how long it is"))
}

fn too_large(most: u64) -> Error {
    Error::new(Kind::TooLarge, format!("the answer is larger than {most} bytes")).with_hint("pass #{max_bytes: …}")
}

fn body(reader: &mut impl BufRead, request: &Request<'_>, response: &Response) -> Result<Vec<u8>> {
    let most = request.max_bytes;
    let mut body = Vec::new();
    match length(request, response)? {
        Length::None => {}
        Length::Bytes(length) if length > most => return Err(too_large(most)),
        Length::Bytes(length) => {
            take(reader, length, &mut body)?;
        }
        Length::ToTheEnd => {
            reader.take(most.saturating_add(1)).read_to_end(&mut body).map_err(told)?;
            if body.len() as u64 > most {
                return Err(too_large(most));
            }
        }
        Length::Chunks => loop {
            let line = line(reader, CHUNK_LINE)?;
            let text = std::str::from_utf8(&line).map_err(|_| bad("the length of a chunk"))?;
            let digits = text.split(';').next().unwrap_or("").trim();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(bad("the length of a chunk"));
            }
            let length = u64::from_str_radix(digits, 16).map_err(|_| too_large(most))?;
            if length == 0 {
                trailer(reader)?;
                break;
            }
            if length.saturating_add(body.len() as u64) > most {
                return Err(too_large(most));
            }
            take(reader, length, &mut body)?;
            match self::line(reader, 2) {
                Ok(end) if matches!(end.as_slice(), b"\r\n" | b"\n") => {}
                Err(error) if error.kind != Kind::TooLarge => return Err(error),
                _ => return Err(bad("the end of a chunk")),
            }
        },
    }
    Ok(body)
}

fn take(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> Result<()> {
    let got = reader.take(length).read_to_end(body).map_err(told)?;
    if got as u64 == length { Ok(()) } else { Err(Error::new(Kind::Unavailable, "the other end hung up in the middle")) }
}

fn trailer(reader: &mut impl BufRead) -> Result<()> {
    let mut left = HEAD;
    loop {
        let line = line(reader, left)?;
        if line == b"\r\n" || line == b"\n" {
            return Ok(());
        }
        left = left.checked_sub(line.len()).filter(|left| *left > 0).ok_or_else(|| bad("what follows the last chunk is too long"))?;
    }
}

/// Unpacks what came packed, no further than allowed: a small body can unfold to any size.
fn unpack(response: &mut Response, most: u64) -> Result<()> {
    let coding = response.field("content-encoding").map(|coding| coding.trim().to_ascii_lowercase());
    match coding.as_deref() {
        None | Some("" | "identity") => return Ok(()),
        Some("gzip" | "x-gzip") => {}
        Some(_) => return Err(bad("it is packed in a way that was not asked for")),
    }
    if response.body.is_empty() {
        return Ok(());
    }
    let mut plain = Vec::new();
    let mut reader = flate2::bufread::MultiGzDecoder::new(response.body.as_slice()).take(most.saturating_add(1));
    reader.read_to_end(&mut plain).map_err(|_| bad("what should be gzip is none"))?;
    if plain.len() as u64 > most {
        return Err(too_large(most));
    }
    response.body = plain;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn response(fields: &[(&str, &str)]) -> Response {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Response { status: 200, fields, body: Vec::new(), tls: None, first_byte: Duration::ZERO, whole: Duration::ZERO }
    }
    fn read(fields: &[(&str, &str)], bytes: &[u8], most: u64) -> Result<Vec<u8>> {
        let url = Url::parse("http://h/").unwrap();
        let request = Request { method: "GET", url: &url, fields: &[], body: None, max_bytes: most, trust: &Trust::Host };
        body(&mut std::io::Cursor::new(bytes.to_vec()), &request, &response(fields))
    }

    #[test]
    fn bodies_of_every_form_are_read_and_no_further_than_allowed() {
        const CHUNKED: &[(&str, &str)] = &[("transfer-encoding", "chunked")];
        assert_eq!(read(&[("content-length", "3")], b"abcdef", 9).unwrap(), b"abc");
        assert_eq!(read(&[], b"abc", 3).unwrap(), b"abc");
        assert_eq!(read(CHUNKED, b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n", 3).unwrap(), b"abc");
        for (fields, bytes, kind) in [
            (&[("content-length", "3")][..], &b"ab"[..], Kind::Unavailable),
            (&[("content-length", "4")], b"abcd", Kind::TooLarge),
            (&[("content-length", "99999999999999999999999")], b"", Kind::BadData),
            (&[("content-length", "+3")], b"abc", Kind::BadData),
            (&[("content-length", "1"), ("content-length", "2")], b"abc", Kind::BadData),
            (&[], b"abcd", Kind::TooLarge),
            (CHUNKED, b"4\r\nabcd\r\n0\r\n\r\n", Kind::TooLarge),
            (CHUNKED, b"fffffffffffffffff\r\n", Kind::TooLarge),
            (CHUNKED, b"-1\r\n", Kind::BadData),
            (CHUNKED, b"2\r\nabc\r\n0\r\n\r\n", Kind::BadData),
            (CHUNKED, b"2\r\nab\r\n", Kind::Unavailable),
            (&[("transfer-encoding", "gzip, chunked")], b"", Kind::BadData),
        ] {
            assert_eq!(read(fields, bytes, 3).unwrap_err().kind, kind, "{fields:?} {bytes:?}");
        }
    }

    #[test]
    fn heads_are_read_within_limits() {
        let head = |text: &[u8]| answer_head(&mut std::io::Cursor::new(text.to_vec()));
        let (status, fields) = head(b"HTTP/1.1 200 OK\r\nX-Y: z \r\n\r\nrest").unwrap();
        assert_eq!((status, fields), (200, vec![("x-y".to_owned(), "z".to_owned())]));
        assert_eq!(head(b"SSH-2.0-x\r\n\r\n").unwrap_err().kind, Kind::BadData);
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nX").unwrap_err().kind, Kind::Unavailable);
        assert_eq!(head(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(HEAD)).as_bytes()).unwrap_err().kind, Kind::TooLarge);
        assert_eq!(head(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200)).as_bytes()).unwrap_err().kind, Kind::TooLarge);
    }

    #[test]
    fn nothing_is_smuggled_into_a_request() {
        let check = |name: &str, value: &str| checked(&[(name.to_owned(), value.to_owned())]);
        for (name, value) in [("X-A", "b"), ("Authorization", "Bearer a.b-c"), ("Accept", "a/b; q=0.1")] {
            check(name, value).unwrap();
        }
        for (name, value) in [
            ("Host", "h"),
            ("content-length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "x"),
            ("Proxy-Authorization", "x"),
            ("X-A", "b\r\nHost: h"),
            ("X-A", "b\nc"),
            ("X-A", "b\0"),
            ("X A", "b"),
            ("X-A:", "b"),
            ("X-A\r\nHost", "b"),
            ("", "b"),
        ] {
            assert_eq!(check(name, value).unwrap_err().kind, Kind::BadArgument, "{name:?} {value:?}");
        }
    }

    #[test]
    fn what_unfolds_without_end_is_cut_off() {
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(std::io::repeat(0).take(1 << 20), flate2::Compression::best()).read_to_end(&mut packed).unwrap();
        let mut answer = Response { body: packed.clone(), ..response(&[("content-encoding", "gzip")]) };
        assert_eq!(unpack(&mut answer, 1 << 19).unwrap_err().kind, Kind::TooLarge);
        let mut answer = Response { body: packed, ..response(&[("content-encoding", "gzip")]) };
        unpack(&mut answer, 1 << 20).unwrap();
        assert_eq!(answer.body.len(), 1 << 20);
        let mut answer = Response { body: b"plain".to_vec(), ..response(&[("content-encoding", "gzip")]) };
        assert_eq!(unpack(&mut answer, 100).unwrap_err().kind, Kind::BadData);
    }
}
