//! `kbr show-manifest ARCHIVE [GENERATION]`: a generation object as it is stored, laid out for reading.

use super::{ShowManifest, failed, open};
use crate::archive::Error;
use crate::cli::report::Report;
use crate::cli::{print, with_runtime};
use crate::run::ExitClass;

pub fn show_manifest(arguments: ShowManifest) -> Result<ExitClass, Box<Report>> {
    with_runtime(async |_| {
        let archive = open(&arguments.archive).await?.archive;
        let read = async {
            let number = match arguments.generation {
                Some(number) => number,
                None => archive.latest().await?.number(),
            };
            // Of a number that is not there, what is there is said.
            match archive.manifest_text(number).await {
                Err(Error::Damaged(damage)) => {
                    archive.generation(number).await?;
                    Err(Error::Damaged(damage))
                }
                result => result,
            }
        };
        let text = read
            .await
            .map_err(|error| failed(&arguments.archive, &error))?;
        print(&laid_out(&text));
        Ok(ExitClass::Done)
    })
}

/// JSON with line breaks and indents. Nothing is parsed and written anew: every name, number and text stays as the
/// object has it.
fn laid_out(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    let mut characters = json.trim().chars().peekable();
    while let Some(c) = characters.next() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' => {
                in_text = true;
                escaped = false;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                if matches!(characters.peek(), Some('}' | ']')) {
                    out.extend(characters.next());
                } else {
                    depth += 1;
                    line_break(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line_break(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line_break(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_whitespace() => {}
            c => out.push(c),
        }
    }
    out.push('\n');
    out
}

fn line_break(out: &mut String, depth: usize) {
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_laid_out_with_every_name_number_and_text_as_it_is() {
        let json = r#"{"z":18446744073709551615,"a":[],"t":"a\"b:{c\\","l":[1,{"x":null}]}"#;
        let text = laid_out(json);
        assert_eq!(
            text,
            "{\n  \"z\": 18446744073709551615,\n  \"a\": [],\n  \"t\": \"a\\\"b:{c\\\\\",\n  \"l\": [\n    1,\n    {\n      \"x\": null\n    }\n  ]\n}\n"
        );
    }
}
