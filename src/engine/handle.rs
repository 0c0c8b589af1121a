//! Open files in the language: their names, their text, and `for line in file.lines()`.

use super::register::raise;
use super::thrown::Thrown;
use crate::functions::handle::{Handle, Lines};
use crate::functions::value::{Dynamic, ImmutableString};
use rhai::{Engine, EvalAltResult, Module, Position};
use std::any::TypeId;
use std::sync::Arc;

/// Registers the types.
pub fn register(engine: &mut Engine, thrown: &Arc<Thrown>) {
    engine
        .register_type_with_name::<Handle>("File")
        .register_fn("to_string", |file: &mut Handle| file.to_string())
        .register_fn("print", |file: &mut Handle| file.to_string())
        .register_fn("to_debug", |file: &mut Handle| file.to_string())
        .register_fn("debug", |file: &mut Handle| file.to_string())
        .register_type_with_name::<Lines>("Lines")
        .register_fn("to_string", |lines: &mut Lines| lines.to_string())
        .register_fn("print", |lines: &mut Lines| lines.to_string())
        .register_fn("to_debug", |lines: &mut Lines| lines.to_string())
        .register_fn("debug", |lines: &mut Lines| lines.to_string());
    // Whoever means a file would silently shorten a copy of its name.
    engine.register_fn("truncate", |text: &mut ImmutableString, length: i64| -> Result<(), Box<EvalAltResult>> {
        if text.starts_with('/') {
            return Err("truncate: for a file write truncate(path, #{size: bytes}); to shorten text that begins with `/` use `crop`".into());
        }
        if let Some((cut, _)) = text.char_indices().nth(usize::try_from(length).unwrap_or(0)) {
            *text = text.get(..cut).unwrap_or_default().into();
        }
        Ok(())
    });
    let mut module = Module::new();
    let thrown = Arc::clone(thrown);
    module.set_iter_result(TypeId::of::<Lines>(), move |lines: Dynamic| {
        let Some(lines) = lines.try_cast::<Lines>() else { return Box::new(std::iter::empty()) };
        let (thrown, at) = (Arc::clone(&thrown), (lines.line, lines.column));
        Box::new(lines.map(move |line| line.map_err(|error| raise(error, &thrown, at, Position::NONE))))
    });
    engine.register_global_module(module.into());
}
