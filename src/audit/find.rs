//! One record by the reference of a denial, from a file of records.

use super::show::{lines, parse};
use crate::error::Result;
use serde_json::{Map, Value};
use std::io::BufRead;

/// The record of the denial that has this reference; of several the last.
///
/// # Errors
/// When the input cannot be read.
pub fn find_denial(input: impl BufRead, reference: &str) -> Result<Option<Map<String, Value>>> {
    let mut found = None;
    lines(input, |_, line| {
        // Most lines are of no use: a look at the bytes is enough.
        if line.is_some_and(|line| line.windows(reference.len()).any(|part| part == reference.as_bytes()))
            && let Ok(record) = parse(line)
            && record.get("ref").and_then(Value::as_str) == Some(reference)
            && record.get("event").and_then(Value::as_str) == Some("decision")
        {
            found = Some(record);
        }
        Ok(())
    })?;
    Ok(found)
}
