//! `kbr run` and `kbr rehearse`: evaluate, show, approve, apply.

use super::arguments::{Output, Rehearse, Run};
use super::execution::{Printed, Starting, approval, open_journal, witness};
use super::misuse;
use super::plan_view::{PlanView, Typed, what_next};
use super::progress_view::Look;
use super::report::Report;
use super::saved::save;
use super::scripts::print_value;
use super::style::{Style, harmless};
use super::{print, print_json, with_runtime, with_runtime_stopping};
use crate::base::{CancellationToken, TimestampMs, time};
use crate::dsl::{self, EvaluateOptions, Evaluated, ScriptError, Source, World};
use crate::run::{Approval, Config, ExitClass, Journal, PlanDocument};
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What both commands share.
struct Job {
    source: Source,
    /// As it was typed, for the command to repeat.
    typed: Typed,
    arguments: dsl::Arguments,
    now: TimestampMs,
    config: Config,
    detail: bool,
    output: Output,
    look: Look,
    /// The value of the last expression is what it is for, where there is no step.
    shows_value: bool,
    /// The command only reads; nobody fears that it may have changed something.
    only_reads: bool,
}

impl Job {
    fn new(
        (source, typed): (Source, Typed),
        words: &[String],
        now: Option<&str>,
        detail: bool,
        output: Output,
        look: Look,
    ) -> Result<Self, Box<Report>> {
        let declared = dsl::declared(&source);
        let arguments = match &typed {
            Typed::Script(name) => misuse::read(name, &source, &declared, words)?,
            _ => dsl::Arguments::read(words, &declared).map_err(|message| {
                Report::usage("E0101", message).now("kbr run FILE -- --NAME VALUE")
            })?,
        };
        let clock = time::now();
        let now = match now {
            None => clock,
            Some(text) => time::parse_instant(text, clock)
                .map_err(|message| Report::usage("E0104", format!("--now: {message}")))?,
        };
        let config = match &typed {
            Typed::File(file) => config_beside(Path::new(file))?,
            // A script is the same wherever it lies: clusters and stores are those of the place where one stands.
            _ => Config::find(Path::new(".")).map_err(|error| Box::new(Report::from(&error)))?,
        };
        Ok(Self {
            source,
            typed,
            arguments,
            now,
            config,
            detail,
            output,
            look,
            shows_value: false,
            only_reads: false,
        })
    }

    async fn evaluate(
        &self,
        world: &Arc<World>,
        cancel: CancellationToken,
    ) -> Result<Evaluated, Box<Report>> {
        let options = EvaluateOptions {
            arguments: self.arguments.clone(),
            now: self.now,
            cancel,
            shows_value: self.shows_value,
        };
        dsl::evaluate(&self.source, world, options)
            .await
            .map_err(|error| Box::new(self.of_script(&error)))
    }

    /// Whether it is one of kbr's own commands, and one that shows and has nothing to execute.
    fn is_reading(&self) -> bool {
        let action = self.arguments.0.get("action").map(String::as_str);
        match &self.typed {
            Typed::Script(name) if self.source.path.is_none() => match name.as_str() {
                "group" | "groups" | "lag" | "sample" => true,
                "offsets" => matches!(action, Some("plan" | "export")),
                _ => false,
            },
            _ => false,
        }
    }

    /// Who typed `kbr offsets` has options, and no verbs.
    fn hint(&self, hint: &str) -> String {
        match &self.typed {
            Typed::Script(name) if name == "offsets" && self.source.path.is_none() => {
                misuse::as_options(hint, &self.arguments)
            }
            _ => hint.to_string(),
        }
    }

    /// An error of the script. One that ships in the binary is a command: what it requires is how it is typed.
    fn of_script(&self, error: &ScriptError) -> Report {
        let report = self.said_of_script(error);
        match self.only_reads {
            true => report.without_reassurance(),
            false => report,
        }
    }

    fn said_of_script(&self, error: &ScriptError) -> Report {
        match &self.typed {
            Typed::Script(name) if self.source.path.is_none() => match error.finding.code {
                "E0301" => misuse::refused(name, &self.source, &error.finding.message),
                _ => misuse::without_script(Report::from(error)),
            },
            _ => Report::from(error),
        }
    }

    /// What the script printed, and the plan.
    fn show(&self, printed: &[String], plan: &PlanDocument, executes: bool) {
        if self.output == Output::Json {
            return;
        }
        let mut text = String::new();
        for line in printed {
            text.push_str(&format!("{}\n", harmless(line.trim_end())));
        }
        if !printed.is_empty() {
            text.push('\n');
        }
        let mut view = PlanView::new(plan, Style::of_stdout(), self.detail);
        let hint = |hint: &str| self.hint(hint);
        view.hint = &hint;
        if executes {
            view.so_far = "nothing was changed so far";
        }
        text.push_str(&view.draw());
        print(&text);
    }

    /// Executes and shows what came of it. `lost` are the archives whose end was gone before.
    async fn execute(
        &self,
        Evaluated { plan, printed, .. }: &Evaluated,
        document: PlanDocument,
        approval: Approval,
        journal: &Journal,
        lost: &BTreeSet<String>,
        cancel: CancellationToken,
    ) -> Result<ExitClass, Box<Report>> {
        let starting = Starting {
            plan,
            document: &document,
            typed: &self.typed,
            journal,
            approval,
            output: self.output,
            detail: self.detail,
            look: self.look,
            printed,
            lost,
            cancel,
        };
        let exit = starting.execute().await?;
        if plan.rehearsal && self.output == Output::Text && exit == ExitClass::Done {
            let command = self.typed.command("", &document);
            print(&format!(
                "  nothing outside this process was touched; the real plan: {command}\n"
            ));
        }
        Ok(exit)
    }
}

fn of_file(file: &Path) -> Result<(Source, Typed), Box<Report>> {
    Ok((read_source(file)?, Typed::File(file.display().to_string())))
}

/// `kbr run`
pub fn run(arguments: Run) -> Result<ExitClass, Box<Report>> {
    let runbook = of_file(&arguments.file)?;
    run_source(runbook, arguments)
}

/// A runbook with the options of `kbr run`; the file in them is not looked at.
pub fn run_source(runbook: (Source, Typed), arguments: Run) -> Result<ExitClass, Box<Report>> {
    let mut job = Job::new(
        runbook,
        &arguments.arguments,
        arguments.now.as_deref(),
        arguments.detail,
        arguments.output,
        arguments.progress.look(),
    )?;
    job.shows_value = matches!(job.typed, Typed::Script(_)) || arguments.watch.is_some();
    job.only_reads = !arguments.execute && job.is_reading();
    if let Some(seconds) = arguments.watch {
        return watch(job, Duration::from_secs(seconds));
    }
    // Before any read: an execution that cannot be journalled must not even be looked forward to.
    let journal = match arguments.execute {
        true => Some(open_journal()?),
        false => None,
    };
    with_runtime(async |cancel| {
        let world = Arc::new(World::real(job.config.clone()));
        let outcome = run_in(&job, &arguments, &world, journal.as_ref(), cancel).await;
        world.shutdown().await;
        outcome
    })
}

async fn run_in(
    job: &Job,
    arguments: &Run,
    world: &Arc<World>,
    journal: Option<&Journal>,
    cancel: CancellationToken,
) -> Result<ExitClass, Box<Report>> {
    let mut evaluated = job.evaluate(world, cancel.clone()).await?;
    if let Some(mut shown) = evaluated.value.take() {
        shown.text = job.hint(&shown.text);
        print_value(&shown, job.output, job.detail);
        return Ok(ExitClass::Done);
    }
    let Evaluated { plan, printed, .. } = &evaluated;
    let document = plan.document();
    job.show(printed, &document, journal.is_some());
    let Some(journal) = journal else {
        let typed = match &arguments.save {
            Some(file) => {
                save(plan, &document, file)?;
                Typed::Saved(file.display().to_string())
            }
            None => job.typed.clone(),
        };
        match job.output {
            Output::Text => print(&what_next(&document, &typed, &Style::of_stdout())),
            Output::Json => print_json(&Printed {
                plan: &document,
                printed,
            }),
        }
        return Ok(ExitClass::Done);
    };
    let lost = witness(journal, world, plan);
    let approval = approval(arguments.confirm.as_deref());
    job.execute(&evaluated, document, approval, journal, &lost, cancel)
        .await
}

/// `kbr NAME --watch`: the same again and again until it is interrupted, which is how it ends.
fn watch(mut job: Job, every: Duration) -> Result<ExitClass, Box<Report>> {
    let clears = job.output == Output::Text && std::io::stdout().is_terminal();
    // It has nothing to finish. The terminal shows `^C`, and what is typed next begins a line of its own.
    let stopping = match std::io::stderr().is_terminal() {
        true => "\n",
        false => "",
    };
    with_runtime_stopping(stopping, async |cancel| {
        let world = Arc::new(World::real(job.config.clone()));
        let mut outcome = Ok(ExitClass::Done);
        while !cancel.is_cancelled() {
            job.now = time::now();
            let evaluated = match job.evaluate(&world, cancel.clone()).await {
                Ok(evaluated) => evaluated,
                Err(_) if cancel.is_cancelled() => break,
                Err(report) => {
                    outcome = Err(report);
                    break;
                }
            };
            let Some(shown) = &evaluated.value else {
                let what = "only a script that reads and shows a value can be watched";
                let report = Report::usage("E0109", what);
                outcome = Err(Box::new(report.now("kbr lag CLUSTER --watch")));
                break;
            };
            if clears {
                // Home, and away with what was there.
                let every = every.as_secs();
                let when = time::format_instant(job.now);
                print(&format!(
                    "\x1b[H\x1b[2J\x1b[3J{when}, every {every} s; Ctrl-C ends it\n\n"
                ));
            }
            print_value(shown, job.output, job.detail);
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = cancel.cancelled() => {}
            }
        }
        world.shutdown().await;
        outcome
    })
}

/// `kbr rehearse`
pub fn rehearse(arguments: Rehearse) -> Result<ExitClass, Box<Report>> {
    let job = Job::new(
        of_file(&arguments.file)?,
        &arguments.arguments,
        None,
        arguments.detail,
        arguments.output,
        arguments.progress.look(),
    )?;
    // Nothing that lasts is changed, so nothing that lasts is written.
    let journal = Journal::in_memory().map_err(|error| Report::from(&error))?;
    with_runtime(async |cancel| {
        let world = World::rehearsal(job.config.clone())
            .await
            .map_err(|error| Report::from(&error))?;
        let world = Arc::new(world);
        let outcome = async {
            let evaluated = job.evaluate(&world, cancel.clone()).await?;
            let document = evaluated.plan.document();
            job.show(&evaluated.printed, &document, true);
            job.execute(
                &evaluated,
                document,
                Approval::Rehearsal,
                &journal,
                &BTreeSet::new(),
                cancel,
            )
            .await
        }
        .await;
        world.shutdown().await;
        outcome
    })
}

/// Reads a runbook, or says what is in the way.
pub fn read_source(file: &Path) -> Result<Source, Box<Report>> {
    Source::read(file).map_err(|error| {
        let report = Report::usage("E0102", format!("cannot read {}", file.display()))
            .why(error.to_string());
        Box::new(match file.extension() {
            _ if file.is_dir() => {
                report.now(format!("name its files: {}", file.join("*.rhai").display()))
            }
            Some(_) => report,
            None => report.now(format!("did you mean {}.rhai?", file.display())),
        })
    })
}

/// The `kbr.toml` that belongs to a runbook.
pub fn config_beside(file: &Path) -> Result<Config, Box<Report>> {
    let folder = file.parent().unwrap_or(Path::new("."));
    Config::find(folder).map_err(|error| Box::new(Report::from(&error)))
}
