//! Checksums of files and data, and bytes as text: SHA-2, MD5, BLAKE3, base64, hexadecimal, dumps.

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with1, with2};
use super::handle::Handle;
use super::value::{Dynamic, FromScript, ImmutableString, Map, plain_type};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use sha2::Digest as _;

pub const FUNCTIONS: &[Function] = &[SHA256, SHA512, MD5, BLAKE3, HEXDUMP, BASE64, BASE64_DECODE, HEX, HEX_DECODE];

/// Bytes, or a file that has them.
enum Data {
    Path(AbsPath),
    Open(Handle),
    Bytes(Vec<u8>),
    Text(ImmutableString),
}

impl FromScript for Data {
    const TYPE: &'static str =
        "an absolute path, an open file, text, or a blob (#{text: …} for text that begins with `/`, #{path: …} for a path that is a blob)";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is::<Handle>() {
            return Handle::from_script(value).map(Self::Open);
        }
        if value.is_blob() {
            return Ok(Self::Bytes(value.into_blob().unwrap_or_default()));
        }
        if let Some(map) = value.read_lock::<Map>().map(|map| map.clone()) {
            return match (map.len(), map.get("text"), map.get("path")) {
                (1, Some(text), _) => ImmutableString::from_script(text.clone()).map(Self::Text),
                (1, _, Some(path)) => AbsPath::from_script(path.clone()).map(Self::Path),
                _ => Err(bad_argument(format!("expected {}, got a map", Self::TYPE))),
            };
        }
        match value.into_immutable_string() {
            Ok(text) if text.starts_with('/') && !text.contains('\n') => AbsPath::new(text.as_bytes()).map(Self::Path),
            Ok(text) => Ok(Self::Text(text)),
            Err(name) => Err(bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name)))),
        }
    }
}

impl Data {
    /// Asks where it is a file, and gives all of it away in pieces. An open file is taken from its beginning; its place stays.
    fn each(self, call: &Call<'_>, mut take: impl FnMut(&[u8])) -> Result<()> {
        let (file, path) = match self {
            Self::Bytes(bytes) => {
                take(&bytes);
                return Ok(());
            }
            Self::Text(text) => {
                take(text.as_bytes());
                return Ok(());
            }
            Self::Path(path) => (File::locate(&path)?, path),
            Self::Open(handle) => (handle.again()?, handle.path().clone()),
        };
        // The whole file or nothing: a checksum of what redaction leaves would be that of no file.
        let file = call.permit::<Read>(file)?;
        let opened = sys::file::open(&file)?;
        sys::stream::each_block(opened, &|| call.check(), take).map_err(|error| error.with_path(path.shown()))?;
        Ok(())
    }
}

const FILE_ERRORS: &[Kind] = &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::Permission, Kind::Io];

/// A digest of a file or of data, as the tool of the same kind prints it.
macro_rules! digest {
    ($row:ident, $name:ident, $doc:literal, $of_abc:literal) => {
        const $row: Function = Function {
            name: stringify!($name),
            doc: $doc,
            body: &with1($name, [param("of", "A path, an open file, text or a blob.")]),
            asks: &[ask::<Read>()],
            fails: FILE_ERRORS,
            examples: &[
                Example { given: &[("f", "abc")], script: concat!(stringify!($name), "(dir + \"/f\")"), gives: $of_abc },
                Example { given: &[], script: concat!(stringify!($name), "(#{text: \"abc\"})"), gives: $of_abc },
            ],
        };
    };
}

digest!(
    SHA256,
    sha256,
    "The SHA-256 of a file or of data, in hexadecimal.\n\nA string that begins with `/` is a path, other text and blobs are data; `#{text: …}` is text whatever it begins with. A file is read in pieces.",
    r#""ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#
);
digest!(
    SHA512,
    sha512,
    "The SHA-512 of a file or of data, in hexadecimal.\n\nTakes what [sha256] takes.",
    r#""ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f""#
);
digest!(
    MD5,
    md5,
    "The MD5 of a file or of data, in hexadecimal.\n\nFor comparing with lists that have no other: it shows accidents, not forgeries. Takes what [sha256] takes.",
    r#""900150983cd24fb0d6963f7d28e17f72""#
);
digest!(
    BLAKE3,
    blake3,
    "The BLAKE3 of a file or of data, in hexadecimal.\n\nTakes what [sha256] takes.",
    r#""6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85""#
);

fn sha256(call: &Call<'_>, of: Data) -> Result<String> {
    let mut hash = sha2::Sha256::new();
    of.each(call, |block| hash.update(block))?;
    Ok(hex::encode(hash.finalize()))
}
fn sha512(call: &Call<'_>, of: Data) -> Result<String> {
    let mut hash = sha2::Sha512::new();
    of.each(call, |block| hash.update(block))?;
    Ok(hex::encode(hash.finalize()))
}
fn md5(call: &Call<'_>, of: Data) -> Result<String> {
    let mut hash = md5::Md5::new();
    of.each(call, |block| hash.update(block))?;
    Ok(hex::encode(hash.finalize()))
}
fn blake3(call: &Call<'_>, of: Data) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    of.each(call, |block| {
        hash.update(block);
    })?;
    Ok(hash.finalize().to_hex().to_string())
}

options! {
    /// Options of `hexdump`.
    HexdumpOptions {
        offset: u64 = 0, "Begin at this byte.";
        length: Option<u64> = None, "Show this many bytes at most.";
        max_bytes: u64 = 65536, "Refuse to show more bytes than this.";
    }
}

const HEXDUMP: Function = Function {
    name: "hexdump",
    doc: "Bytes as `hexdump -C` shows them: the place, sixteen bytes in hexadecimal, the same as ASCII.\n\nLines like the one before are one `*`. Takes what [sha256] takes.",
    body: &with2(hexdump, [param("of", "A path, an open file, text or a blob."), param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::Permission, Kind::Io, Kind::TooLarge],
    examples: &[
        Example {
            given: &[("f", "hello\n")],
            script: r#"hexdump(dir + "/f")"#,
            gives: r#""00000000  68 65 6c 6c 6f 0a                                 |hello.|\n00000006\n""#,
        },
        Example {
            given: &[],
            script: r#"hexdump("abcdef", #{offset: 2, length: 2})"#,
            gives: r#""00000002  63 64                                             |cd|\n00000004\n""#,
        },
    ],
};

fn hexdump(call: &Call<'_>, of: Data, options: HexdumpOptions) -> Result<String> {
    let bytes = match of {
        Data::Bytes(bytes) => part(&bytes, &options)?,
        Data::Text(text) => part(text.as_bytes(), &options)?,
        Data::Path(path) => read(call, File::locate(&path)?, &options)?,
        Data::Open(handle) => read(call, handle.again()?, &options)?,
    };
    Ok(dump(&bytes, options.offset))
}

fn read(call: &Call<'_>, file: File, options: &HexdumpOptions) -> Result<Vec<u8>> {
    let file = call.permit::<Read>(file)?;
    sys::file::read(&file, options.offset, options.length, options.max_bytes, &call.host.watch)
}

fn part(bytes: &[u8], options: &HexdumpOptions) -> Result<Vec<u8>> {
    let from = usize::try_from(options.offset).unwrap_or(usize::MAX).min(bytes.len());
    let rest = bytes.get(from..).unwrap_or_default();
    let length = options.length.and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX).min(rest.len());
    if length as u64 > options.max_bytes {
        return Err(Error::new(Kind::TooLarge, format!("more than `max_bytes` ({}) bytes", options.max_bytes)));
    }
    Ok(rest.get(..length).unwrap_or_default().to_vec())
}

fn dump(bytes: &[u8], offset: u64) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let mut before: Option<&[u8]> = None;
    let mut starred = false;
    for (line, at) in bytes.chunks(16).zip((offset..).step_by(16)) {
        if line.len() == 16 && before == Some(line) {
            if !starred {
                out.push_str("*\n");
                starred = true;
            }
            continue;
        }
        (before, starred) = (Some(line), false);
        let half = |from: usize| line.iter().skip(from).take(8).map(|byte| format!("{byte:02x} ")).collect::<String>();
        let shown: String = line.iter().map(|byte| if (32..127).contains(byte) { char::from(*byte) } else { '.' }).collect();
        let _ = writeln!(out, "{at:08x}  {:<24} {:<24} |{shown}|", half(0), half(8));
    }
    if !bytes.is_empty() {
        let _ = writeln!(out, "{:08x}", offset.saturating_add(bytes.len() as u64));
    }
    out
}

/// Bytes given as text or as a blob.
struct Bytes(Vec<u8>);

impl FromScript for Bytes {
    const TYPE: &'static str = "text or a blob";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_blob() {
            return Ok(Self(value.into_blob().unwrap_or_default()));
        }
        let text =
            value.into_immutable_string().map_err(|name| bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name))))?;
        Ok(Self(text.as_bytes().to_vec()))
    }
}

options! {
    /// Options of `base64`.
    Base64Options {
        url: bool = false, "With `-` and `_` and without padding, for URLs and tokens.";
    }
}

const BASE64: Function = Function {
    name: "base64",
    doc: "Text or bytes in base64.\n\nFor a file: `base64(open(path).read_bytes())`.",
    body: &with2(base64, [param("data", "Text or a blob."), param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: r#"base64("hello")"#, gives: r#""aGVsbG8=""# },
        Example { given: &[], script: r#"base64("??>", #{url: true})"#, gives: r#""Pz8-""# },
    ],
};

fn base64(_: &Call<'_>, data: Bytes, options: Base64Options) -> Result<String> {
    Ok(if options.url { URL_SAFE_NO_PAD.encode(data.0) } else { STANDARD.encode(data.0) })
}

const BASE64_DECODE: Function = Function {
    name: "base64_decode",
    doc: "The bytes that base64 text stands for, as a blob.\n\nBoth alphabets are read, with and without padding; white space is passed over. Where it is text: `base64_decode(x).as_string()`.",
    body: &with1(base64_decode, [param("text", "The base64 text.")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[Example { given: &[], script: r#"base64_decode("aGVs\nbG8=").as_string()"#, gives: r#""hello""# }],
};

fn base64_decode(_: &Call<'_>, text: ImmutableString) -> Result<Vec<u8>> {
    let bare: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let (padded, url) = (bare.ends_with(b"="), bare.iter().any(|byte| matches!(byte, b'-' | b'_')));
    let decoded = match (url, padded) {
        (true, true) => URL_SAFE.decode(&bare),
        (true, false) => URL_SAFE_NO_PAD.decode(&bare),
        (false, true) => STANDARD.decode(&bare),
        (false, false) => STANDARD_NO_PAD.decode(&bare),
    };
    decoded.map_err(|_| Error::new(Kind::BadData, "not base64"))
}

const HEX: Function = Function {
    name: "hex",
    doc: "Text or bytes in hexadecimal, two digits for each byte.",
    body: &with1(hex, [param("data", "Text or a blob.")]),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[], script: r#"hex("hi\n")"#, gives: r#""68690a""# }],
};

fn hex(_: &Call<'_>, data: Bytes) -> Result<String> {
    Ok(hex::encode(data.0))
}

const HEX_DECODE: Function = Function {
    name: "hex_decode",
    doc: "The bytes that hexadecimal digits stand for, as a blob.\n\nWhite space and colons between them are passed over.",
    body: &with1(hex_decode, [param("text", "The digits.")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[Example { given: &[], script: r#"hex_decode("68:69").as_string()"#, gives: r#""hi""# }],
};

fn hex_decode(_: &Call<'_>, text: ImmutableString) -> Result<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b':').collect();
    hex::decode(digits).map_err(|_| Error::new(Kind::BadData, "not hexadecimal digits, two for each byte"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::functions::rig::{Rig, options};
    use crate::functions::value::IntoScript;
    use proptest::prelude::*;

    const ALLOW: &str = "permit(principal, action, resource);";

    fn call<const N: usize>(name: &str, args: [Dynamic; N]) -> Result<Dynamic> {
        Rig::new(ALLOW).call(name, args)
    }

    #[test]
    fn data_of_every_kind_has_the_digest_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("f");
        std::fs::write(&path, vec![7u8; 300_000]).unwrap();
        let path = path.to_str().unwrap();
        let of = |value: Dynamic| call("sha256", [value]).unwrap().into_string().unwrap();
        let expected = of(vec![7u8; 300_000].into_script());
        assert_eq!(of(path.into_script()), expected);
        assert_eq!(of(options([("path", path.as_bytes().to_vec().into_script())])), expected);
        assert_ne!(of(options([("text", path.into_script())])), expected);
        let rig = Rig::new(ALLOW);
        let handle = rig.call("open", [path.into_script()]).unwrap();
        let _ = rig.call("seek", [handle.clone(), 10i64.into_script()]).unwrap();
        assert_eq!(rig.call("sha256", [handle]).unwrap().into_string().unwrap(), expected);
        assert_eq!(of("".into_script()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn a_file_that_may_not_be_read_has_no_digest_and_data_needs_no_permission() {
        let rig = Rig::new(r#"permit(principal, action == file_system::Action::"stat", resource);"#);
        for name in ["sha256", "sha512", "md5", "blake3", "hexdump"] {
            assert_eq!(rig.call(name, ["/etc/hostname".into_script()]).unwrap_err().kind, Kind::Denied, "{name}");
            assert_eq!(rig.call(name, ["/nowhere/at/all".into_script()]).unwrap_err().kind, Kind::Denied, "{name}");
            let _ = rig.call(name, ["data".into_script()]).unwrap();
        }
    }

    #[test]
    fn a_dump_leaves_out_what_repeats_and_keeps_the_end() {
        let text = dump(&[vec![0; 48], b"0123456789abcdef".to_vec(), vec![0xff; 3]].concat(), 0);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|");
        assert_eq!(lines[1], "*");
        assert_eq!(lines[2], "00000030  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|");
        assert_eq!(lines[3], "00000040  ff ff ff                                          |...|");
        assert_eq!((lines[4], lines.len()), ("00000043", 5));
        assert_eq!(dump(&[], 0), "");
        let large = call("hexdump", [vec![0u8; 70_000].into_script()]);
        assert_eq!(large.unwrap_err().kind, Kind::TooLarge);
        assert!(call("hexdump", [vec![0u8; 70_000].into_script(), options([("length", 16i64.into_script())])]).is_ok());
    }

    #[test]
    fn what_is_no_encoding_is_refused() {
        for text in ["a", "aGVsbG8==", "aGV$", "é", "ab=c"] {
            assert_eq!(call("base64_decode", [text.into_script()]).map(|_| ()).expect_err(text).kind, Kind::BadData, "{text}");
        }
        for text in ["a", "zz", "0x12"] {
            assert_eq!(call("hex_decode", [text.into_script()]).map(|_| ()).expect_err(text).kind, Kind::BadData, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_encoded_is_decoded_again(bytes in prop::collection::vec(any::<u8>(), 0..100), url in any::<bool>()) {
            let text = call("base64", [bytes.clone().into_script(), options([("url", url.into_script())])]).unwrap();
            prop_assert_eq!(call("base64_decode", [text]).unwrap().into_blob().unwrap(), bytes.clone());
            let text = call("hex", [bytes.clone().into_script()]).unwrap();
            prop_assert_eq!(call("hex_decode", [text]).unwrap().into_blob().unwrap(), bytes);
        }
    }
}
