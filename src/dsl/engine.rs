//! The Rhai engine: chosen packages, limits, comparison traps, and every verb of the table.
//!
//! Built from `new_raw`: no clock, no sleep, no eval, no import, no optimizer (it would run functions at compile
//! time and drop what lints must see). Fast operators are off, or the traps would be passed by.

use super::failure::Failure;
use super::filter::json;
use super::host::{Host, SCRIPT_TIME};
use super::invocation::{Invocation, wrong_count};
use super::kind::Kind;
use super::table::{self, Entry, Form, MOST_ARGUMENTS};
use super::{operators, show, values};
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicBlobPackage, BasicFnPackage, BasicIteratorPackage,
    BasicMapPackage, BasicMathPackage, BasicStringPackage, LogicPackage, MoreStringPackage,
    Package,
};
use rhai::{
    AST, Array, Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, Map, NativeCallContext,
    OptimizationLevel, ParseError, Scope,
};
use std::any::TypeId;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What one script may use.
pub const MAX_OPERATIONS: u64 = 5_000_000;
pub const MAX_CALL_DEPTH: usize = 64;
pub const MAX_TEXT: usize = 1 << 20;
pub const MAX_ITEMS: usize = 100_000;
/// A record's value may be as large as a broker takes, so filters see longer texts.
pub const MAX_RECORD_TEXT: usize = 128 << 20;

/// Keywords of Rhai that kbr does not have. `until` is refused by Rhai itself where it is not a loop's.
const DISABLED: [&str; 3] = ["eval", "import", "export"];

/// What every engine here has in common: language, limits, comparisons, texts of values.
fn base_engine() -> Engine {
    let mut engine = Engine::new_raw();
    engine.register_global_module(ArithmeticPackage::new().as_shared_module());
    engine.register_global_module(LogicPackage::new().as_shared_module());
    engine.register_global_module(BasicMathPackage::new().as_shared_module());
    engine.register_global_module(BasicStringPackage::new().as_shared_module());
    engine.register_global_module(MoreStringPackage::new().as_shared_module());
    engine.register_global_module(BasicIteratorPackage::new().as_shared_module());
    engine.register_global_module(BasicFnPackage::new().as_shared_module());
    engine.register_global_module(BasicArrayPackage::new().as_shared_module());
    engine.register_global_module(BasicBlobPackage::new().as_shared_module());
    engine.register_global_module(BasicMapPackage::new().as_shared_module());

    engine
        .set_optimization_level(OptimizationLevel::None)
        .set_fast_operators(false)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .set_allow_shadowing(true)
        .set_max_operations(MAX_OPERATIONS)
        .set_max_call_levels(MAX_CALL_DEPTH)
        .set_max_expr_depths(64, 64)
        .set_max_string_size(MAX_TEXT)
        .set_max_array_size(MAX_ITEMS)
        .set_max_map_size(MAX_ITEMS)
        .set_max_variables(1_000)
        .set_max_functions(1_000)
        .set_max_modules(0);
    for symbol in DISABLED {
        engine.disable_symbol(symbol);
    }
    register_types(&mut engine);
    operators::register(&mut engine);
    engine
}

/// For compiling only: `check` and the parse before an evaluation.
pub fn parser() -> Engine {
    base_engine()
}

/// The engine that closures over records and names run in: no verbs, no print, no environment.
pub fn closure_engine() -> Engine {
    let mut engine = base_engine();
    engine.set_max_string_size(MAX_RECORD_TEXT);
    for entry in table::members(Kind::Record) {
        register_entry(&mut engine, entry, None);
    }
    for entry in table::entries().filter(|entry| entry.on.is_none() && is_pure_helper(entry)) {
        register_entry(&mut engine, entry, None);
    }
    for on in [Kind::Duration, Kind::Instant, Kind::Size] {
        for entry in table::members(on) {
            register_entry(&mut engine, entry, None);
        }
    }
    engine
}

/// `r.value.amount`: a property of a text is a member of the JSON in it. The engine has no indexer for texts, so each
/// name that the text of a closure asks for after a dot is registered.
pub fn register_json<'a>(engine: &mut Engine, names: impl IntoIterator<Item = &'a str>) {
    let text = TypeId::of::<ImmutableString>();
    for name in names {
        let name = name.to_string();
        let getter = format!("get${name}");
        // Texts have these themselves. As a property each would hide a member of the JSON by the same name.
        if json::TEXT_PROPERTIES.contains(&name.as_str()) {
            engine.register_raw_fn(getter, [text], move |context, _| {
                Err::<Dynamic, _>(json_property_of_text(&name).raise(context.call_position()))
            });
            continue;
        }
        engine.register_raw_fn(getter, [text], move |context, arguments| {
            let text = arguments[0].clone().into_string().unwrap_or_default();
            json::member(&text, &name).map_err(|failure| failure.raise(context.call_position()))
        });
    }
}

fn json_property_of_text(name: &str) -> Failure {
    Failure::script("E0203", format!("`{name}` of text is called")).help(format!(
        "write .{name}(), or .json(\"$.{name}\") for the member of JSON"
    ))
}

/// Helpers that read nothing but their arguments; closures may use them.
pub fn is_pure_helper(entry: &Entry) -> bool {
    entry.on.is_none()
        && matches!(
            entry.name,
            "hours"
                | "minutes"
                | "days"
                | "seconds"
                | "ms"
                | "bytes"
                | "kib"
                | "mib"
                | "gib"
                | "parse_json"
                | "matches"
        )
}

/// The engine a runbook is evaluated in.
pub fn runbook_engine(host: &Arc<Host>, ast: &Arc<OnceLock<Arc<AST>>>) -> Engine {
    let mut engine = base_engine();
    for entry in table::entries() {
        register_entry(&mut engine, entry, Some((host.clone(), ast.clone())));
    }
    register_arguments(&mut engine);

    let printer = host.clone();
    engine.on_print(move |text| printer.print(text));
    let debugger = host.clone();
    engine.on_debug(move |text, _, _| debugger.print(text));

    let watched = host.clone();
    let started = Instant::now();
    engine.on_progress(move |operations| {
        if watched.is_latched() || watched.cancel.is_cancelled() {
            return Some(Dynamic::UNIT);
        }
        // The clock is looked at now and then only.
        if operations % 4_096 == 0 && time_is_up(started, watched.waited()) {
            return Some(Dynamic::from(time_limit()));
        }
        None
    });
    engine
}

fn time_is_up(started: Instant, waited: Duration) -> bool {
    started.elapsed().saturating_sub(waited) > SCRIPT_TIME
}

fn time_limit() -> Failure {
    Failure::script(
        "E0220",
        format!(
            "the script computes for more than {} s",
            SCRIPT_TIME.as_secs()
        ),
    )
    .help("a runbook decides, it does not compute: look for a loop without an end")
}

/// Compiles a script. `args` is in scope, so that it is known to strict variables.
pub fn compile(engine: &Engine, text: &str) -> Result<AST, ParseError> {
    let mut scope = Scope::new();
    scope.push_constant("args", ());
    engine.compile_with_scope(&scope, text)
}

fn register_types(engine: &mut Engine) {
    fn named<T: Clone + Send + Sync + 'static>(engine: &mut Engine, kind: Kind) {
        engine.register_type_with_name::<T>(kind.word());
        for name in ["to_string", "print", "to_debug", "debug"] {
            engine.register_raw_fn(name, [TypeId::of::<T>()], |_, arguments| {
                Ok(ImmutableString::from(show::text(arguments[0])))
            });
        }
    }
    named::<values::Duration>(engine, Kind::Duration);
    named::<values::Instant>(engine, Kind::Instant);
    named::<values::Size>(engine, Kind::Size);
    named::<values::SecretValue>(engine, Kind::Secret);
    named::<values::ArgumentsValue>(engine, Kind::Arguments);
    named::<values::Cluster>(engine, Kind::Cluster);
    named::<values::Topic>(engine, Kind::Topic);
    named::<values::Group>(engine, Kind::Group);
    named::<values::Lag>(engine, Kind::Lag);
    named::<values::GroupLag>(engine, Kind::GroupLag);
    named::<values::Member>(engine, Kind::Member);
    named::<values::PartitionLog>(engine, Kind::PartitionLog);
    named::<values::AclValue>(engine, Kind::Acl);
    named::<values::QuotaValue>(engine, Kind::Quota);
    named::<values::StoreValue>(engine, Kind::Store);
    named::<values::GenerationValue>(engine, Kind::Generation);
    named::<values::SnapshotValue>(engine, Kind::Snapshot);
    named::<values::PrunedValue>(engine, Kind::Pruned);
    named::<values::Backup>(engine, Kind::Backup);
    named::<values::BackedUp>(engine, Kind::BackedUp);
    named::<values::Restore>(engine, Kind::Restore);
    named::<values::Restored>(engine, Kind::Restored);
    named::<values::OffsetPlan>(engine, Kind::OffsetPlan);
    named::<values::OffsetRow>(engine, Kind::OffsetRow);
    named::<values::RecordValue>(engine, Kind::Record);
    named::<Failure>(engine, Kind::Failure);
    // Printing an offset plan makes it, and that may need what only execution can tell.
    for name in ["to_string", "print", "to_debug", "debug"] {
        engine.register_raw_fn(
            name,
            [TypeId::of::<values::OffsetPlan>()],
            |context, arguments| {
                if let Some(plan) = arguments[0].read_lock::<values::OffsetPlan>() {
                    plan.ready(context.call_position())?;
                }
                Ok(ImmutableString::from(show::text(arguments[0])))
            },
        );
    }
    // Lists and maps print as tables; these overloads are looked at before the packages'.
    for (name, of) in [
        ("print", TypeId::of::<Array>()),
        ("print", TypeId::of::<Map>()),
    ] {
        engine.register_raw_fn(name, [of], |_, arguments| {
            Ok(ImmutableString::from(show::text(arguments[0])))
        });
    }
}

/// The type id that carries a kind, for receivers.
fn type_id(kind: Kind) -> TypeId {
    match kind {
        Kind::Duration => TypeId::of::<values::Duration>(),
        Kind::Instant => TypeId::of::<values::Instant>(),
        Kind::Size => TypeId::of::<values::Size>(),
        Kind::Secret => TypeId::of::<values::SecretValue>(),
        Kind::Arguments => TypeId::of::<values::ArgumentsValue>(),
        Kind::Cluster => TypeId::of::<values::Cluster>(),
        Kind::Topic => TypeId::of::<values::Topic>(),
        Kind::Group => TypeId::of::<values::Group>(),
        Kind::Lag => TypeId::of::<values::Lag>(),
        Kind::GroupLag => TypeId::of::<values::GroupLag>(),
        Kind::Member => TypeId::of::<values::Member>(),
        Kind::PartitionLog => TypeId::of::<values::PartitionLog>(),
        Kind::Acl => TypeId::of::<values::AclValue>(),
        Kind::Quota => TypeId::of::<values::QuotaValue>(),
        Kind::Store => TypeId::of::<values::StoreValue>(),
        Kind::Generation => TypeId::of::<values::GenerationValue>(),
        Kind::Snapshot => TypeId::of::<values::SnapshotValue>(),
        Kind::Backup => TypeId::of::<values::Backup>(),
        Kind::BackedUp => TypeId::of::<values::BackedUp>(),
        Kind::Restore => TypeId::of::<values::Restore>(),
        Kind::Restored => TypeId::of::<values::Restored>(),
        Kind::OffsetPlan => TypeId::of::<values::OffsetPlan>(),
        Kind::OffsetRow => TypeId::of::<values::OffsetRow>(),
        Kind::Record => TypeId::of::<values::RecordValue>(),
        Kind::Failure => TypeId::of::<Failure>(),
        Kind::Text => TypeId::of::<ImmutableString>(),
        Kind::Number => TypeId::of::<i64>(),
        Kind::Closure => TypeId::of::<FnPtr>(),
        _ => TypeId::of::<Dynamic>(),
    }
}

type Surroundings = Option<(Arc<Host>, Arc<OnceLock<Arc<AST>>>)>;

/// Registers one entry for every number of arguments, so that a wrong number is an error in our words.
fn register_entry(engine: &mut Engine, entry: &'static Entry, around: Surroundings) {
    let receiver = entry.on.map(type_id);
    if entry.is_property() {
        engine.register_raw_fn(
            format!("get${}", entry.name),
            receiver.as_slice(),
            move |context, arguments| invoke(entry, &around, &context, arguments),
        );
        return;
    }
    for count in 0..=MOST_ARGUMENTS + 1 {
        let mut types: Vec<TypeId> = receiver.into_iter().collect();
        types.extend(std::iter::repeat_n(TypeId::of::<Dynamic>(), count));
        let around = around.clone();
        engine.register_raw_fn(entry.name, &types, move |context, arguments| {
            let (least, most) = entry.arity();
            if count < least || count > most {
                return Err(wrong_count(entry, count).raise(context.call_position()));
            }
            invoke(entry, &around, &context, arguments)
        });
    }
}

fn invoke(
    entry: &'static Entry,
    around: &Surroundings,
    context: &NativeCallContext,
    arguments: &mut [&mut Dynamic],
) -> Result<Dynamic, Box<EvalAltResult>> {
    let position = context.call_position();
    let (receiver, arguments) = match entry.on {
        Some(_) => {
            let (first, rest) = arguments.split_at_mut(1);
            (Some(first[0].flatten_clone()), rest)
        }
        None => (None, arguments),
    };
    let arguments: Vec<Dynamic> = arguments
        .iter_mut()
        // Copied: the first argument of a function is the script's own variable, which lives on.
        .map(|argument| argument.flatten_clone())
        .collect();
    let host = around.as_ref().map(|(host, _)| host);
    if let Some((latched, at)) = host.and_then(|host| host.latched()) {
        return Err(latched.raise(at));
    }
    let invocation = Invocation {
        host,
        entry,
        receiver,
        arguments,
        position,
        ast: around.as_ref().and_then(|(_, ast)| ast.get()),
    };
    let outcome = invocation.check().and_then(|()| (entry.body)(&invocation));
    outcome.map_err(|mut failure| {
        // A plan that lacks a step because its planning failed must not pass for what the runbook means.
        failure.stops |= entry.form == Form::Terminal;
        if let (true, Some(host)) = (failure.stops, host) {
            host.latch(failure.clone(), position);
        }
        failure.raise(position)
    })
}

fn register_arguments(engine: &mut Engine) {
    engine.register_raw_fn(
        "index$get$",
        [
            TypeId::of::<values::ArgumentsValue>(),
            TypeId::of::<ImmutableString>(),
        ],
        |context, arguments| {
            let name = arguments[1].clone().into_string().unwrap_or_default();
            let arguments = arguments[0]
                .read_lock::<values::ArgumentsValue>()
                .map(|arguments| arguments.0.clone());
            match arguments.map(|host| host.argument(&name)) {
                Some(Ok(Some(text))) => Ok(Dynamic::from(text)),
                Some(Ok(None)) | None => Ok(Dynamic::UNIT),
                Some(Err(failure)) => Err(failure.raise(context.call_position())),
            }
        },
    );
}

/// Reads a property of a value outside of any evaluation, for tables. `None` if it needs one.
pub fn read_property(entry: &'static Entry, of: &Dynamic) -> Result<Dynamic, Failure> {
    (entry.body)(&Invocation {
        host: None,
        entry,
        receiver: Some(of.clone()),
        arguments: Vec::new(),
        position: rhai::Position::NONE,
        ast: None,
    })
}
