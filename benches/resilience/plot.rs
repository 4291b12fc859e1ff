//! A picture of some curves, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 250.0;
const COLOURS: [&str; 3] = ["#1f6feb", "#c4530a", "#777"];

/// Curves over the same axis.
pub struct Panel<'a> {
    pub title: &'a str,
    /// What the axes are in.
    pub units: (&'a str, &'a str),
    pub curves: Vec<(&'a str, Vec<(f64, f64)>)>,
}

/// Panels, two in a row.
pub fn svg(panels: &[Panel<'_>]) -> String {
    let (wide, high) = (2.0 * WIDTH, panels.len().div_ceil(2) as f64 * HEIGHT);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{wide}\" height=\"{high}\" fill=\"white\"/>\n"
    );
    for (at, panel) in panels.iter().enumerate() {
        let place = ((at % 2) as f64 * WIDTH, (at / 2) as f64 * HEIGHT);
        text.push_str(&draw(panel, place));
    }
    text + "</svg>\n"
}

fn draw(panel: &Panel<'_>, (left, top): (f64, f64)) -> String {
    let (left, right, top, bottom) = (left + 48.0, left + WIDTH - 16.0, top + 40.0, top + HEIGHT - 30.0);
    let all = || panel.curves.iter().flat_map(|(_, points)| points.iter());
    let end = all().map(|(x, _)| *x).fold(1.0, f64::max);
    let begin = all().map(|(x, _)| *x).fold(end, f64::min);
    let most = nice(all().map(|(_, y)| *y).fold(0.0, f64::max));
    let x = |value: f64| left + (right - left) * (value - begin) / (end - begin);
    let y = |value: f64| bottom - (bottom - top) * value / most;
    let mut text = format!(
        "<text x=\"{left}\" y=\"{:.0}\" font-weight=\"bold\" fill=\"#333\">{}</text>\n",
        top - 24.0,
        panel.title
    );
    for part in 0..=4 {
        let (up, along) = (most * f64::from(part) / 4.0, begin + (end - begin) * f64::from(part) / 4.0);
        let _ = write!(
            text,
            "<path stroke=\"#ddd\" d=\"M{left} {0:.1}H{right}\"/>\n\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\" fill=\"#333\">{up}</text>\n\
             <text x=\"{3:.1}\" y=\"{4}\" text-anchor=\"middle\" fill=\"#333\">{along:.0}{5}</text>\n",
            y(up),
            left - 6.0,
            y(up) + 4.0,
            x(along),
            bottom + 16.0,
            if part == 4 { panel.units.0 } else { "" },
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{:.0}\" fill=\"#333\">{}</text>",
        left - 44.0,
        top - 8.0,
        panel.units.1
    );
    for (at, (name, points)) in panel.curves.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let line: Vec<String> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let _ = write!(
            text,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>\n",
            line.join(" "),
            right - 110.0 * at as f64,
            top - 8.0,
        );
    }
    text
}

/// A round number that is no less.
fn nice(value: f64) -> f64 {
    let unit = 10_f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].iter().map(|step| step * unit).find(|it| *it >= value).unwrap_or(value)
}
