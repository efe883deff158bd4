//! Every way through the executor, with steps that record what happens to them.

mod run_fake;

use kbr::base::{CancellationToken, TimestampMs};
use kbr::run::*;
use run_fake::*;
use std::sync::Arc;

fn journal() -> Journal {
    Journal::in_memory().unwrap()
}

#[tokio::test]
async fn steps_run_in_order_each_checked_right_before_its_effect() {
    let events = Events::default();
    let plan = plan_of([step("a", &events), step("b", &events)]);
    let journal = journal();
    let nobody = Typed("", events.clone());
    let report = run(&plan, Approval::Nobody, &nobody, &journal)
        .await
        .unwrap();
    assert_eq!(
        events.all(),
        ["check a", "old a", "apply a", "check b", "old b", "apply b"]
    );
    assert!(matches!(report.end, RunEnd::Done));
    assert_eq!(report.totals[0].count, 2400);
    let record = journal.run(&report.run.0).unwrap();
    assert_eq!(record.summary.end, "done");
    assert_eq!(record.summary.exit, Some(0));
    assert_eq!((record.summary.done, record.summary.steps), (2, 2));
    assert_eq!(
        record.steps[0].old_values["offset"],
        9_007_199_254_740_993_i64
    );
    assert_eq!(journal.verify().unwrap(), None);
}

#[tokio::test]
async fn drift_stops_before_the_effect_with_exit_4() {
    let events = Events::default();
    let mut moved = step("b", &events);
    moved.drifted = true;
    let plan = plan_of([step("a", &events), moved, step("c", &events)]);
    let nobody = Typed("", events.clone());
    let report = run(&plan, Approval::Nobody, &nobody, &journal())
        .await
        .unwrap();
    assert_eq!(events.applied(), ["apply a"]);
    assert_eq!(report.end.exit(), ExitClass::Drift);
    assert!(matches!(report.end, RunEnd::Failed { ordinal: 2, .. }));
    assert_eq!(report.steps[2].state.word(), "not_run");
}

#[tokio::test]
async fn a_failed_step_is_latched_and_nothing_runs_after_it() {
    let events = Events::default();
    let mut bad = step("a", &events);
    bad.fails = true;
    let plan = plan_of([bad, step("b", &events)]);
    let journal = journal();
    let nobody = Typed("", events.clone());
    let report = run(&plan, Approval::Nobody, &nobody, &journal)
        .await
        .unwrap();
    assert_eq!(events.applied(), ["apply a"]);
    assert_eq!(report.end.exit(), ExitClass::Failed);
    let record = journal.run(&report.run.0).unwrap();
    assert_eq!(record.steps[0].state, "failed");
    assert_eq!(record.steps[0].error.as_deref(), Some("the broker said no"));
    assert_eq!(record.steps[1].state, "not_run");
}

#[tokio::test]
async fn a_panicking_step_is_a_journalled_failure() {
    let events = Events::default();
    let mut bad = step("a", &events);
    bad.panics = true;
    let plan = plan_of([bad, step("b", &events)]);
    let journal = journal();
    let nobody = Typed("", events.clone());
    let report = run(&plan, Approval::Nobody, &nobody, &journal)
        .await
        .unwrap();
    let RunEnd::Failed { error, .. } = &report.end else {
        panic!("{:?}", report.end)
    };
    assert_eq!(error.facts[0].1, "index out of bounds");
    assert_eq!(journal.run(&report.run.0).unwrap().summary.end, "failed");
}

#[tokio::test]
async fn a_plan_with_a_blocked_step_applies_nothing() {
    let events = Events::default();
    let mut blocked = step("b", &events);
    blocked.blocked = true;
    let plan = plan_of([step("a", &events), blocked]);
    let journal = journal();
    let nobody = Typed("", events.clone());
    let error = run(&plan, Approval::Terminal, &nobody, &journal)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "step 2 of the plan is blocked; nothing was changed"
    );
    assert_eq!(error.exit(), ExitClass::Failed);
    assert!(events.all().is_empty());
    assert!(journal.runs(10).unwrap().is_empty());
}

#[tokio::test]
async fn a_plan_that_was_not_evaluated_to_its_end_applies_nothing() {
    let events = Events::default();
    let mut plan = plan_of([step("a", &events)]);
    plan.stopped = Some(Stopped {
        span: Some(Span {
            line: 12,
            column: 1,
            length: 3,
        }),
        why: "records written to orders: known after execution".into(),
    });
    let nobody = Typed("", events.clone());
    let error = run(&plan, Approval::Nobody, &nobody, &journal())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("(line 12); nothing was changed"),
        "{error}"
    );
    assert!(events.all().is_empty());
}

#[tokio::test]
async fn a_gate_without_terminal_and_digest_runs_nothing_at_all() {
    let events = Events::default();
    let plan = plan_of([step("a", &events), step("b", &events).gated("dr")]);
    let nobody = Typed("", events.clone());
    let error = run(&plan, Approval::Nobody, &nobody, &journal())
        .await
        .unwrap_err();
    assert_eq!(error.exit(), ExitClass::ConfirmationRequired);
    assert!(events.all().is_empty(), "not even the step before the gate");
}

#[tokio::test]
async fn a_rehearsal_approval_is_worth_nothing_for_a_real_plan() {
    let events = Events::default();
    let mut plan = plan_of([step("a", &events).gated("dr")]);
    let nobody = Typed("", events.clone());
    let error = run(&plan, Approval::Rehearsal, &nobody, &journal())
        .await
        .unwrap_err();
    assert_eq!(error.exit(), ExitClass::ConfirmationRequired);
    plan.rehearsal = true;
    run(&plan, Approval::Rehearsal, &nobody, &journal())
        .await
        .unwrap();
    assert_eq!(events.applied(), ["apply a"]);
}

#[tokio::test]
async fn only_this_plans_digest_approves_it() {
    let events = Events::default();
    let plan = plan_of([step("a", &events).gated("dr")]);
    let nobody = Typed("", events.clone());
    let full = plan.digest().hex();
    let confirm = |text: &str| Approval::Digest(text.to_string());

    let other = confirm("000000000000");
    let error = run(&plan, other, &nobody, &journal()).await.unwrap_err();
    assert_eq!(error.exit(), ExitClass::Drift);
    let short = confirm(&full[..11]);
    let error = run(&plan, short, &nobody, &journal()).await.unwrap_err();
    assert_eq!(error.exit(), ExitClass::Usage);
    assert!(events.all().is_empty());

    run(&plan, confirm(&full[..12]), &nobody, &journal())
        .await
        .unwrap();
    assert_eq!(events.applied(), ["apply a"]);
}

#[tokio::test]
async fn a_wrong_digest_stops_a_plan_without_gates_too() {
    let events = Events::default();
    let plan = plan_of([step("a", &events)]);
    let nobody = Typed("", events.clone());
    let wrong = Approval::Digest("ffffffffffff".into());
    let error = run(&plan, wrong, &nobody, &journal()).await.unwrap_err();
    assert_eq!(error.exit(), ExitClass::Drift);
    assert!(events.all().is_empty());
}

#[tokio::test]
async fn a_terminal_is_asked_at_the_confirm_and_not_earlier() {
    let events = Events::default();
    let mut plan = plan_of([step("restore", &events)]);
    plan.add_confirm("Move 2 groups?", None);
    plan.add_step(Arc::new(step("reset", &events).gated("dr")), None);
    plan.add_step(Arc::new(step("verify", &events)), None);
    plan.add_step(Arc::new(step("reset2", &events).gated("dr")), None);
    let person = Typed("dr", events.clone());
    run(&plan, Approval::Terminal, &person, &journal())
        .await
        .unwrap();
    let effects: Vec<String> = events
        .all()
        .into_iter()
        .filter(|event| event.starts_with("ask") || event.starts_with("apply"))
        .collect();
    assert_eq!(
        effects,
        [
            "apply restore",
            "ask dr for 2+4",
            "apply reset",
            "apply verify",
            "apply reset2"
        ]
    );
}

#[tokio::test]
async fn another_word_refuses_and_ends_the_run_with_exit_3() {
    let events = Events::default();
    let mut plan = plan_of([step("restore", &events)]);
    plan.add_confirm("Move?", None);
    plan.add_step(Arc::new(step("reset", &events).gated("dr")), None);
    let journal = journal();
    let person = Typed("prod", events.clone());
    let report = run(&plan, Approval::Terminal, &person, &journal)
        .await
        .unwrap();
    assert_eq!(events.applied(), ["apply restore"]);
    assert_eq!(report.end.exit(), ExitClass::ConfirmationRequired);
    assert_eq!(journal.run(&report.run.0).unwrap().summary.end, "refused");
}

#[tokio::test]
async fn a_gated_step_that_the_runbook_forgot_is_asked_right_before_it() {
    let events = Events::default();
    let plan = plan_of([
        step("restore", &events),
        step("reset", &events).gated("dr"),
        step("other", &events).gated("prod"),
    ]);
    let person = Typed("dr", events.clone());
    run(&plan, Approval::Terminal, &person, &journal())
        .await
        .unwrap();
    assert_eq!(
        events.all(),
        [
            "check restore",
            "old restore",
            "apply restore",
            "ask dr for 2",
            "check reset",
            "old reset",
            "apply reset",
            "ask prod for 3",
        ]
    );
}

#[tokio::test]
async fn a_confirm_covers_gated_steps_up_to_the_next_one() {
    let events = Events::default();
    let mut plan = empty_plan();
    plan.add_confirm("first?", None);
    plan.add_step(Arc::new(step("a", &events).gated("dr")), None);
    plan.add_step(Arc::new(step("b", &events).gated("prod")), None);
    plan.add_confirm("second?", None);
    plan.add_step(Arc::new(step("c", &events)), None);
    let sections: Vec<(String, Vec<u32>)> = plan
        .gates()
        .iter()
        .map(|section| {
            let steps = section.steps.iter().map(|(step, _)| step.ordinal).collect();
            (section.word(), steps)
        })
        .collect();
    assert_eq!(
        sections,
        [
            ("dr prod".to_string(), vec![1, 2]),
            ("yes".to_string(), vec![])
        ]
    );
}

#[tokio::test]
async fn what_needs_no_change_is_checked_and_not_applied() {
    let events = Events::default();
    let mut same = step("a", &events).gated("dr");
    same.no_change = true;
    let plan = plan_of([same]);
    let nobody = Typed("", events.clone());
    let report = run(&plan, Approval::Nobody, &nobody, &journal())
        .await
        .unwrap();
    assert_eq!(events.all(), ["check a"]);
    assert_eq!(report.steps[0].state.word(), "no_change");
}

#[tokio::test]
async fn an_incomplete_outcome_is_exit_6() {
    let events = Events::default();
    let mut partial = step("a", &events);
    partial.incomplete = true;
    let plan = plan_of([partial, step("b", &events)]);
    let nobody = Typed("", events.clone());
    let report = run(&plan, Approval::Nobody, &nobody, &journal())
        .await
        .unwrap();
    assert_eq!(report.end.exit(), ExitClass::Incomplete);
    assert_eq!(report.incomplete, ["3 offsets were lost to retention"]);
    assert_eq!(events.applied().len(), 2);
}

#[tokio::test]
async fn a_cancel_during_a_step_ends_the_run_with_130() {
    let events = Events::default();
    let cancel = CancellationToken::new();
    let mut long = step("b", &events);
    long.waits = true;
    long.cancels = Some(cancel.clone());
    let plan = plan_of([step("a", &events), long, step("c", &events)]);
    let journal = journal();
    let execution = Execution {
        approval: Approval::Nobody,
        approver: &Typed("", events.clone()),
        journal: &journal,
        watcher: &NoWatcher,
        cancel,
    };
    let report = execute(&plan, execution).await.unwrap();
    assert_eq!(events.applied(), ["apply a", "apply b"]);
    assert_eq!(report.end.exit(), ExitClass::Interrupted);
    let record = journal.run(&report.run.0).unwrap();
    assert_eq!(record.summary.exit, Some(130));
    assert_eq!(record.steps[1].state, "failed");
}

#[tokio::test]
async fn a_step_that_fails_for_its_own_reason_is_told_although_a_cancel_came_meanwhile() {
    let events = Events::default();
    let cancel = CancellationToken::new();
    let mut failing = step("a", &events);
    failing.cancels = Some(cancel.clone());
    failing.fails_after_cancel = true;
    let plan = plan_of([failing]);
    let journal = journal();
    let execution = Execution {
        approval: Approval::Nobody,
        approver: &Typed("", events.clone()),
        journal: &journal,
        watcher: &NoWatcher,
        cancel,
    };
    let report = execute(&plan, execution).await.unwrap();
    assert_eq!(report.end.exit(), ExitClass::Failed);
    assert!(matches!(report.end, RunEnd::Failed { ordinal: 1, .. }));
}

#[tokio::test]
async fn a_cancel_after_the_last_effect_is_still_130() {
    let events = Events::default();
    let cancel = CancellationToken::new();
    let mut last = step("a", &events);
    last.cancels = Some(cancel.clone());
    let plan = plan_of([last]);
    let journal = journal();
    let execution = Execution {
        approval: Approval::Nobody,
        approver: &Typed("", events.clone()),
        journal: &journal,
        watcher: &NoWatcher,
        cancel,
    };
    let report = execute(&plan, execution).await.unwrap();
    assert_eq!(report.steps[0].state.word(), "done");
    assert_eq!(report.end.exit(), ExitClass::Interrupted);
}

#[tokio::test]
async fn an_old_plan_has_expired_by_the_real_clock() {
    let events = Events::default();
    let mut plan = plan_of([step("a", &events)]);
    plan.now = TimestampMs(plan.now.0 - 2 * 3_600_000);
    let nobody = Typed("", events.clone());
    let error = run(&plan, Approval::Nobody, &nobody, &journal())
        .await
        .unwrap_err();
    assert_eq!(error.exit(), ExitClass::Drift);
    assert!(
        error.to_string().starts_with("the plan is 2 h 0 min old"),
        "{error}"
    );
    assert!(events.all().is_empty());
}

/// Steps of which as many run at once as have to meet.
fn meeting(names: [&'static str; 3], events: &Events) -> Vec<FakeStep> {
    let meets = Arc::new(tokio::sync::Barrier::new(names.len()));
    let one = |name| FakeStep {
        meets: Some(meets.clone()),
        ..step(name, events).beside(1)
    };
    names.map(one).into()
}

async fn run_within(plan: &Plan, events: &Events, journal: &Journal) -> RunReport {
    let nobody = Typed("", events.clone());
    let run = run(plan, Approval::Nobody, &nobody, journal);
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, run).await.unwrap().unwrap()
}

#[tokio::test]
async fn neighbours_that_do_not_need_each_other_run_beside_each_other() {
    let events = Events::default();
    // It ends only if all three are at it at once, and the fourth, which takes all the room, is not among them.
    let mut steps = meeting(["a", "b", "c"], &events);
    steps.push(step("d", &events));
    let journal = journal();
    let report = run_within(&plan_of(steps), &events, &journal).await;
    assert!(matches!(report.end, RunEnd::Done));
    assert_eq!(
        events.applied(),
        ["apply a", "apply b", "apply c", "apply d"]
    );
    let all = events.all();
    let at = |event: &str| all.iter().position(|one| one == event).unwrap();
    assert!(at("check d") > at("apply c"));
    assert_eq!(report.totals[0].count, 4800);
    let record = journal.run(&report.run.0).unwrap();
    assert_eq!((record.summary.done, record.summary.steps), (4, 4));
    assert_eq!(journal.verify().unwrap(), None);
}

#[tokio::test]
async fn steps_of_another_kind_wait_for_those_before_them() {
    let events = Events::default();
    let mut later = step("b", &events).beside(1);
    later.kind = StepKind::Verify;
    let plan = plan_of([step("a", &events).beside(1), later]);
    run_within(&plan, &events, &journal()).await;
    assert_eq!(
        events.all(),
        ["check a", "old a", "apply a", "check b", "old b", "apply b"]
    );
}

#[tokio::test]
async fn no_more_run_at_once_than_there_is_room_for() {
    let events = Events::default();
    let names = ["a", "b", "c"];
    let half = ROOM / 2 + 1;
    let plan = plan_of(names.map(|name| step(name, &events).beside(half)));
    run_within(&plan, &events, &journal()).await;
    let in_turn = names.map(|name| ["check", "old", "apply"].map(|word| format!("{word} {name}")));
    assert_eq!(events.all(), in_turn.concat());
}

#[tokio::test]
async fn when_one_fails_those_beside_it_end_and_no_other_begins() {
    let events = Events::default();
    let mut steps = meeting(["a", "b", "c"], &events);
    steps[1].fails = true;
    // It fits in only once all three have made room.
    for step in &mut steps {
        step.room = ROOM / 3;
    }
    steps.push(step("d", &events).beside(ROOM - 1));
    steps.push(step("e", &events));
    let journal = journal();
    let report = run_within(&plan_of(steps), &events, &journal).await;
    assert!(matches!(report.end, RunEnd::Failed { ordinal: 2, .. }));
    let states: Vec<&str> = report.steps.iter().map(|step| step.state.word()).collect();
    assert_eq!(states, ["done", "failed", "done", "not_run", "not_run"]);
    let record = journal.run(&report.run.0).unwrap();
    let states: Vec<&str> = record
        .steps
        .iter()
        .map(|step| step.state.as_str())
        .collect();
    assert_eq!(states, ["done", "failed", "done", "not_run", "not_run"]);
}
