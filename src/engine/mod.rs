//! The script runs: a raw Rhai engine with chosen packages and the functions of the table, under limits, with exact positions of errors.

pub mod check;
mod datetime;
mod handle;
mod hints;
mod kept;
mod library;
mod names;
mod register;
mod thrown;

pub use kept::Kept;
pub use library::Library;

use crate::error::{Error, Kind};
use crate::functions::function::Host;
use crate::functions::value::Dynamic;
use crate::functions::{convert, say};
use crate::limits::{Limits, Stop};
use crate::output::Form;
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicBlobPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, BasicMathPackage,
    BasicStringPackage, BasicTimePackage, BitFieldPackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{AST, Engine, EvalAltResult, ParseErrorType, Position, Scope};
use std::collections::HashMap;
use std::sync::Arc;
use thrown::Thrown;

/// How deep expressions may nest.
const MAX_EXPRESSION_DEPTH: usize = 64;

/// Rhai's own functions. Not the language-core package: its `sleep` cannot be interrupted and its tags would let scripts forge errors. `lazily`: looked up
/// when they are called first.
fn packages(engine: &mut Engine, lazily: bool) {
    macro_rules! register {
        ($($package:ident)*) => { $( if lazily { $package::new_lazy() } else { $package::new() }.register_into_engine(engine); )* };
    }
    register!(ArithmeticPackage LogicPackage BasicStringPackage MoreStringPackage BasicIteratorPackage BasicFnPackage);
    register!(BasicMathPackage BasicArrayPackage BasicBlobPackage BasicMapPackage BasicTimePackage BitFieldPackage);
}

/// How a script ended.
#[derive(Debug)]
pub struct Outcome {
    /// The final value as text; `None` for nothing.
    pub text: Option<String>,
    /// The final value, typed.
    pub value: serde_json::Value,
    /// What the script asked to exit with.
    pub exit: Option<u8>,
    pub failure: Option<Failure>,
}

/// An error that ended the script.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    /// Line and column, from 1; `None` where no place in the script is to blame.
    pub at: Option<(u32, u32)>,
    /// The value that the script itself threw, if it did.
    pub thrown: Option<serde_json::Value>,
}

impl Outcome {
    /// A run that failed before or outside its script.
    #[must_use]
    pub fn failed(error: Error) -> Self {
        Self { text: None, value: serde_json::Value::Null, exit: None, failure: Some(Failure { error, at: None, thrown: None }) }
    }
}

/// Whether a text is a script, whatever constants it will see: for the owner's runbooks, before anybody starts them.
///
/// # Errors
/// [`Kind::Compile`] with the place in front.
pub fn syntax(script: &str, limits: &crate::limits::Limits) -> crate::error::Result<()> {
    let mut engine = Engine::new_raw();
    engine.set_optimization_level(rhai::OptimizationLevel::None);
    engine.disable_symbol("eval");
    set_limits(&mut engine, limits);
    engine.compile(script).map(drop).map_err(|error| {
        let place = place(error.1).map(|(line, column)| format!("{line}:{column}: ")).unwrap_or_default();
        Error::new(Kind::Compile, format!("{place}{}", lower_first(&error.0.to_string())))
    })
}

/// An engine for one run.
pub struct Runner {
    engine: Engine,
    host: Arc<Host>,
    thrown: Arc<Thrown>,
}

impl Runner {
    /// Builds the engine for this script: nothing of Rhai that reaches the host is in it.
    #[must_use]
    pub fn new(host: Arc<Host>, library: Option<Library>, script: &str) -> Self {
        Self::with_names(host, library, &names::Names::of(script))
    }

    /// The same for a script that can call whatever there is: closures that were made elsewhere.
    #[must_use]
    pub fn with_everything(host: Arc<Host>, library: Option<Library>) -> Self {
        Self::with_names(host, library, &names::Names::all())
    }

    fn with_names(host: Arc<Host>, library: Option<Library>, names: &names::Names<'_>) -> Self {
        let thrown = Arc::new(Thrown::new(Arc::clone(&host.watch)));
        let mut engine = Engine::new_raw();
        packages(&mut engine, names.few());
        // Rhai's optimiser is quadratic in the number of statements and cannot be interrupted.
        engine.set_optimization_level(rhai::OptimizationLevel::None);
        engine.disable_symbol("eval").set_strict_variables(true).set_fail_on_invalid_map_property(false);
        set_limits(&mut engine, &host.watch.limits);
        register::functions(&mut engine, &host, &thrown, names);
        register::language(&mut engine, &host, &thrown);
        match library {
            Some(library) => engine.set_module_resolver(library),
            None => engine.set_module_resolver(rhai::module_resolvers::DummyModuleResolver::new()),
        };
        let (watch, over) = (Arc::clone(&host.watch), Arc::clone(&thrown));
        engine.on_progress(move |_| {
            if crate::sys::memory::over_limit() {
                watch.stop(Stop::Memory);
            }
            watch.step();
            crate::sys::overflow::count_stack();
            (over.ended() || watch.stopping().is_some()).then_some(Dynamic::UNIT)
        });
        Self { engine, host, thrown }
    }

    /// Compiles a script whose constants are known: its functions see them too.
    ///
    /// # Errors
    /// The syntax error with its place.
    pub fn compile(&self, script: &str, constants: &[(String, Dynamic)]) -> Result<AST, Box<Failure>> {
        self.compile_in(&scope_of(constants), script)
    }

    fn compile_in(&self, scope: &Scope<'_>, script: &str) -> Result<AST, Box<Failure>> {
        self.engine.compile_with_scope(scope, script).map_err(|error| {
            let at = place(error.1);
            let error = match *error.0 {
                ParseErrorType::BadInput(rhai::LexError::ImproperSymbol(ref symbol, _)) if symbol == "eval" => {
                    Error::new(Kind::Compile, "`eval` is not part of the language here")
                }
                ref kind => Error::new(Kind::Compile, lower_first(&kind.to_string()))
                    .with_hint(hints::of_compile(kind, script, at).unwrap_or_default()),
            };
            Box::new(Failure { error, at, thrown: None })
        })
    }

    /// Compiles and runs a script.
    #[must_use]
    pub fn run(self, script: &str, constants: &[(String, Dynamic)]) -> Outcome {
        let runner = self.with_constants(constants);
        match runner.compile(script, constants) {
            Ok(ast) => runner.run_compiled(&ast, constants),
            Err(failure) => Outcome { failure: Some(*failure), ..Outcome::failed(Error::new(Kind::Compile, "")) },
        }
    }

    /// Lets the script's functions see the constants too.
    fn with_constants(mut self, constants: &[(String, Dynamic)]) -> Self {
        if constants.is_empty() {
            return self;
        }
        let values: HashMap<String, Dynamic> = constants.iter().cloned().collect();
        // The hook is a volatile interface of Rhai in name only; it is the documented way to give functions values from outside.
        #[allow(deprecated, reason = "marked as volatile, not as going away")]
        self.engine.on_var(move |name, _, context| {
            Ok(if context.scope().contains(name) { None } else { values.get(name).cloned().map(Dynamic::into_read_only) })
        });
        self
    }

    /// Runs what [`Runner::compile`] made.
    #[must_use]
    pub fn run_compiled(&self, ast: &AST, constants: &[(String, Dynamic)]) -> Outcome {
        self.run_in(&mut scope_of(constants), ast)
    }

    fn run_in(&self, scope: &mut Scope<'static>, ast: &AST) -> Outcome {
        let result = self.engine.eval_ast_with_scope::<Dynamic>(scope, ast);
        let result = result.and_then(|value| self.finish(value));
        match result {
            Ok((text, value)) => Outcome { text, value, exit: None, failure: None },
            Err(error) => self.ended(*error, ast),
        }
    }

    /// The final value as text and JSON, within the run's limits.
    fn finish(&self, value: Dynamic) -> Result<(Option<String>, serde_json::Value), Box<EvalAltResult>> {
        let ended = || Box::new(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE));
        // What the last statement did may have gone past a limit, or may not have reached the caller.
        if crate::sys::memory::over_limit() {
            self.host.watch.stop(Stop::Memory);
        }
        if self.host.watch.stopping().is_some() || self.thrown.ended() {
            return Err(ended());
        }
        if value.is_unit() {
            return Ok((None, serde_json::Value::Null));
        }
        let typed = convert::to_json(&value);
        // For people, what is a table is shown as one.
        let sheet = if self.host.out.form() == Form::Human { say::sheet(&value) } else { None };
        let text = sheet.unwrap_or_else(|| convert::display(&value));
        match self.host.watch.check() {
            Ok(()) => Ok((Some(text), typed)),
            Err(_) => Err(ended()),
        }
    }

    /// What an error of the engine means.
    fn ended(&self, error: EvalAltResult, ast: &AST) -> Outcome {
        let at = nearest_place(&error);
        let fail = |error: Error, thrown| Outcome {
            failure: Some(Failure { error, at, thrown }),
            ..Outcome::failed(Error::new(Kind::Script, ""))
        };
        if let Some(why) = self.host.watch.stopping() {
            return fail(why.error(&self.host.watch.limits), None);
        }
        if let Some(error) = self.thrown.fatal() {
            return fail(error, None);
        }
        if let Some(code) = self.thrown.exit() {
            return Outcome { text: None, value: serde_json::Value::Null, exit: Some(code), failure: None };
        }
        let limits = &self.host.watch.limits;
        match innermost(&error) {
            EvalAltResult::ErrorRuntime(value, _) => match self.thrown.original(value) {
                Some(original) => fail(original, None),
                None => fail(Error::new(Kind::Script, convert::thrown_message(value)), Some(convert::to_json(value))),
            },
            EvalAltResult::ErrorTooManyOperations(_) => fail(Stop::Operations.error(limits), None),
            EvalAltResult::ErrorStackOverflow(_) => {
                fail(Error::new(Kind::Limit, format!("the limit of {} nested calls was reached", limits.depth)), None)
            }
            EvalAltResult::ErrorDataTooLarge(what, _) => {
                fail(Error::new(Kind::Limit, format!("a value grew too large ({})", what.to_lowercase())), None)
            }
            EvalAltResult::ErrorTooManyVariables(_) => fail(Error::new(Kind::Limit, "too many variables"), None),
            EvalAltResult::ErrorTooManyModules(_) => fail(Error::new(Kind::Limit, "too many modules"), None),
            EvalAltResult::ErrorFunctionNotFound(signature, _) => fail(hints::unknown_function(signature), None),
            EvalAltResult::ErrorParsing(kind, _) => fail(Error::new(Kind::Compile, lower_first(&kind.to_string())), None),
            EvalAltResult::ErrorModuleNotFound(name, _) => {
                let error_here = Error::new(Kind::Script, format!("no module `{}` in the library of this host", name.escape_debug()));
                fail(with_hint(error_here, &error), None)
            }
            EvalAltResult::LoopBreak(..) => fail(Error::new(Kind::Script, "`break` or `continue` outside a loop"), None),
            EvalAltResult::Exit(..) | EvalAltResult::Return(..) => {
                Outcome { text: None, value: serde_json::Value::Null, exit: None, failure: None }
            }
            // Rhai tells the function only, not the place.
            EvalAltResult::ErrorDataRace(what, _) => {
                let name = what.split('\'').nth(1).unwrap_or("the call");
                let message = format!("the closure of `{name}` uses a variable that the call is working on");
                let at = at.or_else(|| check::only_call(ast, name).and_then(place));
                let error = with_hint(Error::new(Kind::Script, message), &error);
                Outcome { failure: Some(Failure { error, at, thrown: None }), ..Outcome::failed(Error::new(Kind::Script, "")) }
            }
            other => fail(with_hint(Error::new(Kind::Script, engine_message(other)), other), None),
        }
    }
}

fn with_hint(error: Error, of: &EvalAltResult) -> Error {
    error.with_hint(hints::of_run(innermost(of)).unwrap_or_default())
}

/// Rhai's own words for an error, without the position, in our style.
fn engine_message(error: &EvalAltResult) -> String {
    let mut bare = clone_without_position(error);
    let _ = bare.clear_position();
    lower_first(&bare.to_string())
}

fn clone_without_position(error: &EvalAltResult) -> EvalAltResult {
    use EvalAltResult as E;
    let none = Position::NONE;
    match error {
        E::ErrorVariableNotFound(name, _) => E::ErrorVariableNotFound(name.clone(), none),
        E::ErrorPropertyNotFound(name, _) => E::ErrorPropertyNotFound(name.clone(), none),
        E::ErrorIndexNotFound(value, _) => E::ErrorIndexNotFound(value.clone(), none),
        E::ErrorMismatchDataType(a, b, _) => E::ErrorMismatchDataType(a.clone(), b.clone(), none),
        E::ErrorMismatchOutputType(a, b, _) => E::ErrorMismatchOutputType(a.clone(), b.clone(), none),
        E::ErrorIndexingType(a, _) => E::ErrorIndexingType(a.clone(), none),
        E::ErrorArrayBounds(a, b, _) => E::ErrorArrayBounds(*a, *b, none),
        E::ErrorStringBounds(a, b, _) => E::ErrorStringBounds(*a, *b, none),
        E::ErrorBitFieldBounds(a, b, _) => E::ErrorBitFieldBounds(*a, *b, none),
        E::ErrorArithmetic(text, _) => E::ErrorArithmetic(text.clone(), none),
        other => E::ErrorRuntime(other.to_string().split(" (line ").next().unwrap_or("").to_owned().into(), none),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    format!("{first}{}", chars.as_str().replace('\n', " "))
}

fn set_limits(engine: &mut Engine, limits: &Limits) {
    engine
        .set_max_operations(limits.operations)
        .set_max_call_levels(limits.depth as usize)
        .set_max_expr_depths(MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_DEPTH)
        // The sizes of values are held by the memory limit. Rhai's own check counts a whole array anew at every step that touches it.
        .set_max_string_size(0)
        .set_max_array_size(0)
        .set_max_map_size(0)
        .set_max_variables(4096)
        .set_max_functions(1024)
        .set_max_modules(32);
}

fn scope_of(constants: &[(String, Dynamic)]) -> Scope<'static> {
    let mut scope = Scope::new();
    for (name, value) in constants {
        scope.push_constant_dynamic(name.clone(), value.clone());
    }
    scope
}

/// The error inside the frames of function calls and modules.
fn innermost(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => innermost(inner),
        other => other,
    }
}

/// The place of the innermost frame that has one.
fn nearest_place(error: &EvalAltResult) -> Option<(u32, u32)> {
    let inside = match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => nearest_place(inner),
        _ => None,
    };
    inside.or_else(|| place(error.position()))
}

fn place(position: Position) -> Option<(u32, u32)> {
    let line = u32::try_from(position.line()?).ok()?;
    Some((line, position.position().and_then(|column| u32::try_from(column).ok()).unwrap_or(1)))
}
