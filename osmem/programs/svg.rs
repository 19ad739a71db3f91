//! A picture in SVG, put together from boxes and text.

use std::fmt::{Display, Write};

/// Colours by the names that both programs use; readable in black and white as well, by their brightness.
const STYLE: &str = "text{font:12px monospace;fill:#222}\
    .header{fill:#333}.used{fill:#7fb77e;stroke:#333;stroke-width:.4}.free{fill:#eee;stroke:#333;stroke-width:.4}\
    .mapped{fill:#8fb3e0;stroke:#333;stroke-width:.4}\
    .small{font-size:10px}.title{font-weight:bold}";

/// A picture that grows with what is put into it.
#[derive(Default)]
pub struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    /// A box. `class` is one of `header`, `used`, `free` and `mapped`.
    pub fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="{class}"/>"#
        );
        self.reach(x + width, y + height);
    }

    /// A line of text that begins at `x` on the baseline `y`. `class` is one of `small` and `title`, or empty.
    pub fn text(&mut self, x: f64, y: f64, class: &str, text: impl Display) {
        let text = text.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#);
        self.reach(x + 7.3 * text.chars().count() as f64, y + 4.0);
    }

    /// The whole file, on a white ground.
    pub fn finish(self) -> String {
        let (width, height) = (self.width + 10.0, self.height + 10.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
            self.body
        )
    }

    fn reach(&mut self, x: f64, y: f64) {
        self.width = self.width.max(x);
        self.height = self.height.max(y);
    }
}
