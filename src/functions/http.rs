//! Talking HTTP. Every request asks for the verb of its method on the URL, each hop of a redirect too; what is connected to is what was judged.

use super::convert::{from_json, to_json};
use super::file_write::Content;
use super::function::{Call, Example, Function, param, with2, with3};
use super::reach;
use super::value::{Array, Dynamic, ImmutableString, IntoScript, Map, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::url::{Scheme, Url};
use crate::policy::{Access, Action, Ask, Attribute, Value, ask};
use crate::resource::endpoint::{Endpoint, URL};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys::net::http::{self as wire, Request, Response};
use crate::sys::net::tls::{self, Trust};
use crate::sys::net::{self, Patience};
use core::net::IpAddr;
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[HTTP, HTTP_GET, CURL, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE];

const CONTEXT: &[Attribute] = &[Attribute {
    name: "insecure",
    cedar: "Bool",
    required: true,
    fixed: false,
    doc: "Whether the script takes any certificate, so that who answers is not known.",
}];

macro_rules! method {
    ($type:ident $name:literal $access:ident $groups:expr, $doc:literal) => {
        #[doc = concat!("`network::Action::\"", $name, "\"`: ", $doc)]
        pub enum $type {}
        impl Action for $type {
            type On = Endpoint;
            const NAMESPACE: &'static str = "network";
            const NAME: &'static str = $name;
            const APPLIES_TO: &'static [&'static str] = &[URL.name];
            const GROUPS: &'static [&'static str] = $groups;
            const DOC: &'static str = $doc;
            const ACCESS: Access = Access::$access;
            const CONTEXT: &'static [Attribute] = CONTEXT;
        }
    };
}

method!(Get "GET" ReadOnly &["NetworkAction", "view"], "Fetch a url.");
method!(Head "HEAD" ReadOnly &["view"], "Fetch the headers of a url.");
method!(Options "OPTIONS" ReadOnly &["view"], "Ask what a url can do.");
method!(Post "POST" Change &["edit"], "Send to a url.");
method!(Put "PUT" Change &["edit"], "Put something at a url.");
method!(Patch "PATCH" Change &["edit"], "Change what is at a url.");
method!(Delete "DELETE" Change &["edit"], "Remove what is at a url.");

/// `file_system::Action::"connect"`: talk to whoever listens at a socket of this host.
pub enum ConnectSocket {}
impl Action for ConnectSocket {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "connect";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File"];
    const GROUPS: &'static [&'static str] = &[];
    const DOC: &'static str =
        "Talk HTTP to whoever listens at this socket, with whatever power that one has (a container engine is as good as root).";
    const ACCESS: Access = Access::Change;
    const CONTEXT: &'static [Attribute] = &[
        Attribute { name: "method", cedar: "String", required: true, fixed: false, doc: "GET, POST …" },
        Attribute {
            name: "path",
            cedar: "String",
            required: true,
            fixed: false,
            doc: "The path that is asked for, in one spelling and without the query.",
        },
        Attribute { name: "query", cedar: "String", required: true, fixed: false, doc: "What stands behind the `?`, as given." },
    ];
    const NEEDS_OPEN: bool = true;
}

const ALL: &[Ask] =
    &[ask::<Get>(), ask::<Head>(), ask::<Options>(), ask::<Post>(), ask::<Put>(), ask::<Patch>(), ask::<Delete>(), ask::<ConnectSocket>()];
const FAILS: &[Kind] =
    &[Kind::BadData, Kind::NotFound, Kind::TooLarge, Kind::Timeout, Kind::Unavailable, Kind::Unsupported, Kind::Permission];

options! {
    /// Options of HTTP requests.
    HttpOptions {
        headers: Map = Map::new(), "Headers by name; of several with one name an array. Those that say where a message ends or whom it is for (`Host`, `Content-Length`, `Connection` …) are rex's own.";
        body: Option<Content> = None, "What to send: a string or a blob.";
        json: Option<Dynamic> = None, "A value to send as JSON, instead of `body`.";
        timeout: Duration = Duration::from_secs(30), "How long all of it may take, in seconds.";
        max_bytes: u64 = 10 << 20, "Fail with `too_large` when the answer is larger, packed or unpacked.";
        follow: u64 = 10, "How many redirects to follow at most; 0: none, a redirect is the answer then.";
        ca: Option<String> = None, "Trust these certificate authorities (PEM text) and no others, instead of those of the host.";
        insecure: bool = false, "Take any certificate. Policies see it as `context.insecure`.";
        unix_socket: Option<AbsPath> = None, "Talk to whoever listens at this socket of the host; the host of the URL is then a word. Asks for `connect` on the socket and nothing else.";
    }
}

/// What all of them do alike.
macro_rules! doc {
    ($first:literal) => {
        concat!(
            $first,
            "\n\nGives a map: `status`; `headers` (names in lower case; of several with one name an array); `text` (nothing where the body is no UTF-8 text, then `bytes` has it); `json` (the value, where the answer says it is JSON and is); `url` (where it came from in the end); `address`; `timing` (seconds: `lookup`, `connect`, `tls`, `first_byte`, `total`); `chain` (the redirects that were followed: `url`, `status`, `address`). A status that tells of an error is an answer like any other. gzip is asked for and unpacked.\n\nEach redirect is asked of the policy like a request of its own. To another host, scheme or port go no headers of the script but `Accept`, `Accept-Language`, `Content-Type` and `User-Agent`. From https to http, and to what is not HTTP, nothing is followed. After 301, 302 and 303 the next request is a GET without a body (a HEAD stays one); after 307 and 308 it is the same again, which with a body goes to the same host only. A name is looked up on this host; it must not lead to this host or its link (`127.0.0.1`, `169.254.169.254`) unless `/etc/hosts` says so or it is `localhost`. There is no proxy, and no variable that names one is looked at."
        )
    };
}

const HTTP: Function = Function {
    name: "http",
    doc: doc!("Sends an HTTP request."),
    body: &with3(http, [param("method", "GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE."), param("url", URL_DOC), param("options", "")]),
    asks: ALL,
    fails: FAILS,
    examples: &[
        Example { given: &[], script: r#"http("GET", server + "/status/404").status"#, gives: "404" },
        Example { given: &[], script: r#"http("HEAD", server + "/").text"#, gives: r#""""# },
        Example { given: &[], script: r#"http("OPTIONS", server + "/echo").text.contains("OPTIONS /echo")"#, gives: "true" },
        Example {
            given: &[],
            script: r#"http("POST", server + "/echo", #{json: #{a: 1}, headers: #{"X-Reason": "test"}}).status"#,
            gives: "200",
        },
        Example { given: &[], script: r#"http("PUT", server + "/echo", #{body: "text"}).text.ends_with("text")"#, gives: "true" },
        Example { given: &[], script: r#"http("PATCH", server + "/echo", #{body: "text"}).status"#, gives: "200" },
        Example { given: &[], script: r#"http("DELETE", server + "/echo").status"#, gives: "200" },
        Example {
            given: &[],
            script: r#"http("GET", "http://engine/json", #{unix_socket: dir + "/server.sock"}).json.name"#,
            gives: r#""engine""#,
        },
    ],
};
const URL_DOC: &str = "An absolute URL of http or https. What readers of URLs differ on is refused: users in it, backslashes, numbers that are no plain address, letters beyond ASCII.";

const HTTP_GET: Function = Function {
    name: "http_get",
    doc: doc!("Fetches a URL."),
    body: &with2(http_get, [param("url", URL_DOC), param("options", "")]),
    asks: &[ask::<Get>(), ask::<ConnectSocket>()],
    fails: FAILS,
    examples: &[
        Example { given: &[], script: r#"http_get(server + "/json").json.name"#, gives: r#""engine""# },
        Example { given: &[], script: r#"http_get(server + "/redirect").chain.map(|hop| hop.status)"#, gives: "[302]" },
        Example { given: &[], script: r#"http_get("http://engine/json", #{unix_socket: dir + "/server.sock"}).status"#, gives: "200" },
    ],
};

const CURL: Function = Function {
    name: "curl",
    doc: "Fetches a URL: the same as [http_get].",
    body: HTTP_GET.body,
    asks: HTTP_GET.asks,
    fails: FAILS,
    examples: HTTP_GET_AS_CURL,
};
const HTTP_GET_AS_CURL: &[Example] = &[
    Example { given: &[], script: r#"curl(server + "/").status"#, gives: "200" },
    Example { given: &[], script: r#"curl("http://engine/json", #{unix_socket: dir + "/server.sock"}).status"#, gives: "200" },
];

const HTTP_HEAD: Function = Function {
    name: "http_head",
    doc: doc!("Fetches the headers of a URL."),
    body: &with2(http_head, [param("url", URL_DOC), param("options", "")]),
    asks: &[ask::<Head>(), ask::<ConnectSocket>()],
    fails: FAILS,
    examples: &[
        Example { given: &[], script: r#"http_head(server + "/json").headers["content-type"]"#, gives: r#""application/json""# },
        Example { given: &[], script: r#"http_head("http://engine/json", #{unix_socket: dir + "/server.sock"}).status"#, gives: "200" },
    ],
};

const HTTP_POST: Function = Function {
    name: "http_post",
    doc: doc!("Sends to a URL."),
    body: &with2(http_post, [param("url", URL_DOC), param("options", "")]),
    asks: &[ask::<Get>(), ask::<Post>(), ask::<ConnectSocket>()],
    fails: FAILS,
    examples: &[
        Example { given: &[], script: r#"http_post(server + "/echo", #{body: "a=b"}).text.ends_with("a=b")"#, gives: "true" },
        Example { given: &[], script: r#"http_post(server + "/redirect", #{body: "a=b"}).text"#, gives: r#""hello\n""# },
        Example { given: &[], script: r#"http_post("http://engine/json", #{unix_socket: dir + "/server.sock"}).status"#, gives: "200" },
    ],
};

const HTTP_PUT: Function = Function {
    name: "http_put",
    doc: doc!("Puts something at a URL."),
    body: &with2(http_put, [param("url", URL_DOC), param("options", "")]),
    asks: &[ask::<Get>(), ask::<Put>(), ask::<ConnectSocket>()],
    fails: FAILS,
    examples: &[
        Example { given: &[], script: r#"http_put(server + "/echo", #{body: "text"}).text.ends_with("text")"#, gives: "true" },
        Example { given: &[], script: r#"http_put(server + "/redirect", #{body: "a=b"}).text"#, gives: r#""hello\n""# },
        Example { given: &[], script: r#"http_put("http://engine/json", #{unix_socket: dir + "/server.sock"}).status"#, gives: "200" },
    ],
};

const HTTP_DELETE: Function = Function {
    name: "http_delete",
    doc: doc!("Removes what is at a URL."),
    body: &with2(http_delete, [param("url", URL_DOC), param("options", "")]),
    asks: &[ask::<Get>(), ask::<Delete>(), ask::<ConnectSocket>()],
    fails: FAILS,
    examples: &[
        Example { given: &[], script: r#"http_delete(server + "/echo").status"#, gives: "200" },
        Example { given: &[], script: r#"http_delete(server + "/redirect").text"#, gives: r#""hello\n""# },
        Example { given: &[], script: r#"http_delete("http://engine/json", #{unix_socket: dir + "/server.sock"}).status"#, gives: "200" },
    ],
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}
const METHODS: &[(&str, Method)] = &[
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("OPTIONS", Method::Options),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("PATCH", Method::Patch),
    ("DELETE", Method::Delete),
];

impl Method {
    fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("GET", |(name, _)| name)
    }
}

fn http(call: &Call<'_>, method: String, url: ImmutableString, options: HttpOptions) -> Result<Map> {
    let known = METHODS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&method));
    let names = || METHODS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let (_, method) = known.ok_or_else(|| bad_argument(format!("http: method: expected one of {}", names())))?;
    request(call, *method, &url, options)
}

fn http_get(call: &Call<'_>, url: ImmutableString, options: HttpOptions) -> Result<Map> {
    request(call, Method::Get, &url, options)
}

fn http_head(call: &Call<'_>, url: ImmutableString, options: HttpOptions) -> Result<Map> {
    request(call, Method::Head, &url, options)
}

fn http_post(call: &Call<'_>, url: ImmutableString, options: HttpOptions) -> Result<Map> {
    request(call, Method::Post, &url, options)
}

fn http_put(call: &Call<'_>, url: ImmutableString, options: HttpOptions) -> Result<Map> {
    request(call, Method::Put, &url, options)
}

fn http_delete(call: &Call<'_>, url: ImmutableString, options: HttpOptions) -> Result<Map> {
    request(call, Method::Delete, &url, options)
}

/// Headers that go to another host too.
const HARMLESS: &[&str] = &["accept", "accept-language", "content-type", "user-agent"];

/// What is sent next.
struct Hop {
    method: Method,
    url: Url,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// What came of one request.
struct Came {
    response: Response,
    address: Option<IpAddr>,
    lookup: Duration,
    connect: Duration,
}

/// The terms that hold for all hops.
struct Terms<'a> {
    trust: Trust,
    insecure: bool,
    max_bytes: u64,
    socket: Option<AbsPath>,
    patience: Patience<'a>,
}

fn request(call: &Call<'_>, method: Method, url: &str, options: HttpOptions) -> Result<Map> {
    let function = call.function.name;
    let began = Instant::now();
    let url = Url::parse(url).map_err(|what| bad_argument(format!("{function}: url: {what}")))?;
    let mut fields = fields(function, &options.headers)?;
    let body = match (options.body, options.json) {
        (Some(_), Some(_)) => return Err(bad_argument(format!("{function}: `body` and `json` exclude each other"))),
        (Some(body), None) => Some(body.as_bytes().to_vec()),
        (None, Some(json)) => {
            if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                fields.push(("Content-Type".to_owned(), "application/json".to_owned()));
            }
            Some(to_json(&json).to_string().into_bytes())
        }
        (None, None) => None,
    };
    if body.is_some() && matches!(method, Method::Get | Method::Head | Method::Options) {
        return Err(bad_argument(format!("{function}: a {} has no body", method.name())));
    }
    wire::checked(&fields).map_err(|error| bad_argument(format!("{function}: {}", error.message)))?;
    let trust = match (&options.ca, options.insecure) {
        (Some(_), true) => return Err(bad_argument(format!("{function}: `ca` and `insecure` exclude each other"))),
        (Some(pem), false) => Trust::These(tls::authorities(pem.as_bytes())?),
        (None, true) => Trust::Anybody,
        (None, false) => Trust::Host,
    };
    let check = || call.check();
    let terms = Terms {
        trust,
        insecure: options.insecure,
        max_bytes: options.max_bytes,
        socket: options.unix_socket,
        patience: Patience::new(options.timeout, &check),
    };
    let mut chain = Array::new();
    let mut hop = Hop { method, url, fields, body };
    loop {
        let came = once(call, &hop, &terms)?;
        let left = options.follow.saturating_sub(chain.len() as u64);
        match next(&hop, &came.response, left, options.follow, terms.socket.is_some())? {
            Some(after) => {
                let status = i64::from(came.response.status);
                chain.push(
                    record([("url", shown(&hop.url).into_script()), ("status", status.into_script()), ("address", address(came.address))])
                        .into_script(),
                );
                hop = after;
            }
            None => return Ok(result(&hop.url, came, chain, began)),
        }
    }
}

fn fields(function: &str, headers: &Map) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (name, value) in headers {
        let texts: Vec<String> = super::value::FromScript::from_script(value.clone())
            .map_err(|error: Error| bad_argument(format!("{function}: header `{}`: {}", name.escape_debug(), error.message)))?;
        all.extend(texts.into_iter().map(|text| (name.to_string(), text)));
    }
    Ok(all)
}

fn once(call: &Call<'_>, hop: &Hop, terms: &Terms<'_>) -> Result<Came> {
    if let Some(socket) = &terms.socket {
        return once_locally(call, hop, terms, socket);
    }
    match hop.method {
        Method::Get => once_as::<Get>(call, hop, terms),
        Method::Head => once_as::<Head>(call, hop, terms),
        Method::Options => once_as::<Options>(call, hop, terms),
        Method::Post => once_as::<Post>(call, hop, terms),
        Method::Put => once_as::<Put>(call, hop, terms),
        Method::Patch => once_as::<Patch>(call, hop, terms),
        Method::Delete => once_as::<Delete>(call, hop, terms),
    }
}

fn once_as<A: Action<On = Endpoint>>(call: &Call<'_>, hop: &Hop, terms: &Terms<'_>) -> Result<Came> {
    let context = [("insecure", Value::Bool(terms.insecure))];
    let way = reach::open::<A>(call, &Endpoint::of_url(&hop.url), &context, terms.patience)?;
    let reach::Way { granted, wire, address, lookup, connect } = way;
    let deed = || wire::exchange(&granted, wire, &outgoing(hop, terms));
    let response = if A::ACCESS == Access::Change {
        call.effect(&granted, deed, |response| (response.body.len() as u64, format!("answered {} at {address}", response.status)))?
    } else {
        deed()?
    };
    Ok(Came { response, address: Some(address), lookup, connect })
}

fn once_locally(call: &Call<'_>, hop: &Hop, terms: &Terms<'_>, socket: &AbsPath) -> Result<Came> {
    let text = |text: &str| Value::String(text.to_owned());
    let context = vec![("method", text(hop.method.name())), ("path", text(&hop.url.path)), ("query", text(&hop.url.query))];
    let granted = call.permit_with::<ConnectSocket>(File::locate(socket)?, context)?;
    let began = Instant::now();
    let mut connect = Duration::ZERO;
    let deed = || {
        let wire = net::connect_local(&granted, terms.patience)?;
        connect = began.elapsed();
        wire::exchange(&granted, wire, &outgoing(hop, terms))
    };
    let response = call.effect(&granted, deed, |response| (response.body.len() as u64, format!("answered {}", response.status)))?;
    Ok(Came { response, address: None, lookup: Duration::ZERO, connect })
}

fn outgoing<'a>(hop: &'a Hop, terms: &'a Terms<'_>) -> Request<'a> {
    Request {
        method: hop.method.name(),
        url: &hop.url,
        fields: &hop.fields,
        body: hop.body.as_deref(),
        max_bytes: terms.max_bytes,
        trust: &terms.trust,
    }
}

/// Where a redirect leads, if it is followed.
fn next(hop: &Hop, response: &Response, left: u64, most: u64, local: bool) -> Result<Option<Hop>> {
    if most == 0 || !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.field("location") else { return Ok(None) };
    let refused = |why: &str| Err(Error::new(Kind::BadData, format!("the redirect is not followed: {why}")));
    let url = match hop.url.join(location) {
        Ok(url) => url,
        Err(what) => return refused(&what),
    };
    if (hop.url.scheme, url.scheme) == (Scheme::Https, Scheme::Http) {
        return refused("it leads from https to http");
    }
    if left == 0 {
        return refused(&format!("there were {most} before it"));
    }
    let same = hop.url.same_origin(&url);
    if local && !same {
        return refused("it leads away from the socket");
    }
    let again = matches!(response.status, 307 | 308);
    if again && !same && hop.body.is_some() {
        return refused("what was sent would go to another host");
    }
    let method = match hop.method {
        method @ (Method::Get | Method::Head | Method::Options) => method,
        method if again => method,
        _ => Method::Get,
    };
    let body = if again { hop.body.clone() } else { None };
    let kept = |name: &String| {
        let lower = name.to_ascii_lowercase();
        (same || HARMLESS.contains(&lower.as_str())) && (body.is_some() || !lower.starts_with("content-"))
    };
    let fields = hop.fields.iter().filter(|(name, _)| kept(name)).cloned().collect();
    Ok(Some(Hop { method, url, fields, body }))
}

/// With its query: the script's own words, or a server's.
fn shown(url: &Url) -> String {
    if url.query.is_empty() { url.to_string() } else { format!("{url}?{}", url.query) }
}

fn address(address: Option<IpAddr>) -> Dynamic {
    address.map(|address| address.to_string()).into_script()
}

fn result(url: &Url, came: Came, chain: Array, began: Instant) -> Map {
    let Came { response, address: at, lookup, connect } = came;
    let mut headers = Map::new();
    for (name, value) in &response.fields {
        let value = value.as_str().into_script();
        match headers.get_mut(name.as_str()) {
            None => drop(headers.insert(name.as_str().into(), value)),
            Some(known) => {
                let mut all = if known.is_array() { known.take().into_array().unwrap_or_default() } else { vec![known.take()] };
                all.push(value);
                *known = Dynamic::from_array(all);
            }
        }
    }
    let is_json = response.field("content-type").is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    });
    let json = if is_json { serde_json::from_slice(&response.body).ok().and_then(|json| from_json(&json).ok()) } else { None };
    let seconds = |time: Duration| time.as_secs_f64().into_script();
    let before = lookup + connect;
    let timing = record([
        ("lookup", seconds(lookup)),
        ("connect", seconds(connect)),
        ("tls", response.tls.map(|time| time.as_secs_f64()).into_script()),
        ("first_byte", seconds(before + response.first_byte)),
        ("total", seconds(began.elapsed())),
    ]);
    let status = i64::from(response.status);
    let (text, bytes) = match String::from_utf8(response.body) {
        Ok(text) => (text.into_script(), Dynamic::UNIT),
        Err(error) => (Dynamic::UNIT, error.into_bytes().into_script()),
    };
    record([
        ("status", status.into_script()),
        ("headers", headers.into_script()),
        ("text", text),
        ("bytes", bytes),
        ("json", json.into_script()),
        ("url", shown(url).into_script()),
        ("address", address(at)),
        ("timing", timing.into_script()),
        ("chain", chain.into_script()),
    ])
}
