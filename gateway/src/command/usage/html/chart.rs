//! Bars and columns as SVG.
//!
//! Sizes are whole numbers: a length is the size times the room, divided by the largest, in 128 bits. Names and figures stand
//! beside the marks, so nothing is told by colour alone, and each mark has its figures as a tooltip.

use std::io::{self, Write};

use super::{Mark, escaped};

const WIDTH: u64 = 920;
/// Room for names, to the left of bars.
const NAMES: u64 = 300;
/// Room for figures, to the right of bars.
const FIGURES: u64 = 120;
const ROW: u64 = 26;
const BAR: u64 = 16;
/// Of a chart of columns: the columns, and the names below.
const COLUMNS: u64 = 180;
const BELOW: u64 = 28;
const ABOVE: u64 = 18;
/// Longer names are cut; the tooltip has all of it.
const NAME_CHARACTERS: usize = 40;

/// Bars from the left, one a line.
pub(super) fn bars(marks: &[Mark], out: &mut dyn Write) -> io::Result<()> {
    let height = ROW * marks.len() as u64;
    open(height, "bars, one a group", out)?;
    let room = WIDTH - NAMES - FIGURES;
    for (index, mark) in marks.iter().enumerate() {
        let top = ROW * index as u64 + (ROW - BAR) / 2;
        let length = scaled(mark.size, largest(marks), room);
        let (base, end) = (top + 12, NAMES + length + 6);
        writeln!(
            out,
            "<g><title>{}: {}</title><text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
             <rect class=\"mark\" x=\"{NAMES}\" y=\"{top}\" width=\"{length}\" height=\"{BAR}\" rx=\"2\"/>\
             <text class=\"soft\" x=\"{end}\" y=\"{base}\">{}</text></g>",
            escaped(&mark.name),
            mark.shown,
            NAMES - 8,
            escaped(&cut(&mark.name)),
            mark.shown
        )?;
    }
    writeln!(out, "</svg>")
}

/// Columns from the left to the right, with the first and the last named.
pub(super) fn columns(marks: &[Mark], out: &mut dyn Write) -> io::Result<()> {
    open(ABOVE + COLUMNS + BELOW, "columns, one a step of time", out)?;
    let floor = ABOVE + COLUMNS;
    let step = WIDTH / (marks.len() as u64).max(1);
    let width = (step * 4 / 5).clamp(1, 80);
    for (index, mark) in marks.iter().enumerate() {
        let height = scaled(mark.size, largest(marks), COLUMNS);
        writeln!(
            out,
            "<g><title>{}: {}</title><rect class=\"mark\" x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\"/></g>",
            escaped(&mark.name),
            mark.shown,
            step * index as u64,
            floor - height
        )?;
    }
    writeln!(
        out,
        "<line class=\"axis\" x1=\"0\" y1=\"{floor}\" x2=\"{WIDTH}\" y2=\"{floor}\"/>"
    )?;
    if let [first, .., last] = marks {
        let below = floor + 18;
        let end = step * (marks.len() as u64 - 1) + width;
        writeln!(
            out,
            "<text class=\"soft\" x=\"0\" y=\"{below}\">{}</text>",
            escaped(&first.name)
        )?;
        writeln!(
            out,
            "<text class=\"soft\" x=\"{end}\" y=\"{below}\" text-anchor=\"end\">{}</text>",
            escaped(&last.name)
        )?;
    } else if let [only] = marks {
        let below = floor + 18;
        writeln!(
            out,
            "<text class=\"soft\" x=\"0\" y=\"{below}\">{}</text>",
            escaped(&only.name)
        )?;
    }
    if let Some(most) = marks.iter().max_by_key(|mark| mark.size) {
        writeln!(
            out,
            "<text class=\"soft\" x=\"0\" y=\"12\">at most {}</text>",
            most.shown
        )?;
    }
    writeln!(out, "</svg>")
}

fn open(height: u64, label: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\" xmlns=\"http://www.w3.org/2000/svg\">"
    )
}

fn largest(marks: &[Mark]) -> u64 {
    marks.iter().map(|mark| mark.size).max().unwrap_or(0)
}

fn scaled(size: u64, largest: u64, room: u64) -> u64 {
    let length = u128::from(size) * u128::from(room) / u128::from(largest.max(1));
    // No more than the room, since no size is more than the largest.
    u64::try_from(length).unwrap_or(room)
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARACTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
