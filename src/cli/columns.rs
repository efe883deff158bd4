//! Lays out the lines of steps: columns aligned among the steps of one kind, wrapped to the terminal.

use super::style::{Style, left, right, width};
use crate::run::{Cell, Detail, StepKind, ViewLine};
use std::collections::BTreeMap;

/// Where a step's own text begins: mark and ordinal (3), two spaces, kind (6), three spaces.
pub const INDENT: usize = 14;
/// Between columns; narrower where that makes the lines fit.
const GAPS: [usize; 2] = [3, 2];
/// A longer target (topic names reach 249 characters) does not push everybody's columns out.
const WIDEST_TARGET: usize = 32;

/// The widths of one kind's columns.
#[derive(Clone, Debug, Default)]
struct Widths {
    target: usize,
    cells: Vec<CellWidths>,
}

#[derive(Clone, Copy, Debug, Default)]
struct CellWidths {
    before: usize,
    number: usize,
    /// Of the whole cell, numbers aligned.
    whole: usize,
}

/// The columns of all lines that were looked at, by kind.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    kinds: BTreeMap<StepKind, Widths>,
}

impl Columns {
    /// Looks at every line that will be drawn.
    pub fn of(lines: &[(StepKind, &ViewLine)]) -> Self {
        let mut columns = Self::default();
        for &(kind, line) in lines {
            let widths = columns.kinds.entry(kind).or_default();
            let target = width(&line.target);
            if target <= WIDEST_TARGET {
                widths.target = widths.target.max(target);
            }
            widths.cells.resize(
                widths.cells.len().max(line.cells.len()),
                CellWidths::default(),
            );
            for (cell, known) in line.cells.iter().zip(&mut widths.cells) {
                if !cell.number.is_empty() {
                    known.before = known.before.max(width(&cell.before));
                    known.number = known.number.max(width(&cell.number));
                }
            }
        }
        for &(kind, line) in lines {
            let Some(widths) = columns.kinds.get_mut(&kind) else {
                continue;
            };
            for (cell, known) in line.cells.iter().zip(&mut widths.cells) {
                known.whole = known.whole.max(width(&draw_cell(cell, known)));
            }
        }
        columns
    }

    /// The text of a line after its kind, in as many lines as it needs; all but the first are to be indented.
    ///
    /// `reserve` columns are kept free at the end of the first line if the columns can be moved closer for it.
    pub fn draw(
        &self,
        kind: StepKind,
        line: &ViewLine,
        style: &Style,
        reserve: usize,
    ) -> Vec<String> {
        let default = Widths::default();
        let widths = self.kinds.get(&kind).unwrap_or(&default);
        let room = style.width.saturating_sub(INDENT);
        let cells: usize = widths.cells.iter().map(|cell| cell.whole).sum();
        let between = widths.cells.len().saturating_sub(1);
        let fits = |gap: usize, room: usize| widths.target + 2 + cells + gap * between <= room;
        let wanted = [room.saturating_sub(reserve), room]
            .into_iter()
            .flat_map(|room| GAPS.map(|gap| (gap, room)))
            .find(|(gap, room)| fits(*gap, *room))
            .map_or(GAPS[0], |(gap, _)| gap);
        let mut lines = Vec::new();
        let mut current = left(&line.target, widths.target);
        let mut first = true;
        for (index, cell) in line.cells.iter().enumerate() {
            let known = widths.cells.get(index).copied().unwrap_or_default();
            let text = draw_cell(cell, &known);
            let gap = if first { 2 } else { wanted };
            let end = width(&current) + gap + width(text.trim_end());
            if end > room && !current.trim().is_empty() {
                lines.push(current.trim_end().to_string());
                current = format!("  {}", text.trim_start());
                current = left(&current, known.whole.min(room));
            } else {
                current.push_str(&" ".repeat(gap));
                current.push_str(&left(&text, known.whole));
            }
            first = false;
        }
        lines.push(current.trim_end().to_string());
        lines
    }
}

fn draw_cell(cell: &Cell, widths: &CellWidths) -> String {
    if cell.number.is_empty() {
        let mut text = cell.before.clone();
        if !text.is_empty() && !cell.after.is_empty() {
            text.push(' ');
        }
        text.push_str(&cell.after);
        return text;
    }
    let mut text = String::new();
    if widths.before > 0 {
        text.push_str(&left(&cell.before, widths.before));
        text.push(' ');
    }
    text.push_str(&right(&cell.number, widths.number));
    if !cell.after.is_empty() {
        text.push(' ');
        text.push_str(&cell.after);
    }
    text
}

/// A small table; columns of numbers are right-aligned.
pub fn table(columns: &[String], rows: &[Vec<String>]) -> Vec<String> {
    let count = rows
        .iter()
        .map(Vec::len)
        .chain([columns.len()])
        .max()
        .unwrap_or(0);
    let mut widths = vec![0; count];
    let mut numeric = vec![true; count];
    for row in rows.iter().map(Vec::as_slice).chain([columns]) {
        for (known, cell) in widths.iter_mut().zip(row) {
            *known = (*known).max(width(cell));
        }
    }
    for row in rows {
        for (numeric, cell) in numeric.iter_mut().zip(row) {
            *numeric &= is_number(cell);
        }
    }
    let draw = |row: &[String]| {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(index, cell)| match numeric[index] && !rows.is_empty() {
                true => right(cell, widths[index]),
                false => left(cell, widths[index]),
            })
            .collect();
        cells.join("  ").trim_end().to_string()
    };
    let mut lines = Vec::new();
    if !columns.is_empty() {
        lines.push(draw(columns));
    }
    lines.extend(rows.iter().map(|row| draw(row)));
    lines
}

/// The rows of a step for `--detail`.
pub fn detail(detail: &Detail) -> Vec<String> {
    table(&detail.columns, &detail.rows)
}

fn is_number(text: &str) -> bool {
    let text = text.trim();
    text.is_empty()
        || text == "-"
        || text == "—"
        || text
            .trim_start_matches('-')
            .chars()
            .all(|c| c.is_ascii_digit() || c == ',' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str, cells: Vec<Cell>) -> ViewLine {
        ViewLine::of(target, cells)
    }

    fn draw(lines: &[ViewLine]) -> Vec<String> {
        let looked_at: Vec<_> = lines.iter().map(|line| (StepKind::Write, line)).collect();
        let columns = Columns::of(&looked_at);
        lines
            .iter()
            .flat_map(|line| columns.draw(StepKind::Write, line, &Style::PLAIN, 0))
            .collect()
    }

    #[test]
    fn numbers_stand_under_numbers_and_words_under_words() {
        let lines = draw(&[
            line(
                "orders_dr",
                vec![
                    Cell::count(1_204_551, "record"),
                    Cell::number("1.1").after("GiB"),
                ],
            ),
            line(
                "payments-eu",
                vec![Cell::count(1, "record"), Cell::number("61").after("MiB")],
            ),
        ]);
        assert_eq!(
            lines,
            [
                "orders_dr    1,204,551 records   1.1 GiB",
                "payments-eu          1 record     61 MiB",
            ]
        );
    }

    #[test]
    fn words_before_a_number_are_aligned_too() {
        let lines = draw(&[
            line("a", vec![Cell::number("41").before("lag after")]),
            line("b", vec![Cell::number("120,310").before("lag after")]),
        ]);
        assert_eq!(lines, ["a  lag after      41", "b  lag after 120,310"]);
    }

    #[test]
    fn what_does_not_fit_goes_to_the_next_line() {
        let lines = draw(&[line(
            &"t".repeat(60),
            vec![Cell::count(12, "partition"), Cell::text("exact")],
        )]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], "  12 partitions   exact");
    }

    #[test]
    fn a_table_aligns_numbers_to_the_right() {
        let columns = ["topic".to_string(), "end".to_string()];
        let rows = [
            vec!["orders".to_string(), "7".to_string()],
            vec!["p".to_string(), "1,204".to_string()],
        ];
        assert_eq!(
            table(&columns, &rows),
            ["topic     end", "orders      7", "p       1,204"]
        );
    }
}
