//! Plans as they look at a terminal of 80 columns.

use super::*;
use crate::base::{Digest, TimestampMs};
use crate::run::{
    ArchiveFact, Blocked, Cell, ClusterFact, Detail, Outcome, Plan, RunbookId, Span, Step,
    StepContext, StepError, StepView, Stopped, ViewLine,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Shown {
    kind: StepKind,
    view: StepView,
    gate: Option<Gate>,
    blocks: Vec<Blocked>,
}

#[async_trait::async_trait]
impl Step for Shown {
    fn kind(&self) -> StepKind {
        self.kind
    }
    fn view(&self) -> StepView {
        self.view.clone()
    }
    fn saved(&self, _: &mut crate::run::SavedParts) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn pinned(&self) -> Value {
        json!(self.view)
    }
    fn gate(&self) -> Option<Gate> {
        self.gate.clone()
    }
    fn blocks(&self) -> Vec<Blocked> {
        self.blocks.clone()
    }
    async fn check(&self, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
    async fn reconcile(&self, _: &StepContext) -> Result<crate::run::Reconciled, StepError> {
        Ok(crate::run::Reconciled::NotDone)
    }
    async fn apply(&self, _: &StepContext) -> Result<Outcome, StepError> {
        Ok(Outcome::default())
    }
}

fn shown(kind: StepKind, view: StepView) -> Shown {
    Shown {
        kind,
        view,
        gate: None,
        blocks: Vec::new(),
    }
}

fn write(target: &str, records: u64, bytes: u64, size: &str, unit: &str) -> Shown {
    let cells = vec![
        Cell::count(records, "record"),
        Cell::number(size).after(unit),
    ];
    let mut view = StepView::of(target, cells);
    view.bytes = bytes;
    shown(StepKind::Write, view)
}

fn group(name: &str, lag: &str) -> ViewLine {
    ViewLine::of(
        name,
        vec![
            Cell::text("orders_dr"),
            Cell::count(12, "partition"),
            Cell::text("exact"),
            Cell::number(lag).before("lag after"),
        ],
    )
}

fn failover() -> Plan {
    let id = RunbookId {
        name: "dr-failover.rhai".into(),
        digest: Digest::of(b"script"),
    };
    let arguments = BTreeMap::from([("at".to_string(), "2026-11-20T10:00:00Z".to_string())]);
    let mut plan = Plan::new(id, arguments, TimestampMs(1_795_255_200_000));
    plan.add_archive(ArchiveFact {
        url: "s3://dr/prod".into(),
        id: Some("a".into()),
        generation: Some(214),
        generation_digest: None,
        description: "generation 214, 38 min old".into(),
    });
    plan.add_cluster(ClusterFact {
        name: "dr".into(),
        id: "1lkKELodTs2NiT3SGrIbQg".into(),
        description: "3 brokers, Kafka 4.3".into(),
    });
    let create = |target: &str, cells| shown(StepKind::Create, StepView::of(target, cells));
    let partitions = |count: i32, configs: &str| {
        Cell::number(count.to_string()).after(format!("partitions, {configs} configs"))
    };
    let steps = [
        create(
            "topic orders_dr",
            vec![partitions(12, "4"), Cell::text("from orders")],
        ),
        create("topic payments-eu", vec![partitions(6, "2")]),
    ];
    for step in steps {
        plan.add_step(Arc::new(step), None);
    }
    let mut orders = write("orders_dr", 1_204_551, 1 << 30, "1.1", "GiB");
    orders.view = orders
        .view
        .note("filter dropped 3; before 2026-11-20T10:00:00Z");
    plan.add_step(Arc::new(orders), None);
    let payments = write("payments-eu", 88_210, 61 << 20, "61", "MiB");
    plan.add_step(Arc::new(payments), None);
    let verify = StepView::of("2 topics, every record", vec![]);
    plan.add_step(Arc::new(shown(StepKind::Verify, verify)), None);
    plan.add_confirm("Move 2 groups on dr?", None);
    plan
}

fn reset() -> Shown {
    let mut gate = Gate::new("moves committed offsets", "dr");
    gate.notes
        .push("One transaction: both move or neither.".into());
    Shown {
        kind: StepKind::Reset,
        view: StepView {
            lines: vec![
                group("checkout-api", "41"),
                group("checkout-audit", "120,310"),
            ],
            counts: Some("2 groups".into()),
            ..StepView::default()
        },
        gate: Some(gate),
        blocks: Vec::new(),
    }
}

fn draw(plan: &Plan, detail: bool) -> String {
    PlanView::new(&plan.document(), Style::PLAIN, detail).draw()
}

#[track_caller]
fn assert_fits(text: &str) {
    for line in text.lines() {
        assert!(width(line) <= 80, "{} columns: {line}", width(line));
    }
}

#[test]
fn a_failover_is_one_screen_of_80_columns() {
    let mut plan = failover();
    plan.add_step(Arc::new(reset()), None);
    let text = draw(&plan, false);
    let wanted = "\
runbook   dr-failover.rhai (6c73728)
arguments --at 2026-11-20T10:00:00Z
archive   s3://dr/prod  generation 214, 38 min old
cluster   dr  3 brokers, Kafka 4.3, id 1lkKELod

  1  create   topic orders_dr    12 partitions, 4 configs   from orders
  2  create   topic payments-eu   6 partitions, 2 configs
  3  write    orders_dr    1,204,551 records   1.1 GiB
              filter dropped 3; before 2026-11-20T10:00:00Z
  4  write    payments-eu     88,210 records    61 MiB
  5  verify   2 topics, every record
     ── confirm: Move 2 groups on dr? ──────────────────────────────────────────
  6  reset    checkout-api    orders_dr  12 partitions  exact  lag after      41
              checkout-audit  orders_dr  12 partitions  exact  lag after 120,310

  2 create, 2 write, 1 verify, 1 reset (2 groups) · 1.1 GiB to write
  nothing was changed
";
    assert_eq!(text, wanted);
    assert_fits(&text);
}

#[test]
fn a_blocked_step_says_why_and_what_to_do_and_that_nothing_can_be_executed() {
    let mut plan = failover();
    let mut step = reset();
    step.view.lines[1].blocked =
        vec!["payments-eu p3: committed 9,001 is not in the archive yet (ends at 8,990)".into()];
    step.blocks.push(Blocked {
        what: "a committed offset lies beyond the archive".into(),
        hint: Some(
            "take a backup now (kbr run backup.rhai --execute), or say .out_of_range(\"clamp\") in line 17".into(),
        ),
    });
    plan.add_step(Arc::new(step), None);
    let document = plan.document();
    let mut text = draw(&plan, false);
    text.push_str(&what_next(
        &document,
        &"dr-failover.rhai".into(),
        &Style::PLAIN,
    ));
    assert!(
        text.contains(
            "              payments-eu p3: committed 9,001 is not in the archive yet (ends at\n              8,990)   blocked\n"
        ),
        "{text}"
    );
    assert!(text.contains("· 1 blocked ·"), "{text}");
    let end = format!(
        "\nblocked   step 6: a committed offset lies beyond the archive\n          \
         take a backup now (kbr run backup.rhai --execute), or say\n          \
         .out_of_range(\"clamp\") in line 17\n\n\
         plan {} cannot be executed while a step is blocked\n",
        document.digest.short()
    );
    assert!(text.ends_with(&end), "{text}");
    assert_fits(&text);
}

#[test]
fn the_last_line_is_the_command_that_executes_exactly_this_plan() {
    let mut plan = failover();
    plan.now_read = true;
    plan.arguments.insert("note".into(), "it's late".into());
    let document = plan.document();
    assert_eq!(
        command_to_execute(&document, &"my runbooks/dr.rhai".into()),
        format!(
            "kbr run 'my runbooks/dr.rhai' --execute --now 2026-11-21T10:00:00.000Z --confirm {} \
             -- --at 2026-11-20T10:00:00Z --note 'it'\\''s late'",
            document.digest.short()
        )
    );
}

#[test]
fn a_gated_step_without_a_confirm_says_that_it_asks_first() {
    let mut plan = failover();
    plan.items.pop();
    plan.add_step(Arc::new(reset()), None);
    let text = draw(&plan, false);
    assert!(
        text.contains("     ── asks first: moves committed offsets ──────"),
        "{text}"
    );
}

#[test]
fn an_unfinished_evaluation_says_what_is_not_reached() {
    let mut plan = failover();
    plan.stopped = Some(Stopped {
        span: Some(Span {
            line: 21,
            column: 4,
            length: 7,
        }),
        why: "records written to orders_dr: known after execution".into(),
    });
    let text = draw(&plan, false);
    assert!(
        text.contains("── not reached: the rest of the runbook (line 21) ──"),
        "{text}"
    );
    let next = what_next(&plan.document(), &"x.rhai".into(), &Style::PLAIN);
    assert!(next.contains("cannot be executed"), "{next}");
}

#[test]
fn detail_adds_the_rows_of_each_partition() {
    let mut plan = failover();
    let mut step = reset();
    step.view.lines[0].detail = Some(Detail {
        columns: ["partition", "from", "to", "why"]
            .map(String::from)
            .to_vec(),
        rows: vec![
            vec!["0".into(), "9,001".into(), "812".into(), "exact".into()],
            vec!["1".into(), "—".into(), "7".into(), "next record".into()],
        ],
    });
    plan.add_step(Arc::new(step), None);
    let text = draw(&plan, true);
    let wanted = "              partition   from   to  why
                      0  9,001  812  exact
                      1      —    7  next record\n";
    assert!(text.contains(wanted), "{text}");
    assert!(!draw(&plan, false).contains("next record"));
}

#[test]
fn wide_names_and_long_ones_do_not_break_the_page() {
    let mut plan = failover();
    for name in ["受注-東京".to_string(), "x".repeat(120)] {
        plan.add_step(Arc::new(write(&name, 7, 70, "70", "B")), None);
    }
    let text = draw(&plan, false);
    assert!(
        text.contains("  6  write    受注-東京            7 records    70 B\n"),
        "{text}"
    );
    assert!(
        text.contains(&format!("{}\n                7 records", "x".repeat(120))),
        "{text}"
    );
}

#[test]
fn names_from_a_broker_cannot_steer_the_terminal() {
    let mut plan = failover();
    plan.add_step(Arc::new(write("a\x1b]0;pwned\x07", 7, 70, "70", "B")), None);
    let colour = Style {
        colour: true,
        width: 80,
    };
    let text = PlanView::new(&plan.document(), colour, false).draw();
    assert!(
        !text.contains("\x1b]") && !text.contains('\x07'),
        "{text:?}"
    );
    assert!(text.contains("\x1b[32mcreate\x1b[0m"), "{text:?}");
}

#[test]
fn about_how_long_it_takes_is_told_where_that_matters() {
    let summary = |takes_ms: &[u64]| {
        let id = RunbookId {
            name: "r.rhai".into(),
            digest: Digest::of(b"script"),
        };
        let mut plan = Plan::new(id, BTreeMap::new(), TimestampMs(1_795_255_200_000));
        for takes_ms in takes_ms {
            let mut step = write("orders", 1, 1 << 30, "1.0", "GiB");
            step.view.takes_ms = *takes_ms;
            plan.add_step(Arc::new(step), None);
        }
        let style = Style {
            colour: false,
            width: 80,
        };
        PlanView::new(&plan.document(), style, false).summary()
    };
    assert!(summary(&[11_000, 900]).contains(" to write · about 12 s · "));
    assert!(summary(&[3_600_000, 300_000]).contains(" · about 1 h 5 min · "));
    assert!(!summary(&[1_000, 500]).contains("about"));
}

#[test]
fn what_is_forced_is_asked_by_itself_and_in_red_whatever_was_confirmed() {
    let mut plan = failover();
    let mut forced = reset();
    let mut line = group("checkout-api", "41");
    line.dangers = vec!["forced: checkout-api has members".to_string()];
    forced.view.lines = vec![line];
    let mut gate = Gate::new("moves checkout-api under its members", "force");
    gate.alone = true;
    forced.gate = Some(gate);
    plan.add_step(Arc::new(forced), None);
    let document = plan.document();
    let style = Style {
        colour: true,
        width: 80,
    };
    let text = PlanView::new(&document, style, false).draw();
    let red = |what: &str| {
        text.lines()
            .any(|line| line.contains("\x1b[31m") && line.contains(what))
    };
    assert!(
        red("asks first: moves checkout-api under its members"),
        "{text}"
    );
    assert!(red("forced: checkout-api has members"), "{text}");
    let gates = plan.gates();
    let words: Vec<String> = gates.iter().map(crate::run::GateSection::word).collect();
    assert_eq!(words, ["yes", "force"]);
}
