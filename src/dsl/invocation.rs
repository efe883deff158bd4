//! One call of a verb: its host, its receiver and its arguments, already checked against the table.

use super::failure::Failure;
use super::host::Host;
use super::kind::Kind;
use super::table::{Entry, MOST_ARGUMENTS};
use rhai::{AST, Array, Dynamic, FnPtr, ImmutableString, Position};
use std::future::Future;
use std::sync::Arc;

pub struct Invocation<'a> {
    pub host: Option<&'a Arc<Host>>,
    pub entry: &'static Entry,
    pub receiver: Option<Dynamic>,
    pub arguments: Vec<Dynamic>,
    pub position: Position,
    /// The runbook as compiled: closures live in it.
    pub ast: Option<&'a Arc<AST>>,
}

impl Invocation<'_> {
    /// Checks count and kinds of the arguments against the entry.
    pub fn check(&self) -> Result<(), Failure> {
        let (least, most) = self.entry.arity();
        let given = self.arguments.len();
        if given < least || given > most {
            return Err(wrong_count(self.entry, given));
        }
        for (index, argument) in self.arguments.iter().enumerate() {
            let Some(parameter) = self.entry.parameter(index) else {
                continue;
            };
            let kind = Kind::of(argument);
            // A list stands for its members where several are taken.
            if parameter.repeats && kind == Kind::List {
                for member in argument
                    .read_lock::<Array>()
                    .iter()
                    .flat_map(|list| list.iter())
                {
                    let kind = Kind::of(member);
                    if !parameter.takes(kind) {
                        return Err(wrong_kind(self.entry, index, kind));
                    }
                }
                continue;
            }
            if !parameter.takes(kind) {
                return Err(wrong_kind(self.entry, index, kind));
            }
            if let (false, Some(map)) = (
                parameter.options.is_empty(),
                argument.read_lock::<rhai::Map>(),
            ) {
                for (name, value) in map.iter() {
                    check_option(self.entry, index, name, Kind::of(value))?;
                }
            }
            if let (false, Ok(text)) = (
                parameter.choices.is_empty(),
                argument.as_immutable_string_ref(),
            ) {
                check_choice(self.entry, index, &text)?;
            }
        }
        Ok(())
    }

    /// The receiver as its Rust type.
    pub fn me<T: Clone + Send + Sync + 'static>(&self) -> Result<T, Failure> {
        self.receiver
            .as_ref()
            .and_then(|receiver| receiver.read_lock::<T>().map(|me| me.clone()))
            .ok_or_else(|| {
                Failure::script("E0208", format!("{} needs its value", self.entry.title()))
            })
    }

    pub fn argument<T: Clone + Send + Sync + 'static>(&self, index: usize) -> Result<T, Failure> {
        let argument = self.arguments.get(index);
        argument
            .and_then(|argument| argument.read_lock::<T>().map(|value| value.clone()))
            .ok_or_else(|| wrong_kind(self.entry, index, argument.map_or(Kind::Nothing, Kind::of)))
    }

    pub fn text(&self, index: usize) -> Result<String, Failure> {
        self.argument::<ImmutableString>(index)
            .map(|text| text.to_string())
    }

    /// Every text from `index` on, lists flattened.
    pub fn texts(&self, index: usize) -> Result<Vec<String>, Failure> {
        let mut texts = Vec::new();
        for argument in &self.arguments[index.min(self.arguments.len())..] {
            if let Some(list) = argument.read_lock::<Array>() {
                texts.extend(
                    list.iter()
                        .filter_map(|member| member.clone().into_string().ok()),
                );
            } else if let Ok(text) = argument.clone().into_string() {
                texts.push(text);
            }
        }
        Ok(texts)
    }

    pub fn closure(&self, index: usize) -> Option<FnPtr> {
        self.arguments
            .get(index)?
            .read_lock::<FnPtr>()
            .map(|closure| closure.clone())
    }

    /// Waits for a read of the world.
    pub fn wait<T>(&self, read: impl Future<Output = T>) -> Result<T, Failure> {
        self.host()?.wait(read)
    }

    /// The evaluation; closures over records have none.
    pub fn host(&self) -> Result<&Arc<Host>, Failure> {
        self.host.ok_or_else(|| {
            Failure::script(
                "E0213",
                format!(
                    "{} cannot be used in a closure over records",
                    self.entry.title()
                ),
            )
        })
    }
}

pub fn wrong_count(entry: &Entry, given: usize) -> Failure {
    let (least, most) = entry.arity();
    let wanted = if least == most {
        crate::base::text::counted(least as i64, "argument")
    } else if most == MOST_ARGUMENTS {
        format!(
            "at least {}",
            crate::base::text::counted(least as i64, "argument")
        )
    } else {
        format!("{least} to {most} arguments")
    };
    let failure = Failure::script(
        "E0209",
        format!(
            "{} takes {}, {given} given",
            entry.title(),
            if most == 0 {
                "no argument".to_string()
            } else {
                wanted
            }
        ),
    );
    if given > MOST_ARGUMENTS && entry.parameters.last().is_some_and(|last| last.repeats) {
        return failure.help(format!("give a list: {}([…])", entry.name));
    }
    failure.help(format!("write {}", entry.signature()))
}

pub fn wrong_kind(entry: &Entry, index: usize, given: Kind) -> Failure {
    let wanted = entry
        .parameter(index)
        .map_or_else(|| "nothing".to_string(), |parameter| parameter.wanted());
    let failure = Failure::script(
        "E0208",
        format!("{} takes {wanted}, not {}", entry.title(), given.phrase()),
    );
    if entry.example.is_empty() {
        failure
    } else {
        failure.help(format!("for example {}", entry.example))
    }
}

/// A text that must be one of a few.
pub fn check_choice(entry: &Entry, index: usize, given: &str) -> Result<(), Failure> {
    let Some(parameter) = entry.parameter(index).filter(|p| !p.choices.is_empty()) else {
        return Ok(());
    };
    if parameter.choices.contains(&given) {
        return Ok(());
    }
    let failure = Failure::script("E0212", format!("{} is not {given:?}", entry.title()))
        .help(format!("it is one of: {}", parameter.choices.join(", ")));
    Err(
        match crate::base::text::did_you_mean(given, parameter.choices.iter().copied()) {
            Some(near) => failure.label(format!("did you mean \"{near}\"?")),
            None => failure,
        },
    )
}

/// A name in a map of options, and the kind of its value.
pub fn check_option(entry: &Entry, index: usize, name: &str, kind: Kind) -> Result<(), Failure> {
    let options = entry.parameter(index).map_or(&[][..], |p| p.options);
    let names = || options.iter().map(|option| option.name);
    let Some(option) = options.iter().find(|option| option.name == name) else {
        let failure =
            Failure::script("E0207", format!("no option `{name}` in {}", entry.title())).help(
                format!("it takes {}", names().collect::<Vec<_>>().join(", ")),
            );
        return Err(match crate::base::text::did_you_mean(name, names()) {
            Some(near) => failure.label(format!("did you mean `{near}`?")),
            None => failure,
        });
    };
    if option.takes(kind) {
        return Ok(());
    }
    let wanted: Vec<&str> = option.kinds.iter().map(|kind| kind.phrase()).collect();
    Err(Failure::script(
        "E0208",
        format!(
            "`{name}` of {} is {}, not {}",
            entry.title(),
            wanted.join(" or "),
            kind.phrase()
        ),
    )
    .help(format!("for example {}", entry.example)))
}
