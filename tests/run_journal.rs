//! The journal: what survives a crash, what shows a change, what an unwritable place says.

mod run_fake;

use kbr::base::Digest;
use kbr::run::*;
use run_fake::*;
use std::process::Command;

#[test]
fn a_crash_between_intent_and_outcome_leaves_the_intent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/journal.db");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_of_the_crash_test", "--nocapture"])
        .env("KBR_TEST_CRASH_JOURNAL", &path)
        .output()
        .unwrap();
    assert!(!output.status.success(), "the child must die in its step");

    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.verify().unwrap(), None);
    let runs = journal.runs(10).unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].end, "unfinished");
    let record = journal.run(&runs[0].run.0).unwrap();
    let states: Vec<&str> = record
        .steps
        .iter()
        .map(|step| step.state.as_str())
        .collect();
    assert_eq!(states, ["done", "intended", "not_run"]);
    assert_eq!(
        record.steps[1].old_values["offset"],
        9_007_199_254_740_993_i64
    );
}

/// Run by the test above in a process of its own; does nothing otherwise.
#[tokio::test]
async fn the_child_of_the_crash_test() {
    let Some(path) = std::env::var_os("KBR_TEST_CRASH_JOURNAL") else {
        return;
    };
    let events = Events::default();
    let mut dies = step("b", &events);
    dies.aborts = true;
    let plan = plan_of([step("a", &events), dies, step("c", &events)]);
    let journal = Journal::open(std::path::Path::new(&path)).unwrap();
    let nobody = Typed("", events);
    let _ = run(&plan, Approval::Nobody, &nobody, &journal).await;
}

#[tokio::test]
async fn the_newest_runs_are_told_without_a_trace_and_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a #1%/journal.db");
    assert_eq!(recent_runs(&path, 5, true), []);
    let second = two_runs(&path).await;
    let journal = Journal::open(&path).unwrap();
    let listed = journal.runs(5).unwrap();
    let told = |limit: usize| {
        let runs = recent_runs(&path, limit, true).into_iter();
        runs.map(|run| (run.run, run.started, run.runbook, run.end))
            .collect::<Vec<_>>()
    };
    let wanted = listed
        .into_iter()
        .map(|run| (run.run, run.started, run.runbook, run.end));
    // While somebody has it open, and when nobody does.
    assert_eq!(told(5), wanted.collect::<Vec<_>>());
    assert_eq!(told(1)[0].0, second);
    assert_eq!(recent_runs(&path, 1, false)[0].runbook, "");
    drop(journal);
    let files = || {
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        files.sort();
        files
    };
    let before = files();
    assert_eq!(told(5).len(), 2);
    assert_eq!(files(), before);
}

async fn two_runs(path: &std::path::Path) -> RunId {
    let journal = Journal::open(path).unwrap();
    let events = Events::default();
    let nobody = Typed("", events.clone());
    let plan = plan_of([step("a", &events)]);
    run(&plan, Approval::Nobody, &nobody, &journal)
        .await
        .unwrap();
    run(&plan, Approval::Nobody, &nobody, &journal)
        .await
        .unwrap()
        .run
}

#[tokio::test]
async fn a_changed_entry_breaks_the_chain_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    two_runs(&path).await;
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute(
            "UPDATE entries SET body = replace(body, '1200', '1201') WHERE seq = 3",
            [],
        )
        .unwrap();
    let journal = Journal::open_existing(&path).unwrap().unwrap();
    assert_eq!(journal.verify().unwrap().unwrap().entry, 3);
}

#[tokio::test]
async fn a_removed_entry_breaks_the_chain_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    two_runs(&path).await;
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute("DELETE FROM entries WHERE seq = 2", [])
        .unwrap();
    let journal = Journal::open_existing(&path).unwrap().unwrap();
    assert_eq!(journal.verify().unwrap().unwrap().entry, 2);
}

#[tokio::test]
async fn before_an_execution_the_newest_megabytes_are_looked_through_and_all_of_it_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let run = two_runs(&path).await;
    let journal = Journal::open(&path).unwrap();
    let large = serde_json::json!("x".repeat(1 << 20));
    for ordinal in 0..6 {
        journal.intent(&run, ordinal, &large).unwrap();
    }
    assert_eq!(journal.verify_recent(None).unwrap(), None);
    let change = |seq: i64| {
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute("UPDATE entries SET at = at + 1 WHERE seq = ?1", [seq])
            .unwrap()
    };
    let entries: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM entries", [], |row| row.get(0))
        .unwrap();
    assert_eq!(change(2), 1);
    assert_eq!(journal.verify_recent(None).unwrap(), None);
    assert_eq!(journal.verify().unwrap().unwrap().entry, 2);
    // What is resumed or undone is looked through from its beginning.
    let runs = journal.runs(10).unwrap();
    assert_eq!(journal.verify_recent(Some(&run)).unwrap(), None);
    let broken = journal.verify_recent(Some(&runs[1].run)).unwrap();
    assert_eq!(broken.unwrap().entry, 2);
    assert_eq!(change(entries - 2), 1);
    let broken = journal.verify_recent(None).unwrap().unwrap();
    assert_eq!(broken.entry, entries - 2);
}

#[tokio::test]
async fn runs_are_listed_newest_first_and_found_by_the_beginning_of_their_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let newest = two_runs(&path).await;
    let journal = Journal::open_existing(&path).unwrap().unwrap();
    let runs = journal.runs(10).unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].run, newest);
    assert_eq!(journal.run(&newest.0).unwrap().summary.run, newest);
    let error = journal.run("20200101-0000-a1").unwrap_err();
    assert_eq!(error.to_string(), "no run 20200101-0000-a1 in the journal");
}

#[test]
fn run_ids_say_the_minute() {
    let journal = Journal::in_memory().unwrap();
    let plan = empty_plan();
    let (id, _lock) = journal
        .begin_run(&plan, &plan.document(), "nobody")
        .unwrap();
    let parts: Vec<&str> = id.0.split('-').collect();
    assert_eq!(
        parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
        [8, 4, 2],
        "{id}"
    );
}

#[test]
fn a_place_that_cannot_be_written_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let error = Journal::open(&file.join("journal.db")).err().unwrap();
    assert!(
        matches!(error, JournalError::Unwritable { .. }),
        "{error:?}"
    );
}

#[test]
fn another_database_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE songs (name TEXT)")
        .unwrap();
    let error = Journal::open(&path).err().unwrap();
    let JournalError::Unreadable { why, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(why, "it is a database of something else");
}

#[test]
fn the_place_follows_the_environment() {
    let place = |set: &[(&str, &str)]| {
        let set: Vec<(String, String)> = set
            .iter()
            .map(|(a, b)| (a.to_string(), b.to_string()))
            .collect();
        journal_path(move |name| {
            set.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.into())
        })
    };
    let all = [
        ("KBR_STATE_DIR", "/k"),
        ("XDG_STATE_HOME", "/x"),
        ("HOME", "/h"),
    ];
    assert_eq!(place(&all).unwrap().to_str(), Some("/k/journal.db"));
    assert_eq!(
        place(&all[1..]).unwrap().to_str(),
        Some("/x/kbr/journal.db")
    );
    assert_eq!(
        place(&all[2..]).unwrap().to_str(),
        Some("/h/.local/state/kbr/journal.db")
    );
    assert!(matches!(place(&[]), Err(JournalError::NoPlace)));
}

#[test]
fn the_newest_generation_seen_is_remembered_and_never_an_older_one_for_it() {
    let journal = Journal::in_memory().unwrap();
    assert_eq!(journal.witness("a").unwrap(), None);
    let seen = |generation, content: &str| Witness {
        archive_id: "a".into(),
        generation,
        digest: Digest::of(content.as_bytes()),
    };
    for newer in [seen(3, "three"), seen(4, "four")] {
        journal.remember(&newer).unwrap();
    }
    for no_newer in [seen(3, "three"), seen(4, "another four")] {
        journal.remember(&no_newer).unwrap();
        assert_eq!(journal.witness("a").unwrap(), Some(seen(4, "four")));
    }
    // The end was lost, and the chain goes on from what is left.
    journal
        .remember_after_loss(&seen(3, "another three"))
        .unwrap();
    assert_eq!(
        journal.witness("a").unwrap(),
        Some(seen(3, "another three"))
    );
}

fn mapping(partition: i32, records: u64) -> StoredMapping {
    StoredMapping {
        source_topic: "orders".into(),
        source_partition: partition,
        target_topic: "orders_dr".into(),
        target_partition: partition,
        records,
        digest: Digest::of(&records.to_le_bytes()),
    }
}

#[test]
fn mappings_are_kept_per_route_and_stored_again_by_a_resumed_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = Journal::open(&path).unwrap();
    let run = RunId("20261121-0914-k7".into());
    let routes = |records: [(i32, u64); 2]| {
        let stored = |(partition, records)| (mapping(partition, records), vec![records as u8]);
        records.into_iter().map(stored)
    };
    for records in [[(1, 7), (0, 5)], [(1, 7), (0, 6)]] {
        journal.store_mappings(&run, 3, routes(records)).unwrap();
    }
    let reading = Journal::open_existing(&path).unwrap().unwrap();
    let kept = reading.mappings(&run).unwrap();
    assert_eq!(kept, [(3, mapping(0, 6)), (3, mapping(1, 7))]);
    assert_eq!(reading.mapping_bytes(&run, 3, &kept[0].1).unwrap(), [6]);
    assert_eq!(reading.mappings(&RunId("other".into())).unwrap(), []);
}

#[test]
fn a_journal_without_mappings_gets_room_for_them_when_it_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    drop(Journal::open(&path).unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("DROP TABLE mappings; PRAGMA user_version = 1")
        .unwrap();
    let run = RunId("20261121-0914-k7".into());
    let reading = Journal::open_existing(&path).unwrap().unwrap();
    assert_eq!(reading.mappings(&run).unwrap(), []);
    drop(reading);
    let journal = Journal::open(&path).unwrap();
    journal
        .store_mappings(&run, 1, [(mapping(0, 5), b"x".to_vec())].into_iter())
        .unwrap();
    assert_eq!(journal.mappings(&run).unwrap().len(), 1);
}
