//! Addresses as text: parts of URLs, percent-encoding, and which network an IP address is in. They need no permission.

use super::function::{Call, Example, Function, param, with1, with2};
use super::value::{Dynamic, ImmutableString, IntoScript, Map, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::net::IpAddr;

pub const FUNCTIONS: &[Function] = &[URL_ENCODE, URL_DECODE, URL_PARSE, IP_IN];

/// All but the characters that RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const URL_ENCODE: Function = Function {
    name: "url_encode",
    doc: "Text as a part of a URL: every byte but letters, digits and `-._~` percent-encoded.",
    body: &with1(url_encode, [param("text", "The text.")]),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[], script: r#"url_encode("a b/ü")"#, gives: r#""a%20b%2F%C3%BC""# }],
};

fn url_encode(_: &Call<'_>, text: ImmutableString) -> Result<String> {
    Ok(utf8_percent_encode(&text, ENCODED).to_string())
}

options! {
    /// Options of `url_decode`.
    UrlDecodeOptions {
        plus: bool = false, "A `+` is a space, as in forms.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const URL_DECODE: Function = Function {
    name: "url_decode",
    doc: "Percent-encoded text as it was.",
    body: &with2(url_decode, [param("text", "The encoded text."), param("options", "")]),
    asks: &[],
    fails: &[Kind::BadData, Kind::NotText],
    examples: &[
        Example { given: &[], script: r#"url_decode("a%20b%2F%C3%BC")"#, gives: r#""a b/ü""# },
        Example { given: &[], script: r#"url_decode("a+b", #{plus: true})"#, gives: r#""a b""# },
    ],
};

fn url_decode(_: &Call<'_>, text: ImmutableString, options: UrlDecodeOptions) -> Result<String> {
    decode(&text, options.plus, options.lossy)
}

fn decode(text: &str, plus: bool, lossy: bool) -> Result<String> {
    for (at, _) in text.match_indices('%') {
        if !text.as_bytes().get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(Error::new(Kind::BadData, format!("byte {at}: a `%` without two hexadecimal digits")));
        }
    }
    let spaced = if plus { text.replace('+', " ") } else { text.to_owned() };
    let bytes: Vec<u8> = percent_decode_str(&spaced).collect();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if lossy => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Err(_) => Err(Error::new(Kind::NotText, "the decoded bytes are not UTF-8 text").with_hint("pass #{lossy: true}")),
    }
}

const URL_PARSE: Function = Function {
    name: "url_parse",
    doc: "The parts of a URL: `scheme`, `user`, `password`, `host`, `port`, `path`, `query`, `fragment`.\n\nScheme and host are in lower case, an IPv6 address without its brackets. `port` is the one that goes with the scheme where the URL names none. `user`, `password` and the fragment are decoded, the path is as it stands. \
          `query` is a map of decoded text; a name that is there several times has an array. What is not there is nothing.",
    body: &with1(url_parse, [param("url", "An absolute URL with a host, e.g. `https://example.org:8443/a?b=c`.")]),
    asks: &[],
    fails: &[Kind::BadData, Kind::NotText],
    examples: &[Example {
        given: &[],
        script: r#"url_parse("https://api.example.org/v1/items?limit=5&q=a%20b#top")"#,
        gives: r#"#{scheme: "https", user: (), password: (), host: "api.example.org", port: 443, path: "/v1/items", query: #{limit: "5", q: "a b"}, fragment: "top"}"#,
    }],
};

/// Ports that schemes stand for.
const PORTS: &[(&str, i64)] =
    &[("http", 80), ("https", 443), ("ws", 80), ("wss", 443), ("ftp", 21), ("ssh", 22), ("ldap", 389), ("ldaps", 636)];

fn url_parse(_: &Call<'_>, url: ImmutableString) -> Result<Map> {
    let wrong = |what: &str| Error::new(Kind::BadData, format!("not a URL: {what}"));
    // Readers of URLs differ on these: what one takes for the host another takes for the path.
    if let Some(at) = url.find(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '"' | '<' | '>' | '`')) {
        return Err(wrong(&format!("byte {at} may not stand in one")));
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no `://`"))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(plain) {
        return Err(wrong("its scheme is no word"));
    }
    let scheme = scheme.to_ascii_lowercase();
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
    let (user, place) = authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
    if user.is_some_and(|user| user.contains('@')) {
        return Err(wrong("it has more than one `@` before its path"));
    }
    let (user, password) = match user.map(|user| user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)))) {
        None => (None, None),
        Some((user, password)) => (Some(decode(user, false, false)?), password.map(|text| decode(text, false, false)).transpose()?),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => {
            let (address, port) = inner.split_once(']').ok_or_else(|| wrong("a `[` does not close"))?;
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| wrong("what is in brackets is no IPv6 address"))?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or_else(|| wrong("after `]` comes no port"))?),
            };
            (address.to_string(), port)
        }
        None => {
            let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
            if host.is_empty() || host.contains(['[', ']', '%', ':']) {
                return Err(wrong("it has no plain host"));
            }
            (host.to_lowercase(), port)
        }
    };
    let port = match port {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(i64::from(digits.parse::<u16>().map_err(|_| wrong("its port is over 65535"))?))
        }
        Some("") | None => PORTS.iter().find(|(name, _)| *name == scheme).map(|(_, port)| *port),
        Some(_) => return Err(wrong("its port is no number")),
    };
    let mut map = Map::new();
    for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name, true, false)?, decode(value, true, false)?.into_script());
        match map.get_mut(name.as_str()) {
            None => {
                map.insert(name.into(), value);
            }
            Some(there) if there.is_array() => {
                if let Ok(mut values) = there.as_array_mut() {
                    values.push(value);
                }
            }
            Some(there) => {
                let first = std::mem::take(there);
                *there = vec![first, value].into_script();
            }
        }
    }
    Ok(record([
        ("scheme", scheme.into_script()),
        ("user", user.into_script()),
        ("password", password.into_script()),
        ("host", host.into_script()),
        ("port", port.into_script()),
        ("path", if path.is_empty() { "/" } else { path }.into_script()),
        ("query", map.into_script()),
        ("fragment", fragment.map(|text| decode(text, false, false)).transpose()?.into_script()),
    ]))
}

const IP_IN: Function = Function {
    name: "ip_in",
    doc: "Whether an IP address is in a network, or in one of several.\n\nAn IPv4 address written as IPv6 (`::ffff:10.0.0.1`) counts as the IPv4 address.",
    body: &with2(
        ip_in,
        [
            param("address", "An IPv4 or IPv6 address."),
            param("networks", "`10.0.0.0/8`, `fd00::/8`, a single address, or an array of them."),
        ],
    ),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: r#"ip_in("10.1.2.3", "10.0.0.0/8")"#, gives: "true" },
        Example { given: &[], script: r#"ip_in("192.168.0.9", ["10.0.0.0/8", "fd00::/8"])"#, gives: "false" },
    ],
};

/// Its family's number of bits, and the address as a number with its first bit on top.
fn bits(address: IpAddr) -> (u32, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (32, u128::from(u32::from(address)) << 96),
        IpAddr::V6(address) => (128, u128::from(address)),
    }
}

fn ip_in(_: &Call<'_>, address: String, networks: Dynamic) -> Result<bool> {
    let (family, number) = bits(address.parse().map_err(|_| bad_argument("ip_in: address: expected an IPv4 or IPv6 address"))?);
    let networks: Vec<String> =
        super::value::FromScript::from_script(networks).map_err(|error| bad_argument(format!("ip_in: networks: {}", error.message)))?;
    let mut is_in = false;
    // All are looked at, so that a mistake in the last is no secret until it matters.
    for network in &networks {
        let wrong = || bad_argument(format!("ip_in: networks: `{}` is no network such as `10.0.0.0/8`", network.escape_debug()));
        let (base, prefix) = network.split_once('/').map_or((network.as_str(), None), |(base, prefix)| (base, Some(prefix)));
        let parsed: IpAddr = base.parse().map_err(|_| wrong())?;
        let (base_family, base) = bits(parsed);
        let written = if parsed.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => written,
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                prefix.parse::<u32>().ok().filter(|prefix| *prefix <= written).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        // `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
        let prefix = prefix.checked_sub(written - base_family).ok_or_else(wrong)?;
        let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        is_in |= family == base_family && number & mask == base & mask;
    }
    Ok(is_in)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::functions::convert::to_json;
    use crate::functions::rig::Rig;
    use proptest::prelude::*;

    fn call<const N: usize>(name: &str, args: [&str; N]) -> Result<Dynamic> {
        Rig::new("permit(principal, action, resource);").call(name, args.map(IntoScript::into_script))
    }

    #[test]
    fn parts_of_urls_of_all_kinds() {
        let json = |url: &str| to_json(&call("url_parse", [url]).unwrap());
        let url = json("HTTP://u%40x:p@[2001:DB8::1]:8080?a&a=1+2&b=%26");
        assert_eq!(
            (&url["user"], &url["password"], &url["host"], &url["port"]),
            (&"u@x".into(), &"p".into(), &"2001:db8::1".into(), &8080.into())
        );
        assert_eq!((&url["path"], &url["query"]), (&"/".into(), &serde_json::json!({"a": ["", "1 2"], "b": "&"})));
        assert_eq!(json("foo://h:/x")["port"], serde_json::Value::Null);
        assert_eq!(json("https://h")["port"], 443);
    }

    #[test]
    fn urls_that_readers_take_for_different_hosts_are_refused() {
        for url in [
            "https://good.org\\@evil.org/",
            "https://a@b@c/",
            "https:///x",
            "https://h:99999/",
            "https://h:8a/",
            "//h/x",
            "h/x",
            "https://[::1/",
            "https://[x]/",
            "https://a b/",
            "https://a\nb/",
            "https://h%2eorg/",
            "1https://h/",
            "https://h/%zz?%zz",
            "https://[::1]x/",
            "https://h/?a=%f",
        ] {
            assert_eq!(call("url_parse", [url]).map(|value| value.to_string()).expect_err(url).kind, Kind::BadData, "{url}");
        }
    }

    #[test]
    fn addresses_are_compared_by_their_bits() {
        for (address, network, is_in) in [
            ("10.255.0.1", "10.0.0.7/8", true),
            ("11.0.0.1", "10.0.0.0/8", false),
            ("::ffff:10.0.0.1", "10.0.0.0/8", true),
            ("10.0.0.1", "::ffff:10.0.0.0/104", true),
            ("10.0.0.1", "0.0.0.0/0", true),
            ("::1", "0.0.0.0/0", false),
            ("10.0.0.1", "::/0", false),
            ("fd00::1", "fd00::/8", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("fe80::1", "fe80::1/128", true),
        ] {
            assert_eq!(call("ip_in", [address, network]).unwrap().as_bool().unwrap(), is_in, "{address} {network}");
        }
        for (address, network) in
            [("10.0.0.1", "10.0.0.0/33"), ("x", "10.0.0.0/8"), ("10.0.0.1", "10.0.0.0/"), ("10.0.0.1", "10.0.0.0/+8"), ("1.1.1.1", "10/8")]
        {
            assert_eq!(call("ip_in", [address, network]).unwrap_err().kind, Kind::BadArgument, "{address} {network}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_encoded_is_decoded_again(text in any::<String>()) {
            let encoded = call("url_encode", [&text]).unwrap().into_string().unwrap();
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
            prop_assert_eq!(call("url_decode", [&encoded]).unwrap().into_string().unwrap(), text);
        }
        #[test]
        fn no_text_makes_the_reader_of_urls_panic(text in "(https?://)?[\\PC@:/?#\\[\\]%]{0,40}") {
            if let Err(error) = call("url_parse", [&text]) {
                prop_assert!(matches!(error.kind, Kind::BadData | Kind::NotText));
            }
        }
    }
}
