//! `import`: only from the owner's `scripts/lib`, never from a path that a script chooses.

use rhai::{Engine, EvalAltResult, Module, ModuleResolver, Position, Scope};
use std::sync::Arc;

/// Gives the text of a library module by its name (`net/probe` for `scripts/lib/net/probe.rhai`), or nothing.
pub type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The owner's library of script modules.
pub struct Library {
    pub lookup: Box<Lookup>,
}

impl ModuleResolver for Library {
    fn resolve(&self, engine: &Engine, _: Option<&str>, name: &str, position: Position) -> Result<Arc<Module>, Box<EvalAltResult>> {
        let unknown = || Box::new(EvalAltResult::ErrorModuleNotFound(name.to_owned(), position));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if !name.split('/').all(plain) {
            return Err(unknown());
        }
        let text = (self.lookup)(name).ok_or_else(unknown)?;
        let ast = engine.compile(text).map_err(|error| EvalAltResult::ErrorParsing(*error.0, position))?;
        Ok(Module::eval_ast_as_new(Scope::new(), &ast, engine)?.into())
    }
}
