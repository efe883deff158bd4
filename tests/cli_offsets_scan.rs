//! Groups of an archive, or of another cluster, onto topics that are there already: planned by a second runbook that knows
//! nothing of the restore.

mod cli_scene;

use cli_scene::{Scene, batch};
use kbr::record::{BatchBuilder, BuildOptions, Headers, OwnedHeaders, ProducerStamp};

const RESTORE: &str = r#"restore(store("file:archive").latest())
    .topics("orders")
    .filter(|r| r.key != "order-1")
    .remap(#{ "orders": "orders_dr" })
    .origin_headers(true)
    .to(cluster("dr"));
"#;

const REMAPPED: &str = r#".onto(cluster("dr")).remap(#{ "orders": "orders_dr" })"#;

fn runbook(source: &str, options: &str) -> String {
    format!("let moved = offset_plan({source}){options};\nprint(moved);\nmoved.reset();\n")
}

const LATEST: &str = "store(\"file:archive\").latest()";

#[track_caller]
fn planned(scene: &Scene, source: &str, options: &str) -> String {
    scene.folder.write("move.rhai", &runbook(source, options));
    scene.kbr(&["run", "move.rhai"]).expect(0).text()
}

/// Plans, and does it with the word that the plan asks for.
#[track_caller]
fn moved(scene: &Scene, source: &str, options: &str) -> String {
    scene.folder.write("move.rhai", &runbook(source, options));
    let digest = scene.kbr(&["run", "move.rhai"]).expect(0).digest();
    scene
        .kbr(&["run", "move.rhai", "--execute", "--confirm", &digest])
        .expect(0)
        .text()
}

/// Carries out a runbook that asks first.
#[track_caller]
fn executed(scene: &Scene, runbook: &str) {
    let digest = scene.kbr(&["run", runbook]).expect(0).digest();
    let words = ["run", runbook, "--execute", "--confirm", &digest];
    scene.kbr(&words).expect(0);
}

#[track_caller]
fn refused(scene: &Scene, source: &str, options: &str, expected: &[&str]) {
    let text = planned(scene, source, options);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in expected {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    assert_ne!(scene.kbr(&["run", "move.rhai", "--execute"]).code, 0);
}

/// Restored with the headers of its origin, under another name and without `order-1`; and somebody has written behind it.
async fn restored() -> Scene {
    let scene = Scene::backed_up().await;
    scene.folder.write("restore.rhai", RESTORE);
    scene.kbr(&["run", "restore.rhai", "--execute"]).expect(0);
    for partition in 0..2 {
        scene
            .dr
            .append("orders_dr", partition, &batch("new"))
            .unwrap();
    }
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_lead_to_the_very_record_without_the_restore() {
    let scene = restored().await;
    let options = format!("{REMAPPED}.strategy(\"header\")");
    let text = moved(&scene, LATEST, &options);
    assert!(text.contains("same record, by its header"), "{text}");
    assert!(
        text.contains(
            "after the last record that came from the source; 1 record without the header"
        ),
        "{text}"
    );
    // Of five orders, four were restored: the fourth is at 2, and behind the fifth is 4 and not the end.
    assert_eq!(scene.committed("checkout-api"), [(0, 2), (1, 4)]);
    assert_eq!(scene.committed("checkout-audit"), [(0, 0)]);
    // The same from the live source, under other names.
    let renamed =
        format!("{options}.groups(\"checkout-*\").rename_groups(|group| group + \"-dr\")");
    moved(&scene, "cluster(\"prod\")", &renamed);
    assert_eq!(scene.committed("checkout-api-dr"), [(0, 2), (1, 4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_place_is_left_alone_where_the_runbook_says_so_and_the_rest_goes_out_as_rows() {
    let scene = restored().await;
    scene
        .prod
        .set_committed("checkout-api", "unknown", 0, 3, "");
    let options = format!("{REMAPPED}.groups(\"checkout-api\").strategy(\"header\")");
    let source = "cluster(\"prod\")";
    refused(
        &scene,
        source,
        &options,
        &["unknown-0: the target has no such topic"],
    );
    let options = format!("{options}.unplaced(\"leave\")");
    let text = planned(&scene, source, &options);
    assert!(
        text.contains("left alone: checkout-api on unknown (1 partition)"),
        "{text}"
    );
    let words = format!("print(offset_plan({source}){options}.exported(\"csv\"))");
    let rows = scene.kbr(&["eval", &words]).expect(0).stdout;
    assert_eq!(
        rows,
        "checkout-api,orders_dr,0,2\ncheckout-api,orders_dr,1,4\n"
    );
    // A restore's plan gives groups other names too.
    scene.folder.write(
        "renamed.rhai",
        r#"let data = restore(store("file:archive").latest()).topics("orders").remap(|name| "again").to(cluster("dr"));
offset_plan(data).rename_groups(#{ "checkout-api": "api" }).reset();
"#,
    );
    executed(&scene, "renamed.rhai");
    assert_eq!(scene.committed("api"), [(0, 3), (1, 5)]);
    assert_eq!(scene.committed("checkout-audit"), [(0, 0)]);
    assert_eq!(scene.committed("checkout-api"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_plan_of_another_source_is_applied_as_it_was_approved() {
    let scene = restored().await;
    let options = format!("{REMAPPED}.strategy(\"header\")");
    scene.folder.write("move.rhai", &runbook(LATEST, &options));
    let plan = scene
        .kbr(&["run", "move.rhai", "--save", "plan.json"])
        .expect(0);
    let digest = plan.digest();
    let words = ["apply", "plan.json", "--execute", "--confirm", &digest];
    scene.kbr(&words).expect(0);
    assert_eq!(scene.committed("checkout-api"), [(0, 2), (1, 4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_headers_do_not_tell_blocks() {
    let scene = Scene::backed_up().await;
    scene.dr.create_topic("orders", 2, &[]).unwrap();
    for partition in 0..2 {
        scene.dr.append("orders", partition, &batch("new")).unwrap();
    }
    let onto = ".onto(cluster(\"dr\"))";
    refused(
        &scene,
        LATEST,
        &format!("{onto}.strategy(\"header\")"),
        &[
            "none of its 1 record has an x-original-offset header",
            "origin_headers",
        ],
    );
    refused(
        &scene,
        LATEST,
        &format!("{onto}.remap(|name| name + \"_dr\").strategy(\"header\")"),
        &["the target has no such topic"],
    );
    refused(
        &scene,
        LATEST,
        onto,
        &["no restore tells where its records went", "cluster-scan"],
    );
    refused(
        &scene,
        LATEST,
        &format!("{onto}.groups(\"chekout-api\").strategy(\"header\")"),
        &["no group of the source is called chekout-api; did you mean checkout-api?"],
    );
    assert_eq!(scene.dr.groups(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn preserved_offsets_are_copied_where_the_target_holds_them() {
    let scene = Scene::backed_up().await;
    scene.dr.create_topic("orders", 2, &[]).unwrap();
    let mirror = |partition| {
        let log = scene.prod.log("orders", partition).unwrap();
        scene.dr.replicate("orders", partition, &log).unwrap();
    };
    mirror(0);
    let options = ".onto(cluster(\"dr\")).strategy(\"preserve\")";
    refused(
        &scene,
        LATEST,
        options,
        &["orders-1: 5 lies beyond the target's end 0"],
    );
    mirror(1);
    let text = moved(&scene, LATEST, options);
    assert!(
        text.contains("the same number, at the same records"),
        "{text}"
    );
    scene.assert_moved();
    // Written there on its own: as many records, and others.
    scene.dr.create_topic("other", 2, &[]).unwrap();
    for partition in 0..2 {
        for order in 0..5 {
            let batch = batch(&format!("other-{order}"));
            scene.dr.append("other", partition, &batch).unwrap();
        }
    }
    let other = format!("{options}.remap(#{{ \"orders\": \"other\" }})");
    refused(
        &scene,
        LATEST,
        &other,
        &["another record than at the source is at 0"],
    );
    // With one partition more the same numbers stand for nothing, even where the records are the same.
    scene.dr.create_topic("wider", 3, &[]).unwrap();
    for partition in 0..2 {
        let log = scene.prod.log("orders", partition).unwrap();
        scene.dr.replicate("wider", partition, &log).unwrap();
    }
    let wider = other.replace("other", "wider");
    refused(
        &scene,
        LATEST,
        &wider,
        &[
            "3 partitions there and 2 at the source, so that the same numbers stand for other records",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_need_or_exclude_each_other_say_so() {
    let scene = Scene::backed_up().await;
    let cases = [
        (
            LATEST,
            ".strategy(\"header\")",
            "does not say onto which cluster",
        ),
        (
            "cluster(\"prod\")",
            ".remap(#{})",
            "`remap` needs to know onto which cluster",
        ),
        (
            LATEST,
            ".onto(cluster(\"dr\")).strategy(\"earliest\")",
            "strategy `earliest` moves groups within a cluster",
        ),
    ];
    for (source, options, expected) in cases {
        scene.folder.write("move.rhai", &runbook(source, options));
        let text = scene.kbr(&["run", "move.rhai"]).expect(2).text();
        assert!(text.contains(expected), "{options}: {text}");
    }
    let two = format!("{REMAPPED}.strategy(\"preserve\").rename_groups(|group| \"one\")");
    refused(
        &scene,
        LATEST,
        &two,
        &["checkout-api, checkout-audit would all be called one"],
    );
}

/// A record with a time of its own.
fn at(time: i64, key: &str) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BuildOptions::default());
    builder
        .push(time, Some(key.as_bytes()), Some(b"value"), Headers::empty())
        .unwrap();
    builder.finish(ProducerStamp::NONE).unwrap()
}

/// `events` of prod, with times that do not ascend; restored to `events` of dr without headers.
async fn out_of_order() -> Scene {
    let scene = Scene::new().await;
    scene
        .prod
        .create_topic("events", 1, &[("retention.ms", "-1")])
        .unwrap();
    let begin = kbr::base::time::now().0 - 3_600_000;
    for (place, minute) in [10, 20, 40, 30, 20, 50, 60].into_iter().enumerate() {
        let record = at(begin + minute * 60_000, &format!("event-{place}"));
        scene.prod.append("events", 0, &record).unwrap();
    }
    for (group, offset) in [("first", 1), ("middle", 3), ("ordered", 5), ("done", 7)] {
        scene.prod.set_committed(group, "events", 0, offset, "");
    }
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    scene.folder.write(
        "restore.rhai",
        r#"restore(store("file:archive").latest()).topics("events").to(cluster("dr"));"#,
    );
    scene.kbr(&["run", "restore.rhai", "--execute"]).expect(0);
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn times_lead_to_no_later_record_than_the_next_one_and_say_how_much_is_read_again() {
    let scene = out_of_order().await;
    for source in [LATEST, "cluster(\"prod\")"] {
        let options = ".onto(cluster(\"dr\")).groups(\"first\", \"middle\", \"ordered\", \"done\")\
                       .topics(\"events\").strategy(\"timestamp\")";
        let text = planned(&scene, source, options);
        // Unread from 3 on are the minutes 30, 20, 50 and 60: the first of minute 20 or later is at 1.
        assert!(text.contains("re-reads at most 2"), "{source}: {text}");
        assert!(
            text.contains("after the same last record as at the source"),
            "{source}: {text}"
        );
        refused(
            &scene,
            source,
            &format!("{options}.at_most_behind(1)"),
            &["middle would read up to 2 records again, more than 1"],
        );
        // From minute 20, at 1, to minute 30, at 3.
        planned(
            &scene,
            source,
            &format!("{options}.at_most_behind(minutes(10))"),
        );
        refused(
            &scene,
            source,
            &format!("{options}.at_most_behind(minutes(9))"),
            &["middle would go back up to 10 min, more than 9 min"],
        );
    }
    let options = ".onto(cluster(\"dr\")).topics(\"events\").strategy(\"timestamp\")";
    moved(&scene, LATEST, options);
    let places = [("first", 1), ("middle", 1), ("ordered", 5), ("done", 7)];
    for (group, offset) in places {
        assert_eq!(scene.committed(group), [(0, offset)], "{group}");
    }
    // Somebody has written behind it: then its end is not where the source's is.
    scene.dr.append("events", 0, &batch("new")).unwrap();
    refused(
        &scene,
        LATEST,
        &format!("{options}.groups(\"done\")"),
        &["the target does not end with the same record"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_around_an_offset_is_found_again_and_the_row_says_how_surely() {
    let scene = Scene::backed_up().await;
    scene.folder.write(
        "restore.rhai",
        &RESTORE.replace(".origin_headers(true)", ""),
    );
    scene.kbr(&["run", "restore.rhai", "--execute"]).expect(0);
    for partition in 0..2 {
        scene
            .dr
            .append("orders_dr", partition, &batch("new"))
            .unwrap();
    }
    let options = format!("{REMAPPED}.strategy(\"cluster-scan\")");
    for source in [LATEST, "cluster(\"prod\")"] {
        let groups = ".groups(\"checkout-*\")";
        let text = planned(&scene, source, &format!("{options}{groups}"));
        assert!(text.contains("likely: 4 of 5 neighbours match"), "{text}");
        assert!(
            text.contains("2 partitions   2 unknown   lag after"),
            "{text}"
        );
    }
    moved(&scene, LATEST, &options);
    assert_eq!(scene.committed("checkout-api"), [(0, 2), (1, 4)]);
    assert_eq!(scene.committed("checkout-audit"), [(0, 0)]);

    let scene = out_of_order().await;
    let options = ".onto(cluster(\"dr\")).topics(\"events\").strategy(\"cluster-scan\")";
    scene.dr.append("events", 0, &batch("new")).unwrap();
    let text = moved(&scene, LATEST, options);
    assert!(text.contains("exact: 7 of 7 neighbours match"), "{text}");
    for (group, offset) in [("first", 1), ("middle", 3), ("ordered", 5), ("done", 7)] {
        assert_eq!(scene.committed(group), [(0, offset)], "{group}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_twice_or_not_at_all_or_spread_blocks() {
    let scene = out_of_order().await;
    let options = ".onto(cluster(\"dr\")).topics(\"events\").strategy(\"cluster-scan\")";
    let other = format!("{options}.remap(#{{ \"events\": \"other\" }})");
    scene.dr.create_topic("other", 1, &[]).unwrap();
    scene.dr.append("other", 0, &batch("new")).unwrap();
    refused(
        &scene,
        LATEST,
        &other,
        &["none of the 7 records around it is in other"],
    );
    scene.folder.write(
        "spread.rhai",
        r#"restore(store("file:archive").latest()).topics("events").remap(#{ "events": "spread" }).repartition(3)
               .to(cluster("dr"));"#,
    );
    scene.kbr(&["run", "spread.rhai", "--execute"]).expect(0);
    let spread = other.replace("other", "spread");
    refused(
        &scene,
        LATEST,
        &spread,
        &["are in several partitions of spread"],
    );
    executed(&scene, "restore.rhai");
    refused(
        &scene,
        LATEST,
        options,
        &["2 places in events are as likely as each other"],
    );
}

/// A hundred records in each of two partitions of `events`, one a minute and the second partition half an hour later, with
/// keys that spread over three.
async fn spread(to: &str) -> Scene {
    let scene = Scene::new().await;
    let forever = [("retention.ms", "-1")];
    scene.prod.create_topic("events", 2, &forever).unwrap();
    let begin = kbr::base::time::now().0 - 10 * 3_600_000;
    for minute in 0..100 {
        for partition in 0..2 {
            let time = begin + (minute + 30 * i64::from(partition)) * 60_000;
            let record = at(time, &format!("event-{partition}-{minute}"));
            scene.prod.append("events", partition, &record).unwrap();
        }
    }
    for (group, first, second) in [("early", 10, 0), ("late", 90, 95), ("done", 100, 100)] {
        scene.prod.set_committed(group, "events", 0, first, "");
        scene.prod.set_committed(group, "events", 1, second, "");
    }
    scene.prod.set_committed("half", "events", 0, 50, "");
    scene.kbr(&["run", "backup.rhai", "--execute"]).expect(0);
    scene.folder.write(
        "restore.rhai",
        &format!("restore({LATEST}).topics(\"events\"){to}.to(cluster(\"dr\"));"),
    );
    scene.kbr(&["run", "restore.rhai", "--execute"]).expect(0);
    scene
}

/// Keys of what a group has not read at the source, and of what it would read at the target.
fn unread(scene: &Scene, group: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let behind = |cluster: &kbr::sandbox::Sandbox| {
        let mut keys = Vec::new();
        for ((topic, partition), committed) in cluster.committed(group) {
            for record in cluster.records(&topic, partition).unwrap() {
                if topic == "events" && record.offset >= committed.offset {
                    keys.extend(record.key);
                }
            }
        }
        keys.sort();
        keys
    };
    (behind(&scene.prod), behind(&scene.dr))
}

#[tokio::test(flavor = "multi_thread")]
async fn over_more_or_other_partitions_times_lead_to_no_unread_record_skipped() {
    for to in [
        ".repartition(3)",
        ".remap_partitions(#{ \"0\": 1, \"1\": 0 })",
    ] {
        let scene = spread(to).await;
        let options = ".onto(cluster(\"dr\")).topics(\"events\").strategy(\"timestamp\")";
        let groups = format!("{options}.groups(\"early\", \"late\")");
        for source in [LATEST, "cluster(\"prod\")"] {
            let text = planned(&scene, source, &groups);
            assert!(
                text.contains("the oldest that is unread in any partition"),
                "{to} {source}: {text}"
            );
        }
        moved(&scene, LATEST, &groups);
        for group in ["early", "late"] {
            let (at_source, at_target) = unread(&scene, group);
            assert!(!at_source.is_empty());
            let skipped: Vec<_> = at_source
                .iter()
                .filter(|key| !at_target.contains(key))
                .collect();
            assert!(skipped.is_empty(), "{to} {group}: {skipped:?}");
            // Of 200 those are read again that are younger than the oldest unread one: not all of them.
            assert!(at_target.len() < 200, "{to} {group}: {}", at_target.len());
        }
        // Minute 90 of the first partition is minute 60 of the second, of which 95 were read.
        let code = format!("offset_plan({LATEST}){options}.groups(\"late\")");
        let text = scene.kbr(&["eval", &code]).expect(0).text();
        assert!(text.contains("re-reads at most"), "{to}: {text}");
        for (group, why) in [
            (
                "half",
                "may hold records of events-1, where half committed nothing",
            ),
            ("done", "everything is read at the source"),
        ] {
            let options = format!("{options}.groups(\"{group}\")");
            refused(&scene, LATEST, &options, &[why]);
        }
        // By content each partition has to be one of the source's.
        let scan = options.replace("timestamp", "cluster-scan") + ".groups(\"late\")";
        if to.contains("repartition") {
            refused(
                &scene,
                LATEST,
                &scan,
                &["are in several partitions of events"],
            );
        } else {
            moved(&scene, LATEST, &scan);
            assert_eq!(scene.committed("late"), [(0, 95), (1, 90)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_partitions_were_joined_a_group_without_a_commit_on_one_of_them_is_not_moved() {
    let scene = spread(".repartition(1)").await;
    let scan = ".onto(cluster(\"dr\")).topics(\"events\").strategy(\"cluster-scan\")";
    for source in [LATEST, "cluster(\"prod\")"] {
        refused(
            &scene,
            source,
            &format!("{scan}.groups(\"half\")"),
            &["events-0 has records of events-1, where half committed nothing"],
        );
        refused(
            &scene,
            source,
            &format!("{scan}.groups(\"late\")"),
            &["several committed offsets of late would go to events-0"],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_more_partitions_headers_lead_to_every_unread_record() {
    let scene = spread(".origin_headers(true).repartition(3)").await;
    let options = ".onto(cluster(\"dr\")).topics(\"events\").strategy(\"header\")";
    let groups = format!("{options}.groups(\"early\", \"late\", \"done\")");
    moved(&scene, LATEST, &groups);
    for group in ["early", "late", "done"] {
        let (at_source, at_target) = unread(&scene, group);
        let skipped: Vec<_> = at_source
            .iter()
            .filter(|key| !at_target.contains(key))
            .collect();
        assert!(skipped.is_empty(), "{group}: {skipped:?}");
        assert!(group != "done" || at_target.is_empty());
    }
    let half = format!("{options}.groups(\"half\")");
    refused(
        &scene,
        LATEST,
        &half,
        &["has records of events p1, where half committed nothing"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_renumbered_is_found_by_headers_and_by_content() {
    let scene = Scene::backed_up().await;
    scene.folder.write(
        "restore.rhai",
        r#"restore(store("file:archive").latest()).topics("orders").origin_headers(true)
               .remap_partitions(#{ "0": 1, "1": 0 }).to(cluster("dr"));"#,
    );
    scene.kbr(&["run", "restore.rhai", "--execute"]).expect(0);
    let options = ".onto(cluster(\"dr\")).strategy(\"header\")";
    moved(&scene, LATEST, options);
    assert_eq!(scene.committed("checkout-api"), [(0, 5), (1, 3)]);
    assert_eq!(scene.committed("checkout-audit"), [(1, 0)]);
    // Keys and values are the same in both partitions, their times are not; where they are, nothing is told.
    let options = ".onto(cluster(\"dr\")).strategy(\"cluster-scan\").groups(\"checkout-api\")";
    let text = planned(&scene, LATEST, options);
    assert!(text.contains("neighbours match"), "{text}");
}

/// A hundred records of `events`, and at `dr` each 50,000 offsets behind the one before it, with where it came from.
async fn millions_of_offsets() -> Scene {
    let scene = Scene::new().await;
    let begin = kbr::base::time::now().0 - 3_600_000;
    scene
        .prod
        .create_topic("events", 1, &[("retention.ms", "-1")])
        .unwrap();
    scene
        .dr
        .create_topic("events", 1, &[("retention.ms", "-1")])
        .unwrap();
    let cluster = scene.prod.cluster_id();
    for place in 0..100i64 {
        let (time, key) = (begin + place * 1000, format!("event-{place}"));
        scene.prod.append("events", 0, &at(time, &key)).unwrap();
        let mut headers = OwnedHeaders::new();
        headers.push(b"x-original-offset", Some(place.to_string().as_bytes()));
        headers.push(b"x-original-partition", Some(b"0"));
        headers.push(b"x-source-cluster", Some(cluster.as_bytes()));
        let mut builder = BatchBuilder::new(BuildOptions::default()).base_offset(place * 50_000);
        builder
            .push(
                time,
                Some(key.as_bytes()),
                Some(b"value"),
                headers.as_headers(),
            )
            .unwrap();
        let batch = builder.finish(ProducerStamp::NONE).unwrap();
        scene.dr.replicate("events", 0, &batch).unwrap();
    }
    for (group, offset) in [("first", 0), ("middle", 43), ("done", 100)] {
        scene.prod.set_committed(group, "events", 0, offset, "");
    }
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_millions_is_not_read_as_a_whole() {
    let scene = millions_of_offsets().await;
    let options = ".onto(cluster(\"dr\")).groups(\"first\", \"middle\", \"done\")";
    let places = [
        ("first", 0),
        ("middle", 43 * 50_000),
        ("done", 99 * 50_000 + 1),
    ];
    let header = format!("{options}.strategy(\"header\")");
    let text = moved(&scene, "cluster(\"prod\")", &header);
    assert!(
        text.contains("same record, by its header; by bisection, ")
            && text.contains("looked at and all in order"),
        "{text}"
    );
    assert!(
        text.contains("1 unknown") && !text.contains("exact"),
        "{text}"
    );
    for (group, offset) in places {
        assert_eq!(scene.committed(group), [(0, offset)], "{group}");
    }
    // Its neighbours are far away; what is read grows until all of them are there.
    let scan =
        format!("{options}.strategy(\"cluster-scan\").rename_groups(|group| group + \"-2\")");
    let text = moved(&scene, "cluster(\"prod\")", &scan);
    assert!(text.contains("exact: 16 of 16 neighbours match"), "{text}");
    // What others would have written behind the record before it is unread.
    let after_the_one_before = [
        ("first", 0),
        ("middle", 42 * 50_000 + 1),
        ("done", 99 * 50_000 + 1),
    ];
    for (group, offset) in after_the_one_before {
        assert_eq!(
            scene.committed(&format!("{group}-2")),
            [(0, offset)],
            "{group}"
        );
    }
    let budget = format!("{scan}.scan_budget(\"1 KiB\")");
    refused(
        &scene,
        "cluster(\"prod\")",
        &budget,
        &["the place is not within the first 1"],
    );
}

/// Puts a record of `events` at an offset of `dr`.
fn put(scene: &Scene, offset: i64, time: i64, key: &str) {
    let mut builder = BatchBuilder::new(BuildOptions::default()).base_offset(offset);
    builder
        .push(time, Some(key.as_bytes()), Some(b"value"), Headers::empty())
        .unwrap();
    let batch = builder.finish(ProducerStamp::NONE).unwrap();
    scene.dr.replicate("events", 0, &batch).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_exact_only_once_all_of_a_large_partition_was_read() {
    let scene = Scene::new().await;
    let forever = [("retention.ms", "-1")];
    for cluster in [&scene.prod, &scene.dr] {
        cluster.create_topic("events", 1, &forever).unwrap();
    }
    let begin = kbr::base::time::now().0 - 3_600_000;
    for place in 0..100 {
        let (time, key) = (begin + place * 1000, format!("event-{place}"));
        scene.prod.append("events", 0, &at(time, &key)).unwrap();
        put(&scene, 1_500_000 + place, time, &key);
    }
    put(&scene, 3_000_000, begin + 200_000, "new");
    scene.prod.set_committed("middle", "events", 0, 43, "");
    let prod = "cluster(\"prod\")";
    let options = ".onto(cluster(\"dr\")).groups(\"middle\").strategy(\"cluster-scan\")";
    let text = planned(&scene, prod, options);
    assert!(text.contains("exact: 16 of 16 neighbours match"), "{text}");
    assert!(text.contains("1,500,043"), "{text}");
    // The records around it are read within this, and all of it is not.
    let budget = format!("{options}.scan_budget(\"64 KiB\")");
    let text = planned(&scene, prod, &budget);
    assert!(
        text.contains("likely: 16 of 16 neighbours match, and not all of events-0 was read"),
        "{text}"
    );
    assert!(
        text.contains("1 unknown") && text.contains("1,500,043"),
        "{text}"
    );
    // Far behind they are there once more.
    for place in 30..60 {
        let (time, key) = (begin + place * 1000, format!("event-{place}"));
        put(&scene, 4_000_000 + place, time, &key);
    }
    refused(
        &scene,
        prod,
        options,
        &["2 places in events are as likely as each other"],
    );
}
