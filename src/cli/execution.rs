//! What every execution has in common, of a runbook, a saved plan or a run that is resumed: the journal, who approves,
//! which archives were seen, and what is said at the end.

use super::arguments::Output;
use super::execution_view::ExecutionView;
use super::plan_view::{Typed, command_to_execute};
use super::progress_view::Look;
use super::report::Report;
use super::show::broken_chain;
use super::{print, print_json, tell};
use crate::base::{CancellationToken, Digest};
use crate::dsl::World;
use crate::run::{
    Approval, Config, Execution, ExitClass, Journal, Plan, PlanDocument, RunEnd, RunError, RunId,
    RunReport, SavedPlan, StepResult, StepState, Witness, execute_shown, journal_path,
};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;

/// Who says yes: the digest that was given, else a person at the terminal, else nobody.
pub fn approval(confirm: Option<&str>) -> Approval {
    match confirm {
        Some(digest) => Approval::Digest(digest.to_string()),
        None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => {
            Approval::Terminal
        }
        None => Approval::Nobody,
    }
}

/// The world of a saved plan: the names of the `kbr.toml` that it was made with, else of the one found from here.
pub fn world_of(saved: &SavedPlan) -> Result<World, Box<Report>> {
    let config = match &saved.config {
        None => Ok(Config::default()),
        Some(path) if path.is_file() => Config::read(path),
        Some(_) => Config::find(Path::new(".")),
    };
    config
        .map(World::real)
        .map_err(|error| Box::new(Report::from(&error)))
}

/// A plan that was shown and is now executed, and for whom.
pub struct Starting<'a> {
    pub plan: &'a Plan,
    pub document: &'a PlanDocument,
    /// The command that would execute it, for a refusal.
    pub typed: &'a Typed,
    pub journal: &'a Journal,
    pub approval: Approval,
    pub output: Output,
    pub detail: bool,
    pub look: Look,
    /// What the script printed before.
    pub printed: &'a [String],
    /// The archives whose end was gone before.
    pub lost: &'a BTreeSet<String>,
    pub cancel: CancellationToken,
}

impl Starting<'_> {
    /// Executes the plan and says how it ended; the answer is the exit status.
    pub async fn execute(self) -> Result<ExitClass, Box<Report>> {
        let (plan, document) = (self.plan, self.document);
        if self.output == Output::Text {
            print("\n");
        }
        self.executed(async |execution| execute_shown(plan, document, execution).await)
            .await
    }

    /// The same by another way than from the plan's beginning.
    pub async fn executed(
        self,
        run: impl AsyncFnOnce(Execution<'_>) -> Result<RunReport, RunError>,
    ) -> Result<ExitClass, Box<Report>> {
        let silent = self.output == Output::Json;
        let view = ExecutionView::new(self.document, self.detail, silent, self.look);
        let execution = Execution {
            approval: self.approval,
            approver: &view,
            journal: self.journal,
            watcher: &view,
            cancel: self.cancel,
        };
        let report = run(execution).await.map_err(|error| {
            let report = Report::from(&error);
            Box::new(match (error, self.typed) {
                (RunError::ConfirmationRequired(_), typed) => {
                    report.instead_now(command_to_execute(self.document, typed))
                }
                (RunError::Stale { .. }, Typed::Saved(_)) => {
                    report.instead_now("plan again: kbr run FILE --save PLAN")
                }
                (RunError::WrongDigest { .. }, Typed::Resumed(_)) => {
                    report.instead_now("kbr show tells the digest of the run's plan")
                }
                _ => report,
            })
        })?;
        let real = !self.document.rehearsal;
        if real {
            remember_committed(self.journal, &report, self.lost);
        }
        let error = failure(&report);
        let exit = error
            .as_ref()
            .map_or(report.end.exit(), |report| report.exit);
        if silent {
            let error = error.map(|report| report.json());
            print_json(&report.document(self.document, exit, error, self.printed));
            return Ok(exit);
        }
        print(&view.conclusion(&report, real));
        if let Some(error) = error {
            print("\n");
            tell(&error, Output::Text);
        }
        Ok(exit)
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
            let done = |step: &StepResult| step.state.is_done();
            Some(report.now(match run.steps.iter().any(done) {
                false => "run the same command again".to_string(),
                true => format!("kbr resume {} asks again; what is done stays", run.run),
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

/// A plan with what the script printed.
#[derive(Serialize)]
pub struct Printed<'a> {
    #[serde(flatten)]
    pub plan: &'a PlanDocument,
    pub printed: &'a [String],
}

/// Remembers the end of each archive's chain, and says so when a generation is not what it was: archives are
/// write-once, and cutting off their end shows nowhere else. Answers with the archives whose end is gone.
pub fn witness(journal: &Journal, world: &World, plan: &Plan) -> BTreeSet<String> {
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

/// Opens the journal for an execution.
pub fn open_journal() -> Result<Journal, Box<Report>> {
    let journal = opened_journal()?;
    look_through(&journal, None)?;
    Ok(journal)
}

/// Opens the journal for what an earlier run has left in it.
pub fn opened_journal() -> Result<Journal, Box<Report>> {
    let path = journal_path(|name| std::env::var_os(name)).map_err(|error| Report::from(&error))?;
    Journal::open(&path).map_err(|error| Box::new(Report::from(&error)))
}

/// A chain that broke lately, or since `run` began, is told, and does not stop a recovery.
pub fn look_through(journal: &Journal, run: Option<&RunId>) -> Result<(), Box<Report>> {
    let broken = journal.verify_recent(run);
    if let Some(broken) = broken.map_err(|error| Report::from(&error))? {
        tell(&broken_chain(journal.path(), &broken, true), Output::Text);
    }
    Ok(())
}
