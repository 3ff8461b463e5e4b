//! The plot: CPU time a request of each contestant under each workload, as bars on a scale of powers of ten.
//!
//! A bar is the least of the rounds, the line on it reaches to the greatest. No library: it is some rectangles.

use std::fmt::Write;

use crate::contestant::Contestant;
use crate::report::Report;
use crate::report::spread::Spread;
use crate::workload::Workload;

impl Report {
    /// As SVG.
    pub(crate) fn plot(&self, occasion: &str) -> String {
        let groups: Vec<(Workload, Vec<(Contestant, Spread)>)> = Workload::ALL
            .iter()
            .map(|workload| (*workload, self.bars(*workload)))
            .filter(|(_, bars)| !bars.is_empty())
            .collect();
        let bars = groups.iter().flat_map(|(_, bars)| bars);
        let greatest = bars
            .clone()
            .map(|(_, cpu)| cpu.greatest)
            .fold(1.0, f64::max);
        let least = bars.map(|(_, cpu)| cpu.least).fold(greatest, f64::min);
        let scale = Scale::between(least, greatest);
        let rows: usize = groups.iter().map(|(_, bars)| bars.len() + 1).sum();
        let height = TOP + rows * ROW + ROW;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
            font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
            <text x=\"{LEFT}\" y=\"16\">CPU time a request, microseconds (least of the rounds; the line: to the greatest)</text>\n\
            <text x=\"{LEFT}\" y=\"{}\" fill=\"#666\">{occasion}</text>\n",
            height - 4
        );
        scale.lines(&mut out, height);
        let mut y = TOP;
        for (workload, bars) in &groups {
            let _ = writeln!(
                out,
                "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>",
                y + 12,
                workload.name()
            );
            y += ROW;
            for (who, cpu) in bars {
                scale.bar(&mut out, y, *who, *cpu);
                y += ROW;
            }
        }
        out.push_str("</svg>\n");
        out
    }

    fn bars(&self, workload: Workload) -> Vec<(Contestant, Spread)> {
        let cpu =
            |who: &Contestant| Some((*who, self.spread(workload, *who, |round| round.cpu_us)?));
        Contestant::ALL.iter().filter_map(cpu).collect()
    }
}

const WIDTH: usize = 900;
const LEFT: usize = 130;
const RIGHT: usize = 80;
const TOP: usize = 40;
const ROW: usize = 18;

/// From a power of ten to another.
struct Scale {
    from: i32,
    to: i32,
}

impl Scale {
    fn between(least: f64, greatest: f64) -> Self {
        let from = least.max(0.1).log10().floor() as i32;
        Self {
            from,
            to: (greatest.log10().ceil() as i32).max(from + 1),
        }
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.from)) / f64::from(self.to - self.from);
        LEFT as f64 + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT) as f64
    }

    fn lines(&self, out: &mut String, height: usize) {
        for power in self.from..=self.to {
            let value = 10f64.powi(power);
            let x = self.x(value);
            // Writing to a String never fails.
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{height}\" stroke=\"#ddd\"/>\
                <text x=\"{x:.1}\" y=\"34\" fill=\"#666\" text-anchor=\"middle\">{value}</text>"
            );
        }
    }

    fn bar(&self, out: &mut String, y: usize, who: Contestant, cpu: Spread) {
        let (start, end, greatest) = (LEFT as f64, self.x(cpu.least), self.x(cpu.greatest));
        let colour = match who {
            Contestant::TollgateOff | Contestant::TollgateOn | Contestant::TollgateCache => "#2a6",
            Contestant::Direct
            | Contestant::BarePingora
            | Contestant::Nginx
            | Contestant::Envoy
            | Contestant::LiteLlm
            | Contestant::Portkey => "#8ab",
        };
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
            <rect x=\"{start}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\
            <line x1=\"{end:.1}\" y1=\"{middle}\" x2=\"{greatest:.1}\" y2=\"{middle}\" stroke=\"#333\"/>\
            <text x=\"{:.1}\" y=\"{}\">{:.1}</text>",
            LEFT - 8,
            y + 12,
            who.name(),
            (end - start).max(1.0),
            ROW - 4,
            greatest + 5.0,
            y + 12,
            cpu.least,
            middle = y + (ROW - 4) / 2,
        );
    }
}
