//! The command line as clap reads it. Every command's help ends with an example.

use super::inspect;
use super::progress_view::{Form, Look};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Parser, Debug)]
#[command(
    name = "kbr",
    version,
    about = "Kafka backup, restore and consumer-offset recovery as runbooks",
    after_help = "A first look, with no cluster at all:\n  kbr rehearse examples/dr-failover.rhai",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show what a runbook would change; with --execute, change it
    #[command(
        after_help = "Examples:\n  kbr run dr-failover.rhai -- --at 2026-11-20T10:00:00Z\n  kbr run dr-failover.rhai --execute --confirm 7f3a91c20de4 -- --at 2026-11-20T10:00:00Z\n  kbr run dr-failover.rhai --save plan.json\n\nWithout --execute nothing is changed: the plan is shown, with the command that executes exactly it."
    )]
    Run(Run),
    /// Execute a runbook against stand-ins: clusters inside this process, with seed data
    #[command(
        after_help = "Example:\n  kbr rehearse examples/dr-failover.rhai\n\nEvery cluster and store that the runbook names gets a stand-in; no server is needed or touched."
    )]
    Rehearse(Rehearse),
    /// Evaluate an expression and show its value
    #[command(
        after_help = "Examples:\n  kbr eval 'cluster(\"127.0.0.1:9092\").topics()'\n  kbr eval 'store(\"file:archive/prod\").latest()' --output json"
    )]
    Eval(Eval),
    /// Find mistakes in runbooks, without running them or touching anything
    #[command(after_help = "Example:\n  kbr check runbooks/*.rhai")]
    Check(Check),
    /// Explain a verb, type or option of the runbook language
    #[command(after_help = "Examples:\n  kbr docs\n  kbr docs restore")]
    Docs(Docs),
    /// List what was executed from this machine
    #[command(after_help = "Example:\n  kbr history --limit 5")]
    History(History),
    /// Show one run: its plan, what came of each step, what was there before
    #[command(after_help = "Example:\n  kbr show 20261121-0914-k7 --detail")]
    Show(Show),
    /// Say where a run's records went: source offsets to target offsets, as exact runs
    #[command(
        name = "show-offset-mapping",
        after_help = "Examples:\n  kbr show-offset-mapping 20261121-0914-k7 --topic orders --partition 3\n  kbr show-offset-mapping 20261121-0914-k7 --topic orders --offset 120310\n  kbr show-offset-mapping 20261121-0914-k7 --output csv > mapping.csv"
    )]
    ShowOffsetMapping(ShowOffsetMapping),
    /// Go on with a run that did not come to its end
    #[command(
        after_help = "Examples:\n  kbr resume\n  kbr resume 20261121-0914-k7\n\nWithout a run: the newest that is not finished. What is done stays; a step that had begun is compared with\nwhat is there before it goes on. Only gates that nobody has approved in the run are asked."
    )]
    Resume(Resume),
    /// Show a plan that kbr run --save wrote; with --execute, execute exactly it
    #[command(
        after_help = "Examples:\n  kbr run dr-failover.rhai --save plan.json\n  kbr apply plan.json\n  kbr apply plan.json --execute --confirm 7f3a91c20de4"
    )]
    Apply(Apply),
    /// Take the groups that a run has moved back to where they were; with --execute, do it
    #[command(
        after_help = "Examples:\n  kbr undo 20261121-0914-k7\n  kbr undo 20261121-0914-k7 --execute --confirm 7f3a91c20de4\n\nA group that has committed since blocks the plan: what its members have read since would be read again.\nRecords, topics and archives stay as they are."
    )]
    Undo(Undo),
    /// List the generations of an archive
    #[command(after_help = "Examples:\n  kbr list prod\n  kbr list file:archive/prod --limit 0")]
    List(inspect::List),
    /// Say what an archive holds: topics, partitions, records, times, gaps, groups
    #[command(
        after_help = "Examples:\n  kbr describe prod\n  kbr describe prod --generation 214 --topic 'payments-*'"
    )]
    Describe(inspect::Describe),
    /// Print a generation's manifest as it is stored
    #[command(
        name = "show-manifest",
        after_help = "Example:\n  kbr show-manifest prod 214"
    )]
    ShowManifest(inspect::ShowManifest),
    /// Say what lies between two generations: topics, records, configs, committed offsets
    #[command(after_help = "Examples:\n  kbr diff prod\n  kbr diff prod 200 214 --detail")]
    Diff(inspect::Diff),
    /// Print archived records as JSON lines
    #[command(
        after_help = "Examples:\n  kbr cat prod orders:3 --from 1200 --limit 10\n  kbr cat prod orders --since -2h --key customer-17\n\nBytes that are not UTF-8 are under key_base64 or value_base64 instead of key or value."
    )]
    Cat(inspect::Cat),
    /// Check that an archive is whole, and say what is left if it is not
    #[command(
        after_help = "Examples:\n  kbr verify prod\n  kbr verify prod --deep --output json\n\nExit status 5 if anything is damaged."
    )]
    Verify(inspect::Verify),
    /// Print what makes a shell complete kbr's words at TAB, and names of groups, topics, runs
    #[command(
        after_help = "Examples:\n  kbr completions bash > /etc/bash_completion.d/kbr\n  source <(kbr completions bash)              in ~/.bashrc\n  source <(kbr completions zsh)               in ~/.zshrc, after compinit\n  kbr completions fish > ~/.config/fish/completions/kbr.fish\n\nelvish and powershell complete kbr's own words only."
    )]
    Completions(Completions),

    // Words of the design that a hand may already know: refused by name, not as unknown words.
    #[command(hide = true)]
    Test(Rest),
    #[command(hide = true)]
    Repl(Rest),

    /// Any other word: a script of this name.
    #[command(external_subcommand)]
    Script(Vec<String>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// One JSON document on standard output
    Json,
}

#[derive(Args, Debug)]
pub struct Run {
    /// The runbook
    pub file: PathBuf,
    /// Execute the plan, after showing it
    #[arg(long)]
    pub execute: bool,
    /// Approve exactly the plan with this digest (at least 12 characters of it)
    #[arg(long, value_name = "DIGEST", requires = "execute")]
    pub confirm: Option<String>,
    /// Show every partition, and what records hold whole
    #[arg(long)]
    pub detail: bool,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    #[command(flatten)]
    pub progress: Progress,
    /// Evaluate as of this instant, as the command under an earlier plan says
    #[arg(long, value_name = "INSTANT")]
    pub now: Option<String>,
    /// Write the plan to a file, for kbr apply
    #[arg(long, value_name = "PLAN", conflicts_with = "execute")]
    pub save: Option<PathBuf>,
    /// Show again every so many seconds what a script reads that changes nothing; Ctrl-C ends it, exit status 0
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        conflicts_with_all = ["execute", "save"],
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub watch: Option<u64>,
    /// The runbook's own arguments: --NAME VALUE
    #[arg(last = true, value_name = "RUNBOOK ARGUMENTS")]
    pub arguments: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Rehearse {
    /// The runbook
    pub file: PathBuf,
    /// Show every partition
    #[arg(long)]
    pub detail: bool,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    #[command(flatten)]
    pub progress: Progress,
    /// The runbook's own arguments: --NAME VALUE
    #[arg(last = true, value_name = "RUNBOOK ARGUMENTS")]
    pub arguments: Vec<String>,
}

/// What standard error shows of a step while it runs.
#[derive(Args, Debug)]
pub struct Progress {
    /// What to show of a step while it runs, on standard error
    #[arg(long = "progress", value_enum, default_value_t, value_name = "FORM")]
    pub form: Form,
    /// Seconds between two lines of it where standard error is no terminal
    #[arg(
        long = "progress-every",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub every: u64,
}

impl Progress {
    pub fn look(&self) -> Look {
        Look::of_stderr(self.form, Duration::from_secs(self.every))
    }
}

#[derive(Args, Debug)]
pub struct Eval {
    /// The expression
    pub code: String,
    /// Show what records hold whole, however long it is
    #[arg(long)]
    pub detail: bool,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct Check {
    /// The runbooks
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct Docs {
    /// What to explain: restore, restore.before, confirm; nothing: the list of all names
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub struct History {
    /// How many runs, newest first
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct Show {
    /// The run's id, or the beginning of it
    pub run: String,
    /// Show every partition
    #[arg(long)]
    pub detail: bool,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
}

/// The form of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MappingForm {
    /// For people
    #[default]
    Table,
    /// One JSON document, every run in it
    Json,
    /// A line per run
    Csv,
}

#[derive(Args, Debug)]
pub struct ShowOffsetMapping {
    /// The run's id, or the beginning of it
    pub run: String,
    /// Only topics of this name or pattern, at the source or at the target
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Only this partition of the source
    #[arg(long, value_name = "PARTITION")]
    pub partition: Option<i32>,
    /// Only where a group would read on that would have read this source offset next
    #[arg(long, value_name = "OFFSET")]
    pub offset: Option<i64>,
    /// Runs of each partition in the table; 0: all
    #[arg(long, default_value_t = 20, value_name = "RUNS")]
    pub limit: usize,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: MappingForm,
}

#[derive(Args, Debug)]
pub struct Resume {
    /// The run's id, or the beginning of it
    pub run: Option<String>,
    /// Approve the gates that are left, with the digest of the run's plan
    #[arg(long, value_name = "DIGEST")]
    pub confirm: Option<String>,
    /// Show every partition
    #[arg(long)]
    pub detail: bool,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    #[command(flatten)]
    pub progress: Progress,
}

#[derive(Args, Debug)]
pub struct Undo {
    /// The run's id, or the beginning of it
    pub run: String,
    /// Only groups of this name or pattern; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Execute the plan, after showing it
    #[arg(long)]
    pub execute: bool,
    /// Approve exactly the plan with this digest (at least 12 characters of it)
    #[arg(long, value_name = "DIGEST", requires = "execute")]
    pub confirm: Option<String>,
    /// Show every partition
    #[arg(long)]
    pub detail: bool,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    #[command(flatten)]
    pub progress: Progress,
    /// Write the plan to a file, for kbr apply
    #[arg(long, value_name = "PLAN", conflicts_with = "execute")]
    pub save: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Apply {
    /// The plan
    pub file: PathBuf,
    /// Execute the plan, after showing it
    #[arg(long)]
    pub execute: bool,
    /// Approve exactly the plan with this digest (at least 12 characters of it)
    #[arg(long, value_name = "DIGEST", requires = "execute")]
    pub confirm: Option<String>,
    /// Show every partition
    #[arg(long)]
    pub detail: bool,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    #[command(flatten)]
    pub progress: Progress,
}

#[derive(Args, Debug)]
pub struct Completions {
    pub shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub words: Vec<String>,
}
