//! The runbooks in `examples/`, rehearsed: stand-ins, but everything really done and looked at afterwards.

use async_trait::async_trait;
use kbr::base::{CancellationToken, time};
use kbr::dsl::{Arguments, EvaluateOptions, Evaluated, ScriptError, Source, World, eval, evaluate};
use kbr::run::{
    Answer, Approval, Approver, Config, Execution, Journal, NoWatcher, Plan, Question, RunEnd,
    RunReport, StepKind, execute,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

struct Nobody;

#[async_trait]
impl Approver for Nobody {
    async fn ask(&self, _question: &Question<'_>) -> Answer {
        Answer::No(String::new())
    }
}

async fn rehearsal() -> Arc<World> {
    let config = Config::find(&examples()).unwrap();
    Arc::new(World::rehearsal(config).await.unwrap())
}

fn options(arguments: &[&str]) -> EvaluateOptions {
    EvaluateOptions {
        arguments: Arguments::parse(arguments).unwrap(),
        now: time::now(),
        cancel: CancellationToken::new(),
        shows_value: false,
    }
}

async fn evaluated(world: &Arc<World>, source: &Source, arguments: &[&str]) -> Evaluated {
    match evaluate(source, world, options(arguments)).await {
        Ok(evaluated) => evaluated,
        Err(error) => panic!("{error}: {:?}", error.finding),
    }
}

async fn apply(plan: &Plan, approval: Approval) -> RunReport {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let execution = Execution {
        approval,
        approver: &Nobody,
        journal: &journal,
        watcher: &NoWatcher,
        cancel: CancellationToken::new(),
    };
    execute(plan, execution).await.unwrap()
}

async fn shown(world: &Arc<World>, script: &str) -> String {
    match eval(&Source::inline("eval", script), world, options(&[])).await {
        Ok(shown) => shown.text,
        Err(error) => panic!("{script}: {error}: {:?}", error.finding),
    }
}

fn kinds(plan: &Plan) -> Vec<StepKind> {
    plan.steps().map(|planned| planned.step.kind()).collect()
}

/// A runbook against the examples' stand-ins that gets as far as `data`.
fn with_data(filter: &str) -> Source {
    Source::inline(
        "test.rhai",
        format!(
            "let snap = store(\"prod\").latest();\nlet dr = cluster(\"dr\");\n{filter}\n\
             let data = restore(snap).filter(keep).to(dr);\n"
        ),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_failover_runbook_does_what_it_says() {
    let world = rehearsal().await;
    let source = Source::read(&examples().join("dr-failover.rhai")).unwrap();
    let evaluated = evaluated(&world, &source, &[]).await;
    use StepKind::{Create, Reset, Update, Verify, Write};
    assert_eq!(
        kinds(&evaluated.plan),
        [Create, Create, Write, Write, Verify, Update, Update, Reset]
    );
    assert!(
        evaluated.printed[0].contains("checkout-audit  orders_dr"),
        "{:?}",
        evaluated.printed
    );
    // Planning changed nothing.
    assert_eq!(shown(&world, "cluster(\"dr\").topics()").await, "(none)");

    let report = apply(&evaluated.plan, Approval::Rehearsal).await;
    assert!(matches!(report.end, RunEnd::Done), "{:?}", report.end);
    let totals: Vec<(&str, u64)> = report
        .totals
        .iter()
        .map(|total| (total.what.as_str(), total.count))
        .collect();
    assert_eq!(
        totals,
        [
            ("records written", 19),
            ("records read back", 19),
            ("differ", 0),
            ("groups moved", 2)
        ]
    );
    // One record less than at the source: the poison one, offset 3 of orders-0.
    assert_eq!(
        shown(
            &world,
            "cluster(\"dr\").topics().map(|t| `${t.name} ${t.partitions} ${t.records}`)"
        )
        .await,
        "orders_dr 3 14\npayments-eu 2 5"
    );
    let offsets = |group: &str| {
        format!(
            "cluster(\"dr\").group(\"{group}\").offsets().map(|o| `${{o.topic}}-${{o.partition}} ${{o.committed}} ${{o.lag}}`)"
        )
    };
    assert_eq!(
        shown(&world, &offsets("checkout-api")).await,
        "orders_dr-0 4 1\norders_dr-1 5 0\norders_dr-2 4 0\npayments-eu-0 3 0\npayments-eu-1 2 0"
    );
    assert_eq!(
        shown(&world, &offsets("checkout-audit")).await,
        "orders_dr-0 3 2\norders_dr-1 2 3\norders_dr-2 1 3"
    );
    // The groups that nobody asked for stayed where they were.
    assert_eq!(
        shown(&world, "cluster(\"dr\").groups().map(|g| g.name)").await,
        "checkout-api\ncheckout-audit"
    );
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_bound_is_held_to_each_record() {
    let world = rehearsal().await;
    let source = Source::read(&examples().join("dr-failover.rhai")).unwrap();
    let plan = evaluated(&world, &source, &["--at", "-15m"]).await.plan;
    assert!(
        plan.now_read,
        "a relative time depends on the clock of the run"
    );
    let report = apply(&plan, Approval::Rehearsal).await;
    assert!(matches!(report.end, RunEnd::Done), "{:?}", report.end);
    // Younger than 15 minutes: three of orders, two of payments-eu; and the poison one.
    assert_eq!(
        shown(
            &world,
            "cluster(\"dr\").topics().map(|t| `${t.name} ${t.records}`)"
        )
        .await,
        "orders_dr 11\npayments-eu 3"
    );
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_writes_behind_the_first_and_is_gated() {
    let world = rehearsal().await;
    let source = Source::read(&examples().join("dr-failover.rhai")).unwrap();
    let first = evaluated(&world, &source, &[]).await.plan;
    assert!(matches!(
        apply(&first, Approval::Rehearsal).await.end,
        RunEnd::Done
    ));
    // The same plan again is drift before its first effect.
    let again = apply(&first, Approval::Rehearsal).await;
    assert!(
        matches!(&again.end, RunEnd::Failed { ordinal: 1, .. }),
        "{:?}",
        again.end
    );

    let second = evaluated(&world, &source, &[]).await.plan;
    let gated: Vec<StepKind> = second
        .steps()
        .filter(|planned| planned.step.gate().is_some())
        .map(|planned| planned.step.kind())
        .collect();
    assert!(gated.contains(&StepKind::Write), "{gated:?}");
    assert_ne!(first.digest(), second.digest());
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backup_runbook_adds_a_generation_each_time() {
    let world = rehearsal().await;
    let source = Source::read(&examples().join("backup.rhai")).unwrap();
    for _ in 0..2 {
        let plan = evaluated(&world, &source, &[]).await.plan;
        assert_eq!(kinds(&plan), [StepKind::Backup]);
        let report = apply(&plan, Approval::Nobody).await;
        assert!(matches!(report.end, RunEnd::Done), "{:?}", report.end);
    }
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_named_by_what_it_does_and_not_by_when_it_was_made() {
    let world = rehearsal().await;
    let plan = |script: &str| {
        let world = world.clone();
        let source = with_data(script);
        async move { evaluated(&world, &source, &[]).await.plan }
    };
    let one = plan("let bad = \"poison\"; let keep = |r| r.key != bad;").await;
    let same = plan("let bad = \"poison\"; let keep = |r| r.key != bad;").await;
    assert_eq!(one.digest(), same.digest());
    let other_capture = plan("let bad = \"poisoN\"; let keep = |r| r.key != bad;").await;
    assert_ne!(one.digest(), other_capture.digest());
    world.shutdown().await;
}

async fn refused(filter: &str) -> ScriptError {
    let world = rehearsal().await;
    let answer = evaluate(&with_data(filter), &world, options(&[])).await;
    world.shutdown().await;
    match answer {
        Ok(_) => panic!("{filter} was taken"),
        Err(error) => error,
    }
}

fn line(error: &ScriptError) -> String {
    let span = error.finding.span.unwrap();
    format!(
        "{} {}:{} {}",
        error.finding.code,
        span.line,
        span.column,
        timeless(&error.finding.message)
    )
}

/// Without the time of the record, which moves with the clock of the test.
fn timeless(message: &str) -> String {
    match (message.find(" (20"), message.find("Z, key ")) {
        (Some(from), Some(to)) if from < to => {
            format!("{} ({}", &message[..from], &message[to + 3..])
        }
        _ => message.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_fails_names_the_record_and_its_own_place() {
    let error = refused("let keep = |r| parse_json(r.value).order > 0;").await;
    let text = line(&error);
    assert!(
        text.starts_with(
            "E0223 3:16 the filter failed on orders-0 offset 3 (key \"poison\"): not JSON:"
        ),
        "{text}"
    );
    let error = refused("let keep = |r| r.key < 5;").await;
    assert_eq!(
        line(&error),
        "E0223 3:22 the filter failed on orders-0 offset 0 (key \"order-1001\"): `<` does not compare text with a whole number \
         (make the text a number with parse_int(…), or quote the number)"
    );
    let error = refused("let keep = |r| r.key;").await;
    assert_eq!(
        line(&error),
        "E0223 3:12 the filter failed on orders-0 offset 0 (key \"order-1001\"): the filter answers true or false, not text"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_takes_plain_values_along_and_nothing_else() {
    let error = refused("let keep = |r| r.topic in dr.topics();").await;
    assert_eq!(
        line(&error),
        "E0213 4:26 the closure uses `dr`, a cluster: only plain values can be taken along"
    );
    let error = refused("let keep = |r| cluster(\"dr\").name == r.topic;").await;
    assert_eq!(
        line(&error),
        "E0223 3:16 the filter failed on orders-0 offset 0 (key \"order-1001\"): `cluster` cannot be used in a closure over records or \
         names (read what it needs into a variable before, and use that)"
    );
    // What it captured is frozen: a change afterwards is not seen.
    let world = rehearsal().await;
    let source = Source::inline(
        "test.rhai",
        "let bad = \"poison\"; let keep = |r| r.key != bad;\n\
         let wanted = restore(store(\"prod\").latest()).topics(\"orders\").filter(keep);\n\
         bad = \"other\";\nlet data = wanted.to(cluster(\"dr\"));\nprint(data.dropped); print(data.records);",
    );
    assert_eq!(evaluated(&world, &source, &[]).await.printed, ["1", "14"]);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_show_every_field_as_it_is() {
    let world = rehearsal().await;
    for (filter, kept) in [
        ("|r| r.value == ()", 2),
        ("|r| r.key == ()", 1),
        ("|r| r.header(\"retry\") == \"2\"", 1),
        ("|r| r.header(\"tenant\") == \"eu\"", 4),
        ("|r| r.headers.len() == 3", 1),
        (
            "|r| r.headers.some(|h| h.key == \"trace\" && h.value == ())",
            1,
        ),
        (
            "|r| r.topic == \"orders\" && r.partition == 2 && r.offset < 2",
            2,
        ),
        (
            "|r| r.value != () && r.key != \"poison\" && (parse_json(r.value).get(\"paid\") ?? false)",
            4,
        ),
        ("|r| r.timestamp.ms % 2 == 3", 0),
    ] {
        let source = with_data(&format!("let keep = {filter};"));
        let source = Source::inline("test.rhai", format!("{}print(data.records);", source.text));
        assert_eq!(
            evaluated(&world, &source, &[])
                .await
                .printed
                .last()
                .unwrap(),
            &kept.to_string(),
            "{filter}"
        );
    }
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_changed_by_a_map_or_a_closure() {
    let world = rehearsal().await;
    for (remap, wanted) in [
        ("#{ orders: \"shop\" }", "[\"shop\", \"payments-eu\"]"),
        (
            "|name| name + \"_dr\"",
            "[\"orders_dr\", \"payments-eu_dr\"]",
        ),
        (
            "|name| if name == \"orders\" { \"o\" }",
            "[\"o\", \"payments-eu\"]",
        ),
    ] {
        let source = Source::inline(
            "test.rhai",
            format!(
                "let data = restore(store(\"prod\").latest()).remap({remap}).to(cluster(\"dr\")); print(`${{data.topics}}`);"
            ),
        );
        assert_eq!(
            evaluated(&world, &source, &[]).await.printed,
            [wanted],
            "{remap}"
        );
    }
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_matches_nothing_blocks_the_plan() {
    let world = rehearsal().await;
    let source = Source::inline(
        "test.rhai",
        "restore(store(\"prod\").latest()).topics(\"ordrs\").to(cluster(\"dr\"));",
    );
    let plan = evaluated(&world, &source, &[]).await.plan;
    let blocks: Vec<String> = plan
        .steps()
        .flat_map(|planned| planned.step.blocks())
        .map(|blocked| blocked.what)
        .collect();
    assert!(
        blocks.iter().any(|what| what.contains("ordrs")),
        "{blocks:?}"
    );
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_only_execution_can_tell_ends_the_evaluation_where_it_is_read() {
    // Planning may read nothing, so nobody knows yet how many records the filter keeps.
    let head = "let snap = store(\"prod\").latest();\nlet dr = cluster(\"dr\");\n\
                let data = restore(snap).filter(|r| r.key != \"poison\").scan_budget(\"0\").to(dr);\n";
    let reads = [
        "print(data.records);",
        "if data.records == 0 { print(\"empty\"); }",
        "try { print(data.records); } catch { print(\"caught\"); }",
        "let more = data.dropped > 3;",
        "let moved = offset_plan(data).groups(\"checkout-*\"); print(moved);",
        "offset_plan(data).groups(\"checkout-*\").reset();",
    ];
    for read in reads {
        let world = rehearsal().await;
        let script = format!("{head}{read}\nprint(\"after\");\nconfirm(\"never reached\");\n");
        let source = Source::inline("budget.rhai", script);
        let found = evaluated(&world, &source, &[]).await;
        let stopped = found.plan.stopped.as_ref().unwrap_or_else(|| {
            panic!(
                "{read}: not stopped: {:?} {:?} {:?}",
                found.printed,
                kinds(&found.plan),
                found.plan.blocked()
            )
        });
        assert!(
            stopped.why.contains("after execution"),
            "{read}: {}",
            stopped.why
        );
        assert_eq!(
            stopped.span.as_ref().map(|span| span.line),
            Some(4),
            "{read}"
        );
        assert_eq!(found.printed.join("\n"), "", "{read}");
        assert!(!kinds(&found.plan).contains(&StepKind::Reset), "{read}");
        let journal = Journal::in_memory().unwrap();
        let refused = execute(
            &found.plan,
            Execution {
                approval: Approval::Rehearsal,
                approver: &Nobody,
                journal: &journal,
                watcher: &NoWatcher,
                cancel: CancellationToken::new(),
            },
        )
        .await;
        let refused = refused
            .map(|report| report.steps.len())
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("(line 4); nothing was changed"),
            "{read}: {refused}"
        );
        world.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_cannot_be_planned_fails_the_runbook_even_if_it_is_caught() {
    let world = rehearsal().await;
    let source = Source::inline(
        "caught.rhai",
        "let snap = store(\"prod\").latest();\nlet dr = cluster(\"dr\");\n\
         try { restore(snap).filter(|r| (r.key ?? 0) > 5).to(dr); } catch { }\nprint(\"after\");\n",
    );
    match evaluate(&source, &world, options(&[])).await {
        Ok(found) => panic!("planned {:?} without the restore", kinds(&found.plan)),
        Err(error) => assert!(line(&error).starts_with("E0223 3:45 "), "{}", line(&error)),
    }
    world.shutdown().await;
}
