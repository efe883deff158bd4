//! `kbr run` and `kbr rehearse`: evaluate, show, approve, apply.

use super::arguments::{Output, Rehearse, Run};
use super::execution_view::ExecutionView;
use super::plan_view::{PlanView, Typed, command_to_execute, what_next};
use super::progress_view::Look;
use super::report::Report;
use super::style::{Style, harmless};
use super::{print, print_json, tell, with_runtime};
use crate::base::{CancellationToken, Digest, TimestampMs, time};
use crate::dsl::{self, EvaluateOptions, Evaluated, Source, World};
use crate::run::{
    Approval, Config, Execution, ExitClass, Journal, Plan, PlanDocument, RunEnd, RunError,
    RunReport, StepResult, StepState, Witness, execute, journal_path,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

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
        let arguments = dsl::Arguments::read(words, &declared).map_err(|message| {
            Report::usage("E0101", message).now(match &typed {
                Typed::File(_) => "kbr run FILE -- --NAME VALUE".to_string(),
                Typed::Script(name) => format!("kbr {name} --help"),
            })
        })?;
        if let (Some(missing), Typed::Script(name)) = (
            declared
                .iter()
                .find(|d| d.required && !arguments.0.contains_key(&d.name)),
            &typed,
        ) {
            let what = missing.flag_name().to_uppercase();
            let report = Report::usage("E0101", format!("kbr {name} needs {what}"));
            return Err(Box::new(
                report
                    .fact("what", missing.help.clone())
                    .now(format!("kbr {name} --help")),
            ));
        }
        let clock = time::now();
        let now = match now {
            None => clock,
            Some(text) => time::parse_instant(text, clock)
                .map_err(|message| Report::usage("E0104", format!("--now: {message}")))?,
        };
        let config = match &typed {
            Typed::File(file) => config_beside(Path::new(file))?,
            // A script is the same wherever it lies: clusters and stores are those of the place where one stands.
            Typed::Script(_) => {
                Config::find(Path::new(".")).map_err(|error| Box::new(Report::from(&error)))?
            }
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
        };
        dsl::evaluate(&self.source, world, options)
            .await
            .map_err(|error| Box::new(Report::from(&error)))
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
        if executes {
            view.so_far = "nothing was changed so far";
        }
        text.push_str(&view.draw());
        print(&text);
    }

    /// Executes and shows what came of it. `lost` are the archives whose end was gone before.
    async fn execute(
        &self,
        plan: &Plan,
        printed: &[String],
        approval: Approval,
        journal: &Journal,
        lost: &BTreeSet<String>,
        cancel: CancellationToken,
    ) -> Result<ExitClass, Box<Report>> {
        let document = plan.document();
        let silent = self.output == Output::Json;
        let view = ExecutionView::new(&document, self.detail, silent, self.look);
        if !silent {
            print("\n");
        }
        let execution = Execution {
            approval,
            approver: &view,
            journal,
            watcher: &view,
            cancel,
        };
        let report = execute(plan, execution)
            .await
            .map_err(|error| Box::new(self.refused(&error, &document)))?;
        if !plan.rehearsal {
            remember_committed(journal, &report, lost);
        }
        let error = failure(&report);
        let exit = error
            .as_ref()
            .map_or(report.end.exit(), |report| report.exit);
        if silent {
            let error = error.map(|report| report.json());
            print_json(&with_printed(
                report.document(&document, exit, error),
                printed,
            ));
            return Ok(exit);
        }
        print(&view.conclusion(&report, !plan.rehearsal));
        if plan.rehearsal && error.is_none() {
            let command = self.typed.command("", &document);
            print(&format!(
                "  nothing outside this process was touched; the real plan: {command}\n"
            ));
        }
        if let Some(error) = error {
            print("\n");
            tell(&error, Output::Text);
        }
        Ok(exit)
    }
}

impl Job {
    /// A plan that was refused as a whole, with the command that would execute it.
    fn refused(&self, error: &RunError, plan: &PlanDocument) -> Report {
        let mut report = Report::from(error);
        if matches!(error, RunError::ConfirmationRequired(_)) {
            report.facts.retain(|(label, _)| label != "now");
            report = report.now(command_to_execute(plan, &self.typed));
        }
        report
    }
}

/// The failure that ended a run, as a report.
fn failure(run: &RunReport) -> Option<Report> {
    match &run.end {
        RunEnd::Failed { error, .. } => Some(Report::from(error)),
        RunEnd::Refused {
            typed,
            word,
            before,
        } => {
            let typed = match typed.is_empty() {
                true => "nothing".to_string(),
                false => format!("{typed:?}"),
            };
            let ordinals: Vec<String> = before.iter().map(u32::to_string).collect();
            let mut report = Report::new(
                "E0408",
                ExitClass::ConfirmationRequired,
                "not confirmed; the steps it guards did not run",
            )
            .fact("typed", format!("{typed}, not {word:?}"));
            if !ordinals.is_empty() {
                report = report.fact("guards", format!("step {}", ordinals.join(", ")));
            }
            let done = |step: &StepResult| matches!(step.state, StepState::Done(_));
            Some(report.now(match run.steps.iter().any(done) {
                false => "run the same command again",
                true => "run the same command without --execute and read its plan: what is done stays, and records written a second time come on top of the first",
            }))
        }
        // An interrupted step tells how far it came.
        RunEnd::Interrupted => run.steps.iter().find_map(|step| match &step.state {
            StepState::Failed(error) if !error.facts.is_empty() => Some(Report::from(error)),
            _ => None,
        }),
        RunEnd::Done | RunEnd::Incomplete | RunEnd::Damaged => None,
    }
}

fn with_printed(mut document: Value, printed: &[String]) -> Value {
    document["printed"] = json!(printed);
    document
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
    if arguments.save.is_some() {
        return Err(Box::new(
            Report::usage("E0103", "kbr run --save is not in this version")
                .now("--confirm DIGEST binds an execution to the plan that was read"),
        ));
    }
    let job = Job::new(
        runbook,
        &arguments.arguments,
        arguments.now.as_deref(),
        arguments.detail,
        arguments.output,
        arguments.progress.look(),
    )?;
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
    let Evaluated { plan, printed } = job.evaluate(world, cancel.clone()).await?;
    let document = plan.document();
    job.show(&printed, &document, journal.is_some());
    let Some(journal) = journal else {
        match job.output {
            Output::Text => print(&what_next(&document, &job.typed, &Style::of_stdout())),
            Output::Json => print_json(&with_printed(json!(document), &printed)),
        }
        return Ok(ExitClass::Done);
    };
    let lost = witness(journal, world, &plan);
    let approval = match &arguments.confirm {
        Some(digest) => Approval::Digest(digest.clone()),
        None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => {
            Approval::Terminal
        }
        None => Approval::Nobody,
    };
    job.execute(&plan, &printed, approval, journal, &lost, cancel)
        .await
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
            let Evaluated { plan, printed } = job.evaluate(&world, cancel.clone()).await?;
            job.show(&printed, &plan.document(), true);
            job.execute(
                &plan,
                &printed,
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

/// Remembers the end of each archive's chain, and says so when a generation is not what it was: archives are
/// write-once, and cutting off their end shows nowhere else. Answers with the archives whose end is gone.
fn witness(journal: &Journal, world: &World, plan: &Plan) -> BTreeSet<String> {
    let mut lost = BTreeSet::new();
    for fact in &plan.archives {
        let (Some(id), Some(generation), Some(digest)) =
            (&fact.id, fact.generation, fact.generation_digest)
        else {
            continue;
        };
        let seen = journal.witness(id).ok().flatten();
        match seen {
            Some(seen) if seen.generation == generation && seen.digest != digest => tell(
                &Report {
                    warning: true,
                    ..Report::new(
                        "W0603",
                        ExitClass::Done,
                        format!(
                            "generation {generation} of {} is not the one seen before",
                            fact.url
                        ),
                    )
                }
                .fact("now", digest.hex())
                .fact("before", seen.digest.hex()),
                Output::Text,
            ),
            // The run's own entry will fail, and say why, if the journal cannot be written.
            _ => {
                let _ = journal.remember(&Witness {
                    archive_id: id.clone(),
                    generation,
                    digest,
                });
            }
        }
    }
    for (id, tip) in world.seen() {
        let archive_id = id.to_string();
        let seen = journal.witness(&archive_id).ok().flatten();
        match seen {
            Some(seen) if (seen.generation, seen.digest) == (tip.generation, tip.digest) => {}
            Some(seen) if seen.generation >= tip.generation => drop(lost.insert(archive_id)),
            _ => {
                let _ = journal.remember(&Witness {
                    archive_id,
                    generation: tip.generation,
                    digest: tip.digest,
                });
            }
        }
    }
    lost
}

/// Remembers the generations that the run has committed. A lower one than before only where the end of the chain was
/// `lost` when the run began: it goes on from what is left.
fn remember_committed(journal: &Journal, report: &RunReport, lost: &BTreeSet<String>) {
    for step in &report.steps {
        let StepState::Done(outcome) = &step.state else {
            continue;
        };
        let value = &outcome.value;
        let (Some(archive_id), Some(generation), Some(digest)) = (
            value["archive_id"].as_str(),
            value["generation"].as_u64(),
            value["digest"].as_str().and_then(Digest::from_hex),
        ) else {
            continue;
        };
        let witness = Witness {
            archive_id: archive_id.to_string(),
            generation,
            digest,
        };
        // The steps are in the journal already: one that cannot be written has failed the run.
        let _ = match lost.contains(archive_id) {
            true => journal.remember_after_loss(&witness),
            false => journal.remember(&witness),
        };
    }
}

/// Opens the journal for an execution; a broken chain is told, and does not stop a recovery.
fn open_journal() -> Result<Journal, Box<Report>> {
    let path = journal_path(|name| std::env::var_os(name)).map_err(|error| Report::from(&error))?;
    let journal = Journal::open(&path).map_err(|error| Report::from(&error))?;
    if let Some(broken) = journal.verify().map_err(|error| Report::from(&error))? {
        tell(
            &super::show::broken_chain(&path, &broken, true),
            Output::Text,
        );
    }
    Ok(journal)
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
