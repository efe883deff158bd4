//! TAB: names of clusters, groups, topics, archives and runs, asked as a shell asks, and in a real bash.

mod cli_scene;

use cli_scene::{FAILOVER, Folder, Scene, run_to_end};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a person waits for at TAB, and what a busy machine adds to it.
const SOON: Duration = Duration::from_secs(3);

/// What zsh is answered for a line that ends at the cursor; its words are those between spaces.
#[track_caller]
fn lines(folder: &Folder, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    asked(folder, &words)
}

#[track_caller]
fn asked(folder: &Folder, words: &[&str]) -> Vec<String> {
    let mut all = vec!["__complete", "zsh"];
    all.extend(words);
    let begun = Instant::now();
    let ran = tokio::task::block_in_place(|| folder.kbr(&all)).expect(0);
    assert!(begun.elapsed() < SOON, "{words:?}: {:?}", begun.elapsed());
    assert_eq!(ran.stderr, "", "{words:?}");
    ran.stdout.lines().map(str::to_string).collect()
}

/// Without what is said of each.
#[track_caller]
fn names(folder: &Folder, line: &str) -> Vec<String> {
    values(lines(folder, line))
}

fn values(lines: Vec<String>) -> Vec<String> {
    let values = lines.iter().map(|line| line.split('\t').next());
    values.map(|value| value.unwrap().to_string()).collect()
}

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.dr.create_topic("orders", 3, &[]).unwrap();
    scene.dr.create_topic("payments", 1, &[]).unwrap();
    for group in ["checkout-api", "checkout-audit", "team a:b", "it's"] {
        scene.dr.set_committed(group, "orders", 0, 0, "");
    }
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_groups_topics_and_words_are_found_where_they_are_wanted() {
    let scene = scene().await;
    let named = |line: &str| names(&scene.folder, line);
    assert_eq!(named("kbr groups "), ["dr", "prod"]);
    assert_eq!(named("kbr group d"), ["dr"]);
    let groups = ["checkout-api", "checkout-audit", "it's", "team a:b"];
    assert_eq!(named("kbr group dr "), groups);
    assert_eq!(named("kbr group --members dr "), groups);
    assert_eq!(named("kbr lag dr checkout-api checkout-"), groups[..2]);
    assert_eq!(
        named("kbr group dr checkout-api "),
        [
            "--archive",
            "--confirm",
            "--detail",
            "--execute",
            "--generation",
            "--help",
            "--members",
            "--now",
            "--output",
            "--progress",
            "--progress-every",
            "--save",
            "--watch",
        ]
    );
    // The address itself, and the cluster by name.
    let address = scene.dr.bootstrap().join(",");
    assert_eq!(named(&format!("kbr group {address} ")), groups);
    assert_eq!(named("kbr group --cluster dr check"), groups[..2]);
    assert_eq!(named("kbr sample dr "), ["orders", "payments"]);
    assert_eq!(named("kbr sample dr orders "), ["0", "1", "2"]);
    assert_eq!(named("kbr lag dr --topic p"), ["payments"]);
    assert_eq!(named("kbr lag dr --topic=p"), ["--topic=payments"]);
    assert_eq!(named("kbr offsets "), ["plan", "reset", "export", "undo"]);
    assert_eq!(named("kbr offsets plan "), ["dr", "prod"]);
    assert_eq!(named("kbr offsets plan dr --group "), groups);
    assert_eq!(
        named("kbr offsets plan dr --group checkout-api,che"),
        ["checkout-api,checkout-audit"]
    );
    assert_eq!(
        named("kbr offsets plan dr --group checkout-api --to to-"),
        ["to-current", "to-offset", "to-datetime", "to-group"]
    );
    assert_eq!(
        named("kbr offsets plan dr --from c"),
        ["cluster:dr", "cluster:prod"]
    );
    // The groups are those of the place they come from.
    scene.prod.set_committed("only-here", "orders", 0, 0, "");
    assert_eq!(
        named("kbr offsets plan dr --from cluster:prod --group o"),
        ["only-here"]
    );
    assert_eq!(named("kbr groups dr --state e"), ["Empty"]);
    assert_eq!(named("kbr groups dr --output "), ["text", "json"]);
    assert_eq!(named("kbr groups dr --ou"), ["--output"]);
    // What is free is not guessed.
    assert_eq!(named("kbr offsets plan dr --value "), [""; 0]);
    assert_eq!(named("kbr nosuch "), [""; 0]);
    assert_eq!(
        lines(&scene.folder, "kbr group dr checkout-ap"),
        ["checkout-api\tEmpty"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_kbr_itself_are_completed_too() {
    let scene = scene().await;
    let named = |line: &str| names(&scene.folder, line);
    assert_eq!(named("kbr gr"), ["group", "groups"]);
    for word in ["apply", "completions", "lag", "offsets", "run", "undo"] {
        assert!(named("kbr ").contains(&word.to_string()), "{word}");
    }
    assert_eq!(named("kbr -"), ["--help", "--version"]);
    assert_eq!(named("kbr run --sa"), ["--save"]);
    assert_eq!(named("kbr run "), ["backup.rhai", "failover.rhai"]);
    assert_eq!(named("kbr check backup.rhai f"), ["failover.rhai"]);
    assert_eq!(named("kbr rehearse --progress t"), ["total", "topics"]);
    assert_eq!(named("kbr completions z"), ["zsh"]);
    assert_eq!(named("kbr docs restore.bef"), ["restore.before"]);
    // fish hands the word over as it is typed.
    let fish = |word: &str| {
        let words = ["__complete", "fish", "kbr", "group", "dr", word];
        scene.kbr(&words).expect(0).stdout
    };
    assert_eq!(fish("\"team a"), "team a:b\tEmpty\n");
    assert_eq!(fish("team\\ a"), "team a:b\tEmpty\n");
    // A runbook's own arguments.
    assert_eq!(
        lines(&scene.folder, "kbr run failover.rhai -- --"),
        ["--at\trestore records before this time"]
    );
    let typed = "params(#{ of: #{ help: \"which\", takes: \"groups\" }, on: #{ help: \"where\", takes: \"cluster\" } });";
    scene.folder.write("books/typed.rhai", typed);
    assert_eq!(named("kbr run b"), ["backup.rhai", "books/"]);
    assert_eq!(named("kbr run books/typed.rhai -- --on d"), ["dr"]);
    assert_eq!(
        named("kbr run books/typed.rhai -- --on dr --of checkout-ap"),
        ["checkout-api"]
    );
    let undone = named("kbr undo x --gr");
    assert_eq!(undone, ["--group"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_recovery_points_and_runs_are_found() {
    let scene = Scene::backed_up().await;
    let folder = &scene.folder;
    let toml = std::fs::read_to_string(folder.file("kbr.toml")).unwrap();
    folder.write(
        "kbr.toml",
        &format!("{toml}[stores.kept]\nurl = \"file:archive\"\n"),
    );
    let named = |line: &str| names(folder, line);
    for command in [
        "list",
        "describe",
        "verify",
        "diff",
        "cat",
        "show-manifest",
        "prune",
        "undelete",
    ] {
        assert_eq!(named(&format!("kbr {command} k")), ["kept"], "{command}");
    }
    assert_eq!(named("kbr list file:a"), ["file:archive/"]);
    assert_eq!(named("kbr describe kept --generation "), ["1"]);
    assert_eq!(named("kbr undelete kept "), ["1"]);
    assert_eq!(named("kbr cat kept o"), ["orders"]);
    assert_eq!(named("kbr cat kept orders:"), ["orders:0", "orders:1"]);
    let groups = ["checkout-api", "checkout-audit"];
    assert_eq!(named("kbr group --archive kept "), groups);
    assert_eq!(named("kbr group --archive=file:archive "), groups);
    assert_eq!(named("kbr offsets plan dr --from kept --group "), groups);
    assert_eq!(named("kbr sample --archive kept "), ["orders"]);

    let plan = scene.kbr(&["run", "failover.rhai"]).expect(0);
    let confirm = [
        "run",
        "failover.rhai",
        "--execute",
        "--confirm",
        &plan.digest(),
    ];
    scene.kbr(&confirm).expect(0);
    // The newest first, each with what it was.
    let runs = lines(folder, "kbr undo ");
    assert_eq!(runs.len(), 2);
    assert!(runs[0].contains("\tfailover.rhai, done, 20"), "{runs:?}");
    assert!(runs[1].contains("\tbackup.rhai, done, 20"), "{runs:?}");
    assert_eq!(lines(folder, "kbr show "), runs);
    assert_eq!(lines(folder, "kbr offsets undo "), runs);
    let newest = runs[0].split('\t').next().unwrap();
    assert_eq!(
        named(&format!("kbr offsets undo {newest} --gr")),
        ["--group"]
    );
    // Those that came to their end cannot be gone on with.
    assert_eq!(named("kbr resume "), [""; 0]);
}

/// Everything that is there, with its size and the time of its last change.
fn state(folder: &Folder) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut open = vec![folder.path().to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                open.push(entry.path());
            }
            found.push((entry.path(), about.len(), about.modified().unwrap()));
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_waited_for_run_or_written() {
    let scene = Scene::backed_up().await;
    let folder = &scene.folder;
    // One that takes connections and never answers, and one that nobody listens at.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let toml = std::fs::read_to_string(folder.file("kbr.toml")).unwrap();
    folder.write(
        "kbr.toml",
        &format!(
            "{toml}[clusters.silent]\nbootstrap = \"127.0.0.1:{silent}\"\n\
             [clusters.gone]\nbootstrap = \"127.0.0.1:{port}\"\n\
             [stores.lost]\nurl = \"file:nowhere\"\n"
        ),
    );
    // A script whose body must never run: it would never end.
    let script = "params(#{ of: #{ help: \"which\", position: 1, takes: \"cluster\" } });\nloop { print(\"run\"); }\n";
    folder.write("scripts/endless.rhai", script);
    folder.set("KBR_PATH", folder.file("scripts").to_str().unwrap());
    folder.set("KBR_LOG", "trace");
    let before = state(folder);
    let none: [&str; 0] = [];
    assert_eq!(names(folder, "kbr endless d"), ["dr"]);
    for cluster in [
        "silent",
        "gone",
        "unknown",
        "127.0.0.1:1",
        "b1.invalid:9092",
        "sandbox:x",
        ":",
        "",
    ] {
        assert_eq!(
            names(folder, &format!("kbr group {cluster} a")),
            none,
            "{cluster}"
        );
        assert_eq!(
            names(folder, &format!("kbr lag {cluster} --topic a")),
            none,
            "{cluster}"
        );
    }
    for archive in ["lost", "unknown", "file:nowhere", "s3://bucket/x", "file:"] {
        assert_eq!(
            names(folder, &format!("kbr group --archive {archive} a")),
            none,
            "{archive}"
        );
        assert_eq!(
            names(folder, &format!("kbr describe {archive} --generation ")),
            none,
            "{archive}"
        );
    }
    assert_eq!(names(folder, "kbr run nosuch.rhai -- --"), none);
    assert_eq!(names(folder, "kbr show 2").len(), 1);
    // Lines that no shell sends.
    for words in [
        &[][..],
        &["kbr"],
        &["kbr", "group", "--", "--", "-"],
        &["kbr", "group", "--=", "-="],
    ] {
        asked(folder, words);
    }
    for words in [
        &["__complete"][..],
        &["__complete", "csh", "kbr"],
        &["__complete", "bash", "a", "b"],
    ] {
        let ran = scene.kbr(words).expect(0);
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            ("", ""),
            "{words:?}"
        );
    }
    assert_eq!(state(folder), before);
    // A kbr.toml that cannot be read names nothing.
    folder.write("kbr.toml", "[clusters.dr]\nbootstrp = 1\n");
    assert_eq!(names(folder, "kbr groups "), none);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_is_a_command_says_what_its_arguments_take() {
    let folder = Folder::new();
    folder.clusters(&[("dr", "127.0.0.1:1")]);
    let script = "// Says a word.\nparams(#{\n\
        to: #{ help: \"to whom\", position: 1, takes: \"cluster\" },\n\
        how: #{ help: \"in which way\", takes: [\"softly\", \"loud\"] },\n\
        file: #{ help: \"from\", takes: \"file\" },\n});\n";
    folder
        .write("scripts/say.rhai", script)
        .write("words.txt", "");
    folder.set("KBR_PATH", folder.file("scripts").to_str().unwrap());
    assert_eq!(
        lines(&folder, "kbr sa"),
        [
            "sample\tSome records around an offset: what a group would read next, and what it has",
            "say\tSays a word."
        ]
    );
    assert_eq!(names(&folder, "kbr say "), ["dr"]);
    assert_eq!(names(&folder, "kbr say dr --how "), ["softly", "loud"]);
    assert_eq!(names(&folder, "kbr say --how loud -- d"), ["dr"]);
    assert_eq!(names(&folder, "kbr say --file w"), ["words.txt"]);
    assert_eq!(names(&folder, "kbr say --ho"), ["--how"]);
    assert_eq!(names(&folder, "kbr say --how loud --ho"), [""; 0]);
    let wrong = folder.kbr(&["say", "dr", "--how", "soft"]).expect(2).text();
    assert!(
        wrong.contains("--how is softly or loud, not \"soft\""),
        "{wrong}"
    );
    assert!(wrong.contains("did you mean softly?"), "{wrong}");
    folder.write(
        "scripts/slip.rhai",
        "params(#{ to: #{ help: \"x\", takes: \"cluter\" } });\n",
    );
    let said = folder.kbr(&["check", "scripts/slip.rhai"]).expect(2).text();
    assert!(said.contains("did you mean `cluster`?"), "{said}");
}

/// What stands in the line of an interactive bash after TAB.
fn in_bash(folder: &Folder, typed: &[&str]) -> Vec<String> {
    let kbr = folder.command(&[]);
    let mut bash = Command::new("python3");
    bash.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/tab.py"))
        .arg(env!("CARGO_BIN_EXE_kbr"))
        .args(typed)
        .current_dir(folder.path());
    for (name, value) in kbr.get_envs() {
        if let Some(value) = value {
            bash.env(name, value);
        }
    }
    let output =
        tokio::task::block_in_place(|| run_to_end(&mut bash, b"", Duration::from_secs(90)));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    let out = String::from_utf8(output.stdout).unwrap();
    out.lines().map(str::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_puts_into_the_line_what_kbr_then_reads() {
    let scene = scene().await;
    let address = scene.dr.bootstrap().join(",");
    let by_address = format!("kbr group {address} checkout-ap");
    let address_whole = format!("kbr group {address} checkout-api ");
    for (typed, wanted) in [
        ("kbr gro", "kbr group"),
        ("kbr compl", "kbr completions "),
        ("kbr groups --stat", "kbr groups --state "),
        ("kbr groups d", "kbr groups dr "),
        ("kbr group dr check", "kbr group dr checkout-a"),
        ("kbr group dr checkout-ap", "kbr group dr checkout-api "),
        (by_address.as_str(), address_whole.as_str()),
        // Names with a space and a colon, however they are begun.
        ("kbr group dr t", "kbr group dr team\\ a:b "),
        ("kbr group dr team\\ a:", "kbr group dr team\\ a:b "),
        ("kbr group dr \"t", "kbr group dr \"team a:b\" "),
        ("kbr group dr 'team a", "kbr group dr 'team a:b' "),
        ("kbr group dr i", "kbr group dr it\\'s "),
        ("kbr group dr \"i", "kbr group dr \"it's\" "),
        // Words that bash breaks.
        ("kbr lag dr --topic=o", "kbr lag dr --topic=orders "),
        (
            "kbr offsets plan dr --from cluster:p",
            "kbr offsets plan dr --from cluster:prod ",
        ),
        (
            "kbr offsets plan dr --group checkout-api,t",
            "kbr offsets plan dr --group checkout-api,team\\ a:b ",
        ),
        // A folder goes on.
        ("kbr run fail", "kbr run failover.rhai "),
        ("kbr list file:nosuch", "kbr list file:nosuch"),
        // Where bash writes to is its own affair.
        ("kbr groups dr > kbr.t", "kbr groups dr > kbr.toml "),
        ("X=1 kbr sample dr pay", "X=1 kbr sample dr payments "),
    ] {
        let stands = in_bash(&scene.folder, &[typed]);
        assert_eq!(stands, [wanted], "{typed}");
    }
}

/// Names of groups that would do something else than stand there: to the shell, or to kbr.
const HOSTILE: [&str; 17] = [
    "*",
    "--execute",
    "-x",
    "/.*/",
    "a,b",
    "a?",
    "b\nkbr undo x",
    "b`touch MADE`",
    "b|c;d&e>f<g",
    "c\"d'e",
    "n$(touch MADE)",
    "o${HOME}",
    "p\\q",
    "prod-*",
    "u!curl",
    "u!ls!!",
    "{v,w}",
];

async fn hostile() -> Scene {
    let scene = Scene::new().await;
    scene.dr.create_topic("orders", 1, &[]).unwrap();
    for group in HOSTILE {
        scene.dr.set_committed(group, "orders", 0, 0, "");
    }
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_kbr_would_read_as_something_else_is_not_offered() {
    let scene = hostile().await;
    let named = |line: &str| names(&scene.folder, line);
    let plain = [
        "b`touch MADE`",
        "b|c;d&e>f<g",
        "c\"d'e",
        "n$(touch MADE)",
        "p\\q",
        "u!curl",
        "u!ls!!",
    ];
    for line in [
        "kbr groups dr ",
        "kbr lag dr ",
        "kbr offsets plan dr --group ",
        "kbr offsets reset dr --execute --group ",
    ] {
        assert_eq!(named(line), plain, "{line}");
    }
    assert_eq!(
        named("kbr groups dr -"),
        names(&scene.folder, "kbr groups dr --")
    );
    let offered = named("kbr offsets plan dr --group=u");
    assert_eq!(offered, ["--group=u!curl", "--group=u!ls!!"]);
    let offered = named("kbr offsets plan dr --group u!curl,");
    assert_eq!(offered.len(), plain.len() - 1, "{offered:?}");
    // Where one name is meant, a pattern is a name; what is an option there, is not.
    let mut one = HOSTILE.to_vec();
    one.retain(|name| !name.starts_with('-') && !name.contains('\n'));
    assert_eq!(named("kbr group dr "), one);
}

/// What bash makes of the line is seen too: it runs it, its history on, with a function before it that says its words.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_name_is_one_plain_word_in_a_real_bash() {
    let scene = hostile().await;
    let run = "b`touch MADE`";
    let signs = "b|c;d&e>f<g";
    for (typed, written, name) in [
        (r"n", r"n\$\(touch\ MADE\) ", "n$(touch MADE)"),
        (r#""n"#, r#""n\$(touch MADE)" "#, "n$(touch MADE)"),
        (r"'n", r"'n$(touch MADE)' ", "n$(touch MADE)"),
        (r"o", r"o\$\{HOME\} ", "o${HOME}"),
        (r#""o"#, r#""o\${HOME}" "#, "o${HOME}"),
        (r"b\`", r"b\`touch\ MADE\` ", run),
        (r#""b\`"#, r#""b\`touch MADE\`" "#, run),
        (r"'b`", r"'b`touch MADE`' ", run),
        (r"b\|", r"b\|c\;d\&e\>f\<g ", signs),
        (r#""b|"#, r#""b|c;d&e>f<g" "#, signs),
        (r"c", r#"c\"d\'e "#, "c\"d'e"),
        (r#""c"#, r#""c\"d'e" "#, "c\"d'e"),
        (r"'c", r#"'c"d'\''e' "#, "c\"d'e"),
        (r"pr", r"prod-\* ", "prod-*"),
        (r"p\\", r"p\\q ", r"p\q"),
        (r"u\!c", r"u\!curl ", "u!curl"),
        (r"'u!c", r"'u!curl' ", "u!curl"),
        (r"'u!l", r"'u!ls!!' ", "u!ls!!"),
        (r"u\!l", r"u\!ls\!\! ", "u!ls!!"),
    ] {
        let line = format!("kbr group dr {typed}");
        let stands = in_bash(&scene.folder, &["--run", &line]);
        let wanted = [
            format!("kbr group dr {written}"),
            format!("kbr~~group~~dr~~{name}"),
        ];
        assert_eq!(stands, wanted, "{line}");
    }
    // Nothing makes `!` plain inside double quotes, and what begins with a dash is an option.
    for line in ["kbr group dr \"u", "kbr group dr -x", "kbr groups dr '/"] {
        assert_eq!(in_bash(&scene.folder, &[line]), [line]);
    }
    assert!(!scene.folder.file("MADE").exists());
}

/// The script is loaded by whatever loads completions, without a terminal and in a strict shell as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_script_answers_where_bash_calls_it() {
    let scene = scene().await;
    scene.folder.write("failover.rhai", FAILOVER);
    let script = r#"set -euo pipefail
PATH=${KBR%/*}:$PATH
source <(kbr completions bash)
COMP_LINE='kbr group dr checkout' COMP_POINT=21 COMP_CWORD=3 COMP_WORDS=(kbr group dr checkout)
_kbr kbr checkout dr
printf '%s\n' "${COMPREPLY[@]}"
complete -p kbr"#;
    let mut bash = Command::new("bash");
    bash.args(["-c", script])
        .env("KBR", env!("CARGO_BIN_EXE_kbr"))
        .current_dir(scene.folder.path());
    let output =
        tokio::task::block_in_place(|| run_to_end(&mut bash, b"", Duration::from_secs(30)));
    let out = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        out.starts_with("checkout-api\ncheckout-audit\ncomplete "),
        "{out}{error}"
    );
    assert_eq!(error, "");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = scene.kbr(&["completions", shell]).expect(0).stdout;
        assert!(script.contains("kbr"), "{shell}");
    }
}
