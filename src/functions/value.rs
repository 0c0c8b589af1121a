//! Values between scripts and functions: what a parameter accepts ([`FromScript`]), what a result becomes ([`IntoScript`]), options as a map.

pub use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map};

use crate::error::{Error, Kind, Result, bad_argument};
use crate::resource::path::AbsPath;
use std::time::Duration;

/// A parameter's type.
pub trait FromScript: Sized {
    /// Its name for people, e.g. `an absolute path`.
    const TYPE: &'static str;
    /// The option rows, where it is a map of options.
    const OPTIONS: Option<&'static [OptionRow]> = None;
    /// The value where the call leaves it out; `None` where it may not.
    #[must_use]
    fn absent() -> Option<Self> {
        None
    }
    /// # Errors
    /// [`Kind::BadArgument`] saying what was expected and what came.
    fn from_script(value: Dynamic) -> Result<Self>;
}

/// What came instead, for messages: the type, and the value where it is short and plain.
fn got(value: &Dynamic) -> String {
    match value.type_name() {
        name @ ("i64" | "f64" | "bool") => format!("{} `{value}`", plain_type(name)),
        name => plain_type(name).to_owned(),
    }
}

/// A script's word for a type.
#[must_use]
pub fn plain_type(name: &str) -> &str {
    match name {
        "i64" => "int",
        "f64" => "float",
        "map" => "map",
        "array" => "array",
        "()" => "nothing",
        "Fn" => "closure",
        other => other.rsplit("::").next().unwrap_or(other),
    }
}

fn expected<T: FromScript>(value: &Dynamic) -> Error {
    bad_argument(format!("expected {}, got {}", T::TYPE, got(value)))
}

impl FromScript for Dynamic {
    const TYPE: &'static str = "any value";
    fn from_script(value: Dynamic) -> Result<Self> {
        Ok(value)
    }
}
impl FromScript for bool {
    const TYPE: &'static str = "true or false";
    fn from_script(value: Dynamic) -> Result<Self> {
        value.as_bool().map_err(|_| expected::<Self>(&value))
    }
}
impl FromScript for i64 {
    const TYPE: &'static str = "an int";
    fn from_script(value: Dynamic) -> Result<Self> {
        value.as_int().map_err(|_| expected::<Self>(&value))
    }
}
impl FromScript for f64 {
    const TYPE: &'static str = "a number";
    fn from_script(value: Dynamic) -> Result<Self> {
        #[allow(clippy::cast_precision_loss, reason = "a script's int where a float is wanted")]
        value.as_float().or_else(|_| value.as_int().map(|int| int as Self)).map_err(|_| expected::<Self>(&value))
    }
}
/// A count or size that cannot be negative.
impl FromScript for u64 {
    const TYPE: &'static str = "an int of 0 or more";
    fn from_script(value: Dynamic) -> Result<Self> {
        value.as_int().ok().and_then(|int| Self::try_from(int).ok()).ok_or_else(|| expected::<Self>(&value))
    }
}
impl FromScript for String {
    const TYPE: &'static str = "a string";
    fn from_script(value: Dynamic) -> Result<Self> {
        value.into_string().map_err(|name| bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name))))
    }
}
/// Text that may be given as any printable value (what `print` takes).
impl FromScript for ImmutableString {
    const TYPE: &'static str = "a string";
    fn from_script(value: Dynamic) -> Result<Self> {
        value.into_immutable_string().map_err(|name| bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name))))
    }
}
impl FromScript for Array {
    const TYPE: &'static str = "an array";
    fn from_script(value: Dynamic) -> Result<Self> {
        value.into_array().map_err(|name| bad_argument(format!("expected {}, got {}", <Self as FromScript>::TYPE, plain_type(name))))
    }
}
impl FromScript for Map {
    const TYPE: &'static str = "a map";
    fn from_script(value: Dynamic) -> Result<Self> {
        let name = value.type_name();
        value.try_cast::<Self>().ok_or_else(|| bad_argument(format!("expected {}, got {}", <Self as FromScript>::TYPE, plain_type(name))))
    }
}
impl FromScript for FnPtr {
    const TYPE: &'static str = "a closure";
    fn from_script(value: Dynamic) -> Result<Self> {
        let name = value.type_name();
        value.try_cast::<Self>().ok_or_else(|| bad_argument(format!("expected {}, got {}", <Self as FromScript>::TYPE, plain_type(name))))
    }
}
/// A path: a string, or a blob of bytes as `ls` and `find` give for names that are not UTF-8.
impl FromScript for AbsPath {
    const TYPE: &'static str = "an absolute path";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_blob() {
            return Self::new(value.into_blob().unwrap_or_default());
        }
        match value.into_immutable_string() {
            Ok(text) => Self::new(text.as_bytes()),
            Err(name) => Err(bad_argument(format!("expected {}, got {}", <Self as FromScript>::TYPE, plain_type(name)))),
        }
    }
}
/// Seconds, as an int or float.
impl FromScript for Duration {
    const TYPE: &'static str = "seconds (a number of 0 or more)";
    fn from_script(value: Dynamic) -> Result<Self> {
        f64::from_script(value.clone())
            .ok()
            .and_then(|seconds| Self::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| expected::<Self>(&value))
    }
}
impl<T: FromScript> FromScript for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const OPTIONS: Option<&'static [OptionRow]> = T::OPTIONS;
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_unit() { Ok(None) } else { T::from_script(value).map(Some) }
    }
}
/// One or an array of them.
impl<T: FromScript> FromScript for Vec<T>
where
    T: NotDynamic,
{
    const TYPE: &'static str = "an array";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_array() {
            let items = value.into_array().unwrap_or_default();
            return items
                .into_iter()
                .enumerate()
                .map(|(at, item)| T::from_script(item).map_err(|error| bad_argument(format!("item {at}: {error}"))))
                .collect();
        }
        Ok(vec![T::from_script(value)?])
    }
}
/// Keeps `Vec<Dynamic>`, which is the script's own array, apart from `Vec<T>`.
pub trait NotDynamic {}
impl NotDynamic for String {}
impl NotDynamic for i64 {}
impl NotDynamic for u64 {}
impl NotDynamic for AbsPath {}

/// A result's type.
pub trait IntoScript {
    fn into_script(self) -> Dynamic;
}
impl IntoScript for Dynamic {
    fn into_script(self) -> Dynamic {
        self
    }
}
macro_rules! into_script { ($($t:ty),*) => { $(impl IntoScript for $t { fn into_script(self) -> Dynamic { Dynamic::from(self) } })* }; }
into_script!(bool, i64, f64, String, ImmutableString, ());
impl IntoScript for &str {
    fn into_script(self) -> Dynamic {
        Dynamic::from(ImmutableString::from(self))
    }
}
/// Sizes and counts of the host; a script's int goes to 2⁶³−1.
impl IntoScript for u64 {
    fn into_script(self) -> Dynamic {
        Dynamic::from_int(i64::try_from(self).unwrap_or(i64::MAX))
    }
}
impl IntoScript for u32 {
    fn into_script(self) -> Dynamic {
        Dynamic::from_int(self.into())
    }
}
impl IntoScript for i32 {
    fn into_script(self) -> Dynamic {
        Dynamic::from_int(self.into())
    }
}
impl IntoScript for Map {
    fn into_script(self) -> Dynamic {
        Dynamic::from_map(self)
    }
}
impl IntoScript for Vec<u8> {
    fn into_script(self) -> Dynamic {
        Dynamic::from_blob(self)
    }
}
impl<T: IntoScript> IntoScript for Option<T> {
    fn into_script(self) -> Dynamic {
        self.map_or(Dynamic::UNIT, IntoScript::into_script)
    }
}
impl IntoScript for Vec<Dynamic> {
    fn into_script(self) -> Dynamic {
        Dynamic::from_array(self)
    }
}
macro_rules! into_array { ($($t:ty),*) => { $(impl IntoScript for Vec<$t> { fn into_script(self) -> Dynamic { Dynamic::from_array(self.into_iter().map(IntoScript::into_script).collect()) } })* }; }
into_array!(String, Map, i64, bool, f64);

/// A name or path of the host as scripts get it: a string, or a blob where it is not UTF-8.
pub fn name_value(bytes: &[u8]) -> Dynamic {
    std::str::from_utf8(bytes).map_or_else(|_| Dynamic::from_blob(bytes.to_vec()), IntoScript::into_script)
}

/// A structure for scripts: a map with documented keys.
#[must_use]
pub fn record<const N: usize>(fields: [(&str, Dynamic); N]) -> Map {
    fields.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

/// One option of a function.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    pub name: &'static str,
    pub kind: &'static str,
    /// The default as text; empty where there is none.
    pub default: &'static str,
    pub doc: &'static str,
    /// The reference's flags that mean it: `name` for `name(value)` or a constant, `name=value` for a constant with that value.
    pub flags: &'static [&'static str],
}

/// Turns a map of options into a struct; an unknown key is an error that names the nearest one.
pub struct OptionReader<'a> {
    map: Map,
    rows: &'a [OptionRow],
}

impl<'a> OptionReader<'a> {
    /// # Errors
    /// [`Kind::BadArgument`] for anything but a map, and for keys that are not in the table.
    pub fn new(value: Dynamic, rows: &'a [OptionRow]) -> Result<Self> {
        let map = Map::from_script(value).map_err(|error| bad_argument(format!("options: {}", error.message)))?;
        for key in map.keys() {
            if !rows.iter().any(|row| row.name == key.as_str()) {
                let near = || nearest(key, rows.iter().map(|row| row.name)).map(|name| format!("did you mean `{name}`?"));
                let known = rows.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
                let shown: String = key.chars().take(40).collect();
                return Err(Error::new(Kind::BadArgument, format!("unknown option `{}`; the options are: {known}", shown.escape_debug()))
                    .with_hint(other_name(key, rows).map(str::to_owned).or_else(near).unwrap_or_default()));
            }
        }
        Ok(Self { map, rows })
    }
    /// Takes one option.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] when its value does not fit.
    pub fn take<T: FromScript>(&mut self, name: &str) -> Result<Option<T>> {
        debug_assert!(self.rows.iter().any(|row| row.name == name));
        match self.map.remove(name) {
            None => Ok(None),
            Some(value) => T::from_script(value).map(Some).map_err(|error| bad_argument(format!("option `{name}`: {}", error.message))),
        }
    }
}

/// What options are called elsewhere: the name, an option that a function has, and what is to be written if it has it.
const OTHER_NAMES: &[(&str, &str, &str)] = &[
    ("min_size", "size", "`size: \">1M\"`"),
    ("larger_than", "size", "`size: \">1M\"`"),
    ("bigger_than", "size", "`size: \">1M\"`"),
    ("max_size", "size", "`size: \"<1M\"`"),
    ("smaller_than", "size", "`size: \"<1M\"`"),
    ("older_than", "mtime", "`mtime: \">25d\"`"),
    ("min_age", "mtime", "`mtime: \">25d\"`"),
    ("newer_than", "mtime", "`mtime: \"<1d\"`"),
    ("max_age", "mtime", "`mtime: \"<1d\"`"),
    ("delimiter", "delim", "did you mean `delim`?"),
    ("separator", "delim", "did you mean `delim`?"),
    ("sep", "delim", "did you mean `delim`?"),
    ("sep", "separator", "did you mean `separator`?"),
    ("delim", "separator", "did you mean `separator`?"),
    ("delimiter", "separator", "did you mean `separator`?"),
    ("depth", "max_depth", "did you mean `max_depth`?"),
    ("maxdepth", "max_depth", "did you mean `max_depth`?"),
    ("human", "si", "`human_size(bytes)` makes text of a size"),
    ("human", "long", "`human_size(bytes)` makes text of a size"),
    ("human", "max_depth", "`human_size(bytes)` makes text of a size"),
    ("timeout", "seconds", "did you mean `seconds`?"),
    ("seconds", "timeout", "did you mean `timeout`?"),
    ("regexp", "pattern", "did you mean `pattern`?"),
    ("regex", "pattern", "did you mean `pattern`?"),
    ("regexp", "regex", "did you mean `regex`?"),
    ("regex", "fixed", "patterns are regular expressions unless `fixed: true` is given"),
    ("regexp", "fixed", "patterns are regular expressions unless `fixed: true` is given"),
    ("literal", "fixed", "did you mean `fixed`?"),
    ("gzip", "compress", "`compress: \"gz\"`"),
    ("count", "n", "did you mean `n`?"),
    ("lines", "n", "did you mean `n`?"),
    ("limit", "n", "did you mean `n`?"),
    ("n", "limit", "did you mean `limit`?"),
    ("n", "count", "did you mean `count`?"),
    ("max", "limit", "did you mean `limit`?"),
    ("count", "limit", "did you mean `limit`?"),
    ("max_count", "limit", "did you mean `limit`?"),
    ("overwrite", "force", "did you mean `force`?"),
    ("overwrite", "replace", "did you mean `replace`?"),
    ("recurse", "recursive", "did you mean `recursive`?"),
    ("exist_ok", "parents", "did you mean `parents`?"),
    ("permissions", "mode", "did you mean `mode`?"),
    ("perms", "mode", "did you mean `mode`?"),
];

fn other_name(written: &str, rows: &[OptionRow]) -> Option<&'static str> {
    let fits = |(name, option, _): &&(&str, &str, &str)| *name == written && rows.iter().any(|row| row.name == *option);
    OTHER_NAMES.iter().find(fits).map(|(.., hint)| *hint)
}

/// The candidate most like a misspelt word, if any is like it.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4 || is_part(&word, candidate) || is_part(candidate, &word))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Whether a word begins or ends with a shorter one that is long enough to say something.
fn is_part(part: &str, whole: &str) -> bool {
    part.len() >= 3 && (whole.starts_with(part) || whole.ends_with(part))
}

/// The name of an option from that of its field: without the mark of a raw identifier.
#[must_use]
pub const fn option_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// A map of options as a struct: fields, defaults, parser, refusal of unknown keys and documentation from one list.
#[macro_export]
macro_rules! options {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty = $default:expr, $doc:literal $(, flags $flags:expr)?;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name { $(#[doc = $doc] pub $field: $type,)* }
        impl Default for $name {
            fn default() -> Self { Self { $($field: $default,)* } }
        }
        impl $crate::functions::value::FromScript for $name {
            const TYPE: &'static str = "a map of options";
            const OPTIONS: Option<&'static [$crate::functions::value::OptionRow]> = Some(&[$($crate::functions::value::OptionRow {
                name: $crate::functions::value::option_name(stringify!($field)),
                kind: <$type as $crate::functions::value::FromScript>::TYPE,
                default: stringify!($default),
                doc: $doc,
                flags: { #[allow(unused_mut, unused_assignments, reason = "most options have no flags")] let mut flags: &'static [&'static str] = &[]; $(flags = $flags;)? flags },
            },)*]);
            fn absent() -> Option<Self> { Some(Self::default()) }
            fn from_script(value: $crate::functions::value::Dynamic) -> $crate::error::Result<Self> {
                if value.is_unit() { return Ok(Self::default()); }
                let rows = <Self as $crate::functions::value::FromScript>::OPTIONS.unwrap_or(&[]);
                let mut reader = $crate::functions::value::OptionReader::new(value, rows)?;
                let default = Self::default();
                Ok(Self { $($field: reader.take($crate::functions::value::option_name(stringify!($field)))?.unwrap_or(default.$field),)* })
            }
        }
    };
}
