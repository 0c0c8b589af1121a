//! Only in builds with the feature `raw-syscall-door`: the attacker's function, a system call that no gate sees (tests/door.rs).

use super::function::{Call, Example, Function, param, with2};
use super::value::{Array, Blob, Dynamic, ImmutableString, IntoScript, Map};
use crate::error::{Result, bad_argument};
use crate::sys::door::{self, Word};

pub const FUNCTIONS: &[Function] = &[RAW_SYSCALL];

const RAW_SYSCALL: Function = Function {
    name: "raw_syscall",
    doc: "Makes a system call past the gate: rex-raw-syscall-door.\n\nAn int is passed as it is, a string or blob by its address, an array as the address of such words in a row. Gives `result` (an error as a negative number) and `bytes`, the strings and blobs afterwards.",
    body: &with2(raw_syscall, [param("number", "Its number on this architecture."), param("arguments", "At most six.")]),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[], script: "raw_syscall(-1, []).result < 0", gives: "true" }],
};

fn word(value: Dynamic) -> Result<Word> {
    if let Ok(number) = value.as_int() {
        return Ok(Word::Number(number));
    }
    if let Some(text) = value.clone().try_cast::<ImmutableString>() {
        return Ok(Word::Bytes(text.as_bytes().to_vec()));
    }
    if let Some(blob) = value.clone().try_cast::<Blob>() {
        return Ok(Word::Bytes(blob));
    }
    let words = value.try_cast::<Array>().ok_or_else(|| bad_argument("expected an int, string, blob or array"))?;
    words.into_iter().map(word).collect::<Result<_>>().map(Word::Words)
}

fn raw_syscall(_: &Call<'_>, number: i64, arguments: Array) -> Result<Map> {
    let mut words = arguments.into_iter().map(word).collect::<Result<Vec<Word>>>()?;
    let result = door::call(number, &mut words);
    let bytes: Array =
        words.into_iter().filter_map(|word| if let Word::Bytes(bytes) = word { Some(Dynamic::from_blob(bytes)) } else { None }).collect();
    let mut map = Map::new();
    map.insert("result".into(), result.into_script());
    map.insert("bytes".into(), Dynamic::from_array(bytes));
    Ok(map)
}
