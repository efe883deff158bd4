//! `kbr run --save` and `kbr apply`: a plan that somebody reads and approves before it is executed as it is.

use super::arguments::{Apply, Output};
use super::execution::{Starting, approval, open_journal, witness, world_of};
use super::plan_view::{PlanView, Typed, what_next};
use super::report::Report;
use super::style::Style;
use super::{print, print_json, with_runtime};
use crate::dsl;
use crate::run::{ExitClass, Plan, PlanDocument, SavedPlan, StepError};
use std::path::Path;
use std::sync::Arc;

/// Writes the plan to a file, whole or not at all.
pub fn save(plan: &Plan, document: &PlanDocument, file: &Path) -> Result<(), Box<Report>> {
    if let Some(why) = cannot_be_executed(document) {
        let report = Report::usage("E0445", "a plan that cannot be executed is not saved");
        return Err(Box::new(
            report
                .why(why)
                .now("run the same command without --save to read it"),
        ));
    }
    let unwritable = |error: std::io::Error| {
        let report = Report::new(
            "E0446",
            ExitClass::Failed,
            format!("the plan cannot be written to {}", file.display()),
        );
        let report = report.why(error.to_string());
        Box::new(report.now("a plan is what kbr run FILE --save PLAN writes"))
    };
    let mut beside = file.as_os_str().to_owned();
    beside.push(".part");
    std::fs::write(&beside, plan.saved().to_file()).map_err(unwritable)?;
    std::fs::rename(&beside, file).map_err(unwritable)
}

fn cannot_be_executed(document: &PlanDocument) -> Option<String> {
    if document.summary.blocked > 0 {
        return Some("a step of it is blocked".into());
    }
    if let Some(stopped) = &document.stopped {
        return Some(stopped.why.clone());
    }
    document.items.is_empty().then(|| "it has no step".into())
}

/// `kbr apply PLAN`
pub fn apply(arguments: Apply) -> Result<ExitClass, Box<Report>> {
    let name = arguments.file.display().to_string();
    let text = std::fs::read_to_string(&arguments.file).map_err(|error| {
        let report = Report::usage("E0102", format!("cannot read {name}"));
        let report = report.why(error.to_string());
        Box::new(report.now("a plan is what kbr run FILE --save PLAN writes"))
    })?;
    let told = |error: StepError| Box::new(Report::from(&error));
    let saved = SavedPlan::from_file(&name, &text).map_err(told)?;
    let journal = match arguments.execute {
        true => Some(open_journal()?),
        false => None,
    };
    let silent = arguments.output == Output::Json;
    let typed = Typed::Saved(name);
    with_runtime(async |cancel| {
        let world = Arc::new(world_of(&saved)?);
        let outcome = async {
            let plan = dsl::load(&saved, &world).await.map_err(told)?;
            let document = plan.document();
            if !silent {
                let mut view = PlanView::new(&document, Style::of_stdout(), arguments.detail);
                if journal.is_some() {
                    view.so_far = "nothing was changed so far";
                }
                print(&view.draw());
            }
            let Some(journal) = &journal else {
                match silent {
                    true => print_json(&document),
                    false => print(&what_next(&document, &typed, &Style::of_stdout())),
                }
                return Ok(ExitClass::Done);
            };
            let lost = witness(journal, &world, &plan);
            let starting = Starting {
                plan: &plan,
                document: &document,
                typed: &typed,
                journal,
                approval: approval(arguments.confirm.as_deref()),
                output: arguments.output,
                detail: arguments.detail,
                look: arguments.progress.look(),
                printed: &[],
                lost: &lost,
                cancel,
            };
            starting.execute().await
        }
        .await;
        world.shutdown().await;
        outcome
    })
}
