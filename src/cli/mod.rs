//! Argument parsing, terminal, exit codes; no logic.
//!
//! A command prepares what the layers below need, calls them, and shows what came of it. Every error leaves
//! through [`report`], every exit status comes from [`ExitClass`].

mod arguments;
mod causes;
mod columns;
mod complete;
mod execution;
mod execution_view;
mod inspect;
mod misuse;
mod offset_mapping;
mod plan_view;
mod progress_view;
mod report;
mod resume;
mod runbook;
mod saved;
mod scripts;
mod show;
mod style;
mod subcommand;
mod undo;

use crate::base::{CancellationToken, Pause};
use crate::run::ExitClass;
use arguments::{Arguments, Command, Output};
use clap::{CommandFactory, FromArgMatches};
use report::Report;
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use style::Style;

/// Entry point of the binary.
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if words.get(1).is_some_and(|word| word == complete::WORD) {
        print(&complete::answer(&words[2..]));
        return ExitCode::SUCCESS;
    }
    let command = subcommand::listed(Arguments::command());
    let arguments = match Arguments::from_arg_matches(&command.get_matches()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    ExitCode::from(dispatch(arguments.command).code())
}

fn dispatch(command: Command) -> ExitClass {
    let (output, result) = match command {
        Command::Script(words) => subcommand::run(&words),
        Command::Run(arguments) => (arguments.output, runbook::run(arguments)),
        Command::Rehearse(arguments) => (arguments.output, runbook::rehearse(arguments)),
        Command::Eval(arguments) => (arguments.output, scripts::eval(arguments)),
        Command::Check(arguments) => (arguments.output, scripts::check(arguments)),
        Command::Docs(arguments) => (Output::Text, scripts::docs(arguments)),
        Command::History(arguments) => (arguments.output, show::history(arguments)),
        Command::Show(arguments) => (arguments.output, show::show(arguments)),
        Command::ShowOffsetMapping(arguments) => (
            offset_mapping::form(&arguments),
            offset_mapping::show(arguments),
        ),
        Command::List(arguments) => (arguments.output, inspect::list(arguments)),
        Command::Describe(arguments) => (arguments.output, inspect::describe(arguments)),
        Command::ShowManifest(arguments) => (Output::Text, inspect::show_manifest(arguments)),
        Command::Diff(arguments) => (arguments.output, inspect::diff(arguments)),
        Command::Cat(arguments) => (Output::Text, inspect::cat(arguments)),
        Command::Verify(arguments) => (arguments.output, inspect::verify(arguments)),
        Command::Completions(arguments) => {
            if let Some(script) = complete::registration(arguments.shell) {
                print(script);
                return ExitClass::Done;
            }
            let mut command = subcommand::with_scripts(Arguments::command());
            // Into memory first: the generator panics where a pipe is closed early.
            let mut script = Vec::new();
            clap_complete::generate(arguments.shell, &mut command, "kbr", &mut script);
            print(&String::from_utf8_lossy(&script));
            (Output::Text, Ok(ExitClass::Done))
        }
        Command::Resume(arguments) => (arguments.output, resume::resume(arguments)),
        Command::Apply(arguments) => (arguments.output, saved::apply(arguments)),
        Command::Undo(arguments) => (arguments.output, undo::undo(arguments)),
        Command::Test(_) => (Output::Text, Err(not_in_this_version("test"))),
        Command::Repl(_) => (Output::Text, Err(not_in_this_version("repl"))),
    };
    match result {
        Ok(exit) => exit,
        Err(report) => {
            tell(&report, output);
            report.exit
        }
    }
}

fn not_in_this_version(name: &str) -> Box<Report> {
    Box::new(
        Report::usage("E0103", format!("kbr {name} is not in this version"))
            .now("kbr --help lists what is"),
    )
}

/// Shows an error: as text on standard error, or as the command's one JSON document.
fn tell(report: &Report, output: Output) {
    match output {
        Output::Text => {
            let text = report.draw(&Style::of_stderr());
            // A closed standard error leaves the exit status to tell it.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        Output::Json => print_json(&report.json()),
    }
}

/// Writes to standard output. A reader that went away (`| head`) is not an error of ours.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Writes a command's document as it is made: that of a large plan is many megabytes.
fn print_json(document: &impl Serialize) {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let _ = serde_json::to_writer_pretty(&mut out, document);
    let _ = out.write_all(b"\n");
    let _ = out.flush();
}

/// Runs `work` with a token that Ctrl-C and SIGTERM cancel; a second signal ends the process at once. SIGUSR1 pauses
/// what can pause, SIGUSR2 lets it go on.
fn with_runtime<T>(
    work: impl AsyncFnOnce(CancellationToken) -> Result<T, Box<Report>>,
) -> Result<T, Box<Report>> {
    const STOPPING: &str =
        "\nstopping: what must be whole is finished first (again: stop at once)\n";
    with_runtime_stopping(STOPPING, work)
}

/// The same, with what is said on the first signal.
fn with_runtime_stopping<T>(
    stopping: &'static str,
    work: impl AsyncFnOnce(CancellationToken) -> Result<T, Box<Report>>,
) -> Result<T, Box<Report>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Files and compression, a few at a time: every thread more keeps memory of its own.
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .map_err(|error| {
            Box::new(
                Report::new(
                    "E0902",
                    ExitClass::Failed,
                    "the process cannot start its threads",
                )
                .why(error.to_string()),
            )
        })?;
    log_to_stderr();
    let cancel = CancellationToken::new();
    let result = runtime.block_on(async {
        let signals = tokio::spawn(watch_signals(cancel.clone(), stopping));
        let result = work(cancel).await;
        signals.abort();
        result
    });
    // A question that nobody answered still waits for standard input on a thread of its own.
    runtime.shutdown_background();
    result
}

/// `KBR_LOG=kbr=debug` tells on standard error what the layers below do; without it nothing is logged.
fn log_to_stderr() {
    let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("KBR_LOG") else {
        return;
    };
    // Only a second call in the same process could fail, and there is none.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// On standard error, whoever reads it.
fn say_aside(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

async fn watch_signals(cancel: CancellationToken, stopping: &'static str) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut pause), Ok(mut go_on)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::user_defined1()),
        signal(SignalKind::user_defined2()),
    ) else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = pause.recv() => {
                Pause::of_process().hold();
                say_aside(&format!(
                    "\npaused: no restore writes until kill -USR2 {}\n",
                    std::process::id()
                ));
                continue;
            }
            _ = go_on.recv() => {
                Pause::of_process().go_on();
                say_aside("\ngoing on\n");
                continue;
            }
        }
        if cancel.is_cancelled() {
            std::process::exit(i32::from(ExitClass::Interrupted.code()));
        }
        say_aside(stopping);
        cancel.cancel();
    }
}
