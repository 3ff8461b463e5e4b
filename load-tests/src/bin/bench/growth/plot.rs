//! The plots of growth: one panel each, both scales in powers of ten, so that what grows as fast as it is given
//! is a line of 45 degrees and what grows faster is steeper.

use std::fmt::Write;

use super::Cost;

const SIDE: f64 = 220.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const GAP: f64 = 90.0;

/// As SVG.
pub(super) fn plot(panels: &[(&str, Vec<Cost>)], occasion: &str) -> String {
    let width = LEFT + (SIDE + GAP) * panels.len() as f64;
    let height = TOP + SIDE + 50.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
        font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
        <text x=\"{LEFT}\" y=\"16\">CPU time a call in the program (green) and with the kernel's (blue), microseconds, by size; powers of ten; grey: as fast as the size; {occasion}</text>\n"
    );
    for (number, (name, costs)) in panels.iter().enumerate() {
        panel(&mut out, LEFT + (SIDE + GAP) * number as f64, name, costs);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, left: f64, name: &str, costs: &[Cost]) {
    let Some((first, last)) = costs.first().zip(costs.last()) else {
        return;
    };
    let (from, to) = ((first.size as f64).log10(), (last.size as f64).log10());
    let decades = (to - from).max(2.0);
    let floor = first.user.max(0.1).log10().floor();
    let x = |size: f64| left + (size.log10() - from) / decades * SIDE;
    // The same length for a power of ten on both sides.
    let y = |cost: f64| TOP + SIDE - (cost.max(0.1).log10() - floor) / decades * SIDE;
    let points = |read: fn(&Cost) -> f64| -> String {
        let point = |cost: &Cost| format!("{:.1},{:.1}", x(cost.size as f64), y(read(cost)));
        costs.iter().map(point).collect::<Vec<_>>().join(" ")
    };
    // Writing to a String never fails.
    let _ = writeln!(
        out,
        "<rect x=\"{left}\" y=\"{TOP}\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"#ccc\"/>\
        <text x=\"{left}\" y=\"{}\">{name}</text>\
        <line x1=\"{left}\" y1=\"{}\" x2=\"{}\" y2=\"{TOP}\" stroke=\"#ccc\"/>\
        <polyline points=\"{}\" fill=\"none\" stroke=\"#8ab\"/>\
        <polyline points=\"{}\" fill=\"none\" stroke=\"#2a6\" stroke-width=\"2\"/>",
        TOP + SIDE + 36.0,
        TOP + SIDE,
        left + SIDE,
        points(|cost| cost.all),
        points(|cost| cost.user)
    );
    for Cost {
        size, user: cost, ..
    } in costs
    {
        let (x, y) = (x(*size as f64), y(*cost));
        let size = match size % 1000 {
            0 => format!("{}k", size / 1000),
            _ => size.to_string(),
        };
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#2a6\"/>\
            <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{cost:.0}</text>\
            <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{size}</text>",
            y - 8.0,
            TOP + SIDE + 16.0
        );
    }
}
