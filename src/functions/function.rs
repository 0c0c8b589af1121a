//! A script function as one row of plain data beside one plain Rust fn: [`Function`], its [`Body`], and the [`Call`] it gets.

use super::value::{Dynamic, FnPtr, FromScript, IntoScript, OptionRow};
use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::output::Output;
use crate::policy::{Action, Ask, Effect, Site, Value};
use crate::policy::{Gate, Granted, Walk};
use crate::sys::broker::Broker;
use rhai::NativeCallContext;
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

/// What every function of a run works with.
pub struct Host {
    pub gate: Gate,
    pub watch: Arc<Watch>,
    pub out: Arc<Output>,
    /// Starts programs; none where no policy of the caller permits any.
    pub broker: Option<Arc<Broker>>,
    pub redaction: crate::sys::redact::Source,
}

/// One script function.
pub struct Function {
    pub name: &'static str,
    /// First line: a summary. Markdown.
    pub doc: &'static str,
    pub body: &'static dyn Body,
    /// What it asks of the policy; asking for anything else is a denial.
    pub asks: &'static [Ask],
    /// Kinds of error it can give, besides `denied`, `bad_argument` and limits.
    pub fails: &'static [Kind],
    pub examples: &'static [Example],
}

/// An example that a test runs: with these files in a fresh folder `dir`, the script gives this.
pub struct Example {
    /// Names below `dir` and their contents; a name that ends in `/` is a folder.
    pub given: &'static [(&'static str, &'static str)],
    /// The script; `dir` is a constant that holds the folder.
    pub script: &'static str,
    /// A script expression whose value it must equal, or empty where the value depends on the host (it must then be no error).
    pub gives: &'static str,
}

/// A parameter as documented; its type comes from the Rust signature.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    pub name: &'static str,
    pub doc: &'static str,
}

#[must_use]
pub const fn param(name: &'static str, doc: &'static str) -> Param {
    Param { name, doc }
}

/// A parameter as the manual shows it.
#[derive(Clone, Copy, Debug)]
pub struct ParamRow {
    pub name: &'static str,
    pub doc: &'static str,
    pub kind: &'static str,
    pub optional: bool,
    pub options: Option<&'static [OptionRow]>,
}

/// The Rust side of a function.
pub trait Body: Sync + Send {
    fn params(&self) -> Vec<ParamRow>;
    /// # Errors
    /// What the function reports; arguments that do not fit are [`Kind::BadArgument`].
    fn call(&self, call: &Call<'_>, args: &mut [Dynamic]) -> Result<Dynamic>;
}

/// One call of a function: where it stands in the script, and the way to everything else.
pub struct Call<'a> {
    pub host: &'a Arc<Host>,
    pub function: &'static Function,
    pub line: u32,
    pub column: u32,
    context: Option<&'a NativeCallContext<'a>>,
    /// The script's own error, when a closure that it passed failed: it goes on unchanged.
    pub thrown: RefCell<Option<Box<rhai::EvalAltResult>>>,
}

impl<'a> Call<'a> {
    #[must_use]
    pub fn new(host: &'a Arc<Host>, function: &'static Function, context: Option<&'a NativeCallContext<'a>>) -> Self {
        let position = context.map_or(rhai::Position::NONE, NativeCallContext::call_position);
        let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        host.watch.note_depth(context.map_or(0, |context| context.call_level() as u64));
        Self { host, function, line: number(position.line()), column: number(position.position()), context, thrown: RefCell::new(None) }
    }
    /// This call, as the gate records it.
    #[must_use]
    pub fn site(&self) -> Site<'_> {
        Site { function: self.function.name, asks: self.function.asks, line: self.line, column: self.column }
    }
    /// Asks the policy: the only way to a [`Granted`].
    ///
    /// # Errors
    /// [`Kind::Denied`], or after an allow what stands in the way (it is missing).
    pub fn permit<A: Action>(&self, on: A::On) -> Result<Granted<A>> {
        self.host.gate.permit::<A>(&self.site(), on)
    }
    /// The same, with the verb's own context.
    ///
    /// # Errors
    /// As [`Call::permit`].
    pub fn permit_with<A: Action>(&self, on: A::On, context: Vec<(&'static str, Value)>) -> Result<Granted<A>> {
        self.host.gate.permit_with::<A>(&self.site(), on, context)
    }
    /// Begins a walk: the root and every denial are recorded, the rest as counts.
    ///
    /// # Errors
    /// As [`Call::permit`], for the root.
    pub fn walk<A: Action>(&self, root: &A::On) -> Result<Walk<'_, A>> {
        self.host.gate.walk::<A>(&self.site(), root)
    }
    /// Does what was granted and records what became of it; `bytes` and `detail` tell of a success.
    ///
    /// # Errors
    /// Those of the deed; [`Kind::Audit`] when it could not be recorded.
    pub fn effect<A: Action, T, D: Into<Cow<'static, str>>>(
        &self,
        granted: &Granted<A>,
        deed: impl FnOnce() -> Result<T>,
        tell: impl FnOnce(&T) -> (u64, D),
    ) -> Result<T> {
        if granted.held() {
            return Err(self.withhold(granted, "", None)?);
        }
        let began = std::time::Instant::now();
        let result = deed();
        let (bytes, detail) = result.as_ref().map_or((0, Cow::Borrowed("")), |done| {
            let (bytes, detail) = tell(done);
            (bytes, detail.into())
        });
        let failed = result.as_ref().err().map(|error| error.kind);
        self.host.gate.effect::<A>(
            &self.site(),
            granted.resource(),
            Effect { failed, bytes, duration: began.elapsed(), detail: &detail },
        )?;
        result
    }
    /// In a dry run: records that a granted change is not made, with what the verb does not tell and the difference it would make. What the call
    /// ends with, unless it has a result of its own to give.
    ///
    /// # Errors
    /// [`Kind::Audit`] when it could not be recorded.
    pub fn withhold<A: Action>(&self, granted: &Granted<A>, detail: &str, diff: Option<&str>) -> Result<Error> {
        self.host.gate.withhold(&self.site(), granted, detail, diff)?;
        Ok(crate::policy::stopped(granted))
    }
    /// Records what became of a granted thing, where success and failure are told in the same words.
    ///
    /// # Errors
    /// [`Kind::Audit`] when it could not be recorded.
    pub fn tell<A: Action>(&self, granted: &Granted<A>, began: std::time::Instant, failed: Option<Kind>, detail: &str) -> Result<()> {
        self.host.gate.effect::<A>(&self.site(), granted.resource(), Effect { failed, bytes: 0, duration: began.elapsed(), detail })
    }
    /// Ends the call when the run has to stop; every loop asks.
    ///
    /// # Errors
    /// The limit reached, or that the caller is gone.
    pub fn check(&self) -> Result<()> {
        if crate::sys::memory::over_limit() {
            self.host.watch.stop(crate::limits::Stop::Memory);
        }
        self.host.watch.check()
    }
    /// Calls a closure that the script passed.
    ///
    /// # Errors
    /// When the closure throws; what it threw goes on to the script unchanged.
    pub fn invoke(&self, closure: &FnPtr, args: Vec<Dynamic>) -> Result<Dynamic> {
        let Some(context) = self.context else { return Err(Error::new(Kind::Internal, "no script is running")) };
        self.check()?;
        closure.call_within_context::<Dynamic>(context, args).map_err(|error| {
            *self.thrown.borrow_mut() = Some(error);
            Error::new(Kind::Script, "the closure failed")
        })
    }
}

/// What became of one of several closures: its value, or its error as a script catches it.
pub type Branch = std::result::Result<Dynamic, Dynamic>;

/// How deep captured values may nest: a closure can capture itself.
const CAPTURED: usize = 32;

impl Call<'_> {
    /// Calls closures side by side, at most so many at one time, and gives what became of each, in order. All that began have ended when this
    /// returns.
    ///
    /// Each branch has copies of the variables that its closure captures, and they are constants there. Rhai's shared variables have locks that give
    /// up after a while, and parts of it panic then; what no two threads can reach needs none.
    ///
    /// # Errors
    /// What no script may catch; unless it is to keep going, the first error in order of those that began, and then no further closure is called.
    /// What was thrown goes on to the script unchanged.
    pub fn invoke_side_by_side(&self, closures: &[FnPtr], most: u32, keep_going: bool) -> Result<Vec<Branch>> {
        let Some(context) = self.context else { return Err(Error::new(Kind::Internal, "no script is running")) };
        let closures: Vec<FnPtr> = closures.iter().map(|closure| self.on_its_own(closure.clone(), CAPTURED)).collect::<Result<_>>()?;
        self.check()?;
        let watch = &*self.host.watch;
        let job = |at: usize| {
            let Some(closure) = closures.get(at) else { return Ok(Dynamic::UNIT) };
            let result = closure.call_within_context::<Dynamic>(context, ());
            // What no script may catch ends the others too, and those that wait.
            if let Err(error) = &result
                && !inner(error).is_catchable()
            {
                if matches!(inner(error), rhai::EvalAltResult::ErrorTooManyOperations(_)) {
                    watch.stop(crate::limits::Stop::Operations);
                }
                watch.end();
            }
            result.map(Dynamic::flatten)
        };
        let catchable = |error: &rhai::EvalAltResult| inner(error).is_catchable();
        let go_on = |result: &std::result::Result<Dynamic, Box<rhai::EvalAltResult>>| match result {
            Ok(_) => true,
            Err(error) => keep_going && catchable(error),
        };
        let mut results: Vec<_> =
            crate::sys::branches::side_by_side(watch, closures.len(), most, job, go_on).into_iter().flatten().collect();
        let first = |which: &dyn Fn(&rhai::EvalAltResult) -> bool| {
            results.iter().position(|result| result.as_ref().is_err_and(|error| which(error)))
        };
        let terminated = |error: &rhai::EvalAltResult| matches!(inner(error), rhai::EvalAltResult::ErrorTerminated(..));
        // A branch that was told to end knows no reason: the one that ended them all does.
        let ends = first(&|error| !catchable(error) && !terminated(error))
            .or_else(|| first(&|error| !catchable(error)))
            .or_else(|| if keep_going { None } else { first(&|_| true) });
        if let Some(at) = ends
            && let Err(error) = results.swap_remove(at)
        {
            *self.thrown.borrow_mut() = Some(error);
            return Err(Error::new(Kind::Script, "a closure failed"));
        }
        Ok(results.into_iter().map(|result| result.map_err(|error| caught(*error))).collect())
    }
    /// The closure with copies of what it captures, as constants.
    fn on_its_own(&self, mut closure: FnPtr, depth: usize) -> Result<FnPtr> {
        let captured: Vec<Dynamic> = closure
            .iter_curry()
            .map(|value| {
                let shared = value.is_shared();
                let own = self.copy_of(value.clone(), depth)?.into_read_only();
                Ok(if shared { own.into_shared() } else { own })
            })
            .collect::<Result<_>>()?;
        closure.set_curry(captured);
        Ok(closure)
    }
    /// A copy that shares no variable with anything else.
    fn copy_of(&self, value: Dynamic, depth: usize) -> Result<Dynamic> {
        self.check()?;
        let Some(depth) = depth.checked_sub(1) else {
            return Err(crate::error::bad_argument(format!("{}: captured values nest too deep", self.function.name)));
        };
        let value = if value.is_shared() { value.flatten_clone() } else { value };
        if value.is_shared() {
            return Err(crate::error::bad_argument(format!(
                "{}: a captured variable is being changed by this very call",
                self.function.name
            )));
        }
        if value.is_array() {
            let items = value.into_array().unwrap_or_default();
            return items.into_iter().map(|item| self.copy_of(item, depth)).collect::<Result<Vec<_>>>().map(Dynamic::from_array);
        }
        if value.is::<FnPtr>() {
            return value.try_cast::<FnPtr>().map_or(Ok(Dynamic::UNIT), |closure| self.on_its_own(closure, depth).map(Dynamic::from));
        }
        if value.is_map() {
            let map = value.try_cast::<super::value::Map>().unwrap_or_default();
            let copy = |(key, value)| Ok((key, self.copy_of(value, depth)?));
            return map.into_iter().map(copy).collect::<Result<super::value::Map>>().map(Dynamic::from_map);
        }
        Ok(value)
    }
}

/// The error inside the frames of function calls and modules.
fn inner(mut error: &rhai::EvalAltResult) -> &rhai::EvalAltResult {
    use rhai::EvalAltResult as E;
    while let E::ErrorInFunctionCall(_, _, within, _) | E::ErrorInModule(_, within, _) = error {
        error = within;
    }
    error
}

/// An error as a value of the script: what it threw, or for faults of the script itself a map like those of rex's errors.
fn caught(mut error: rhai::EvalAltResult) -> Dynamic {
    use rhai::EvalAltResult as E;
    while let E::ErrorInFunctionCall(_, _, within, _) | E::ErrorInModule(_, within, _) = error {
        error = *within;
    }
    if let E::ErrorRuntime(value, _) = error {
        return value;
    }
    let position = error.take_position();
    let number = |n: Option<usize>| n.and_then(|n| i64::try_from(n).ok()).unwrap_or(0).into_script();
    let mut map = super::value::record([("kind", Kind::Script.name().into_script()), ("message", error.to_string().into_script())]);
    if position.line().is_some() {
        let at = super::value::record([("line", number(position.line())), ("column", number(position.position()))]);
        map.insert("at".into(), at.into_script());
    }
    map.into_script()
}

impl Call<'_> {
    /// The kind of the error that a closure failed with: `script` for a value that the script threw itself and for faults of the script;
    /// nothing for what no script may catch.
    #[must_use]
    pub fn thrown_kind(&self) -> Option<String> {
        use rhai::EvalAltResult as E;
        let thrown = self.thrown.borrow();
        match inner(thrown.as_deref()?) {
            error if !error.is_catchable() => None,
            // Maps that are errors of rex have a place; a script's own map may say any kind.
            E::ErrorRuntime(value, _) => {
                let kind =
                    value.as_map_ref().ok().and_then(|map| map.get("kind")?.as_immutable_string_ref().ok().map(|kind| kind.to_string()));
                Some(kind.unwrap_or_else(|| Kind::Script.name().to_owned()))
            }
            _ => Some(Kind::Script.name().to_owned()),
        }
    }
}

macro_rules! arity {
    ($with:ident $make:ident $count:literal $($n:tt $arg:ident $param:ident),*) => {
        #[doc = concat!("A body of ", stringify!($count), " parameters.")]
        pub struct $with<$($arg,)* R> {
            run: fn(&Call<'_>, $($arg),*) -> Result<R>,
            params: [Param; $count],
        }
        #[doc = concat!("Makes a body of a fn with ", stringify!($count), " parameters.")]
        pub const fn $make<$($arg,)* R>(run: fn(&Call<'_>, $($arg),*) -> Result<R>, params: [Param; $count]) -> $with<$($arg,)* R> {
            $with { run, params }
        }
        impl<$($arg: FromScript,)* R: IntoScript> Body for $with<$($arg,)* R> {
            fn params(&self) -> Vec<ParamRow> {
                let kinds: [(&'static str, bool, Option<&'static [OptionRow]>); $count] = [$((<$arg>::TYPE, <$arg>::absent().is_some(), <$arg>::OPTIONS)),*];
                self.params.iter().zip(kinds).map(|(param, (kind, optional, options))| ParamRow { name: param.name, doc: param.doc, kind, optional, options }).collect()
            }
            #[allow(unused_variables, unused_mut, reason = "no parameters in the smallest arity")]
            fn call(&self, call: &Call<'_>, args: &mut [Dynamic]) -> Result<Dynamic> {
                let mut args = args.iter_mut().map(std::mem::take);
                $(let $param = argument::<$arg>(call, &self.params, $n, args.next())?;)*
                (self.run)(call, $($param),*).map(IntoScript::into_script)
            }
        }
    };
}

/// One argument, converted; the error says which parameter of which function.
fn argument<T: FromScript>(call: &Call<'_>, params: &[Param], at: usize, value: Option<Dynamic>) -> Result<T> {
    let name = params.get(at).map_or("?", |param| param.name);
    let function = call.function.name;
    match value {
        None => T::absent().ok_or_else(|| crate::error::bad_argument(format!("{function}: `{name}` is missing: expected {}", T::TYPE))),
        // Errors of options say themselves what they are about.
        Some(value) if T::OPTIONS.is_some() => {
            T::from_script(value).map_err(|error| Error { message: format!("{function}: {}", error.message), ..error })
        }
        Some(value) => T::from_script(value).map_err(|error| Error { message: format!("{function}: {name}: {}", error.message), ..error }),
    }
}

arity!(With0 with0 0);
arity!(With1 with1 1 0 A a);
arity!(With2 with2 2 0 A a, 1 B b);
arity!(With3 with3 3 0 A a, 1 B b, 2 C c);
arity!(With4 with4 4 0 A a, 1 B b, 2 C c, 3 D d);
arity!(With5 with5 5 0 A a, 1 B b, 2 C c, 3 D d, 4 E e);

impl Function {
    /// The fewest and the most arguments it takes.
    #[must_use]
    pub fn arity(&self) -> (usize, usize) {
        let params = self.body.params();
        (params.iter().take_while(|param| !param.optional).count(), params.len())
    }
    /// Its options, if it takes any.
    #[must_use]
    pub fn options(&self) -> Option<&'static [OptionRow]> {
        self.body.params().iter().find_map(|param| param.options)
    }
    /// `name(path, options?)`.
    #[must_use]
    pub fn signature(&self) -> String {
        let params = self.body.params();
        let shown: Vec<String> = params
            .iter()
            .map(|param| match (param.options, param.optional) {
                (Some(_), _) => "#{…}".to_owned(),
                (None, true) => format!("{}?", param.name),
                (None, false) => param.name.to_owned(),
            })
            .collect();
        format!("{}({})", self.name, shown.join(", "))
    }
}
