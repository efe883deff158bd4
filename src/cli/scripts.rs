//! `kbr eval`, `kbr check`, `kbr docs`.

use super::arguments::{Check, Docs, Eval, Output};
use super::report::Report;
use super::runbook::read_source;
use super::style::{Style, columns_of_stdout, harmless};
use super::{print, print_json, with_runtime};
use crate::base::text::counted;
use crate::base::time;
use crate::dsl::{self, Arguments, EvaluateOptions, Severity, Shown, Source, World};
use crate::run::{Config, ExitClass};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// `kbr eval`
pub fn eval(arguments: Eval) -> Result<ExitClass, Box<Report>> {
    let config = Config::find(Path::new(".")).map_err(|error| Report::from(&error))?;
    let source = Source::inline("eval", arguments.code.as_str());
    with_runtime(async |cancel| {
        let world = Arc::new(World::real(config));
        let options = EvaluateOptions {
            arguments: Arguments::default(),
            now: time::now(),
            cancel,
            shows_value: true,
        };
        let shown = dsl::eval(&source, &world, options).await;
        world.shutdown().await;
        let shown = shown.map_err(|error| Report::from(&error))?;
        print_value(&shown, arguments.output, arguments.detail);
        Ok(ExitClass::Done)
    })
}

/// Shows a value, after what was printed on the way. Without `detail` long cells of a table are cut.
pub fn print_value(shown: &Shown, output: Output, detail: bool) {
    match output {
        Output::Json => print_json(&json!({
            "schema": "kbr.eval/1",
            "value": shown.json,
            "text": shown.text,
            "printed": shown.printed,
        })),
        Output::Text => {
            let cut = match (&shown.table, detail) {
                (Some(table), false) => table.within(columns_of_stdout()),
                _ => None,
            };
            let text = cut.as_ref().unwrap_or(&shown.text);
            for text in shown.printed.iter().chain([text]) {
                if !text.is_empty() {
                    print(&format!("{}\n", harmless(text.trim_end())));
                }
            }
            if cut.is_some() {
                print("… is cut; --detail shows it whole, --output json too\n");
            }
        }
    }
}

/// `kbr check`
pub fn check(arguments: Check) -> Result<ExitClass, Box<Report>> {
    let (mut errors, mut warnings) = (0, 0);
    let mut files: Vec<Value> = Vec::new();
    let mut text = String::new();
    let style = Style::of_stdout();
    for file in &arguments.files {
        let source = read_source(file)?;
        let mut findings: Vec<Value> = Vec::new();
        for finding in dsl::check(&source) {
            match finding.severity {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
            let report = Report::of_finding(&finding, &file.display().to_string(), &source.text);
            text.push_str(&report.draw(&style));
            text.push('\n');
            findings.push(report.json());
        }
        files.push(json!({ "file": file.display().to_string(), "findings": findings }));
    }
    let exit = match errors {
        0 => ExitClass::Done,
        _ => ExitClass::Usage,
    };
    match arguments.output {
        Output::Json => print_json(&json!({
            "schema": "kbr.check/1",
            "files": files,
            "errors": errors,
            "warnings": warnings,
            "exit": exit.code(),
        })),
        Output::Text => {
            let checked = counted(files.len() as i128, "file");
            text.push_str(&match (errors, warnings) {
                (0, 0) => format!("{checked} checked: nothing found\n"),
                _ => format!(
                    "{checked} checked: {}, {}\n",
                    counted(errors, "error"),
                    counted(warnings, "warning")
                ),
            });
            print(&text);
        }
    }
    Ok(exit)
}

/// `kbr docs`
pub fn docs(arguments: Docs) -> Result<ExitClass, Box<Report>> {
    let text = dsl::docs(arguments.name.as_deref())
        .map_err(|message| Report::usage("E0105", message).now("kbr docs lists every name"))?;
    print(&format!("{}\n", text.trim_end()));
    Ok(ExitClass::Done)
}
