//! `terrace map --live`: the map in the terminal, with keys to move about in it.

use super::picture::{self, Colour, Colouring, Line};
use super::svg;
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::snapshot::Snapshot;
use crate::target::Target;
use crate::units::{Share, Size};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Words, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// What asks a program to end. The terminal is put back first.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT];
/// How often a process is looked at again, and signals are heeded.
const REFRESH: Duration = Duration::from_secs(1);
/// Columns of the addresses before the map.
const LABEL: u16 = 16;
const MOST_ZOOM: u64 = 1024;

const HELP: &str = "\
left right    the zone before, the zone after
up down       the line above, the line below
PgUp PgDn     ten lines
Home End      the first zone, the last zone
+ -           longer, shorter pieces
0             the whole again
c             the next colouring
r             look again now
? h           this help
q Esc         leave";

/// Shows the map until the user leaves.
pub fn run(target: &Target, first: Snapshot, colouring: Colouring) -> Result<(), Failure> {
    let failed = |error| Failure::System("the terminal cannot be used", error);
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(failed(io::Error::other("--live needs one on standard input and output")));
    }
    let ending: SigSet = ENDING.into_iter().collect();
    let signals = (|| {
        ending.thread_block()?;
        SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    })()
    .map_err(|errno| failed(errno.into()))?;
    let mut terminal = ratatui::try_init().map_err(|error| {
        // It may have come half-way.
        let _ = ratatui::try_restore();
        failed(error)
    })?;
    let mut view = View::new(first, colouring);
    let mut ended_by = None;
    let result = loop {
        if let Ok(Some(received)) = signals.read_signal() {
            ended_by = Signal::try_from(received.ssi_signo.cast_signed()).ok();
            break Ok(());
        }
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            break Err(error);
        }
        match next(&mut view, target) {
            Ok(Step::Stay) => {}
            Ok(Step::Leave) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let restored = ratatui::try_restore();
    // Shows the cursor again.
    drop(terminal);
    if let Some(signal) = ended_by {
        // The terminal is as it was; the signal has its way.
        ending.thread_unblock().and_then(|()| raise(signal)).map_err(|errno| failed(errno.into()))?;
    }
    restored.and(result).map_err(failed)
}

/// Waits for a key, or for the time to look again.
fn next(view: &mut View, target: &Target) -> io::Result<Step> {
    let wait =
        if target.goes_on() && !view.has_ended { REFRESH.saturating_sub(view.looked.elapsed()) } else { REFRESH };
    let mut is_due = true;
    if event::poll(wait)? {
        is_due = false;
        if let Event::Key(key) = event::read()? {
            match view.key(key) {
                Step::Stay if key.code == KeyCode::Char('r') => is_due = true,
                step => return Ok(step),
            }
        }
    }
    if is_due && target.goes_on() {
        view.looked = Instant::now();
        match target.look() {
            Ok(snapshot) => view.renew(snapshot),
            Err(_) => view.has_ended = true,
        }
    }
    Ok(Step::Stay)
}

/// What follows a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Stay,
    Leave,
}

/// Which part of the snapshot is on the screen.
struct View {
    snapshot: Snapshot,
    colouring: Colouring,
    /// The line of the chosen piece, and the piece's number in it.
    line: usize,
    piece: usize,
    /// The line at the top of the map.
    top: usize,
    /// The part of a line that is shown is one in so many.
    zoom: u64,
    is_help_shown: bool,
    /// Whether the process could not be looked at again.
    has_ended: bool,
    looked: Instant,
}

impl View {
    fn new(snapshot: Snapshot, colouring: Colouring) -> Self {
        let (line, piece, top, zoom) = (0, 0, 0, 1);
        let looked = Instant::now();
        Self { snapshot, colouring, line, piece, top, zoom, is_help_shown: false, has_ended: false, looked }
    }

    /// Takes another look, and stays where it is as far as that still exists.
    fn renew(&mut self, snapshot: Snapshot) {
        let address =
            picture::lines(&self.snapshot).get(self.line).and_then(|line| Some(line.pieces.get(self.piece)?.start));
        self.snapshot = snapshot;
        if let Some(address) = address {
            self.choose(address);
        }
    }

    /// Chooses the piece at an address; the nearest that is left if there is none.
    fn choose(&mut self, address: u64) {
        let lines = picture::lines(&self.snapshot);
        let holds = |line: &Line| {
            line.pieces.iter().position(|piece| (piece.start..piece.start + piece.bytes).contains(&address))
        };
        if let Some(found) = lines.iter().enumerate().find_map(|(number, line)| Some((number, holds(line)?))) {
            (self.line, self.piece) = found;
        } else {
            self.line = self.line.min(lines.len().saturating_sub(1));
            self.piece = self.piece.min(lines.get(self.line).map_or(0, |line| line.pieces.len().saturating_sub(1)));
        }
    }

    fn key(&mut self, key: KeyEvent) -> Step {
        if key.kind == KeyEventKind::Release {
            return Step::Stay;
        }
        let was_help_shown = std::mem::take(&mut self.is_help_shown);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Step::Leave,
            KeyCode::Char('q') | KeyCode::Esc if !was_help_shown => return Step::Leave,
            KeyCode::Char('?' | 'h') => self.is_help_shown = !was_help_shown,
            KeyCode::Left => self.step(-1),
            KeyCode::Right => self.step(1),
            KeyCode::Up => self.go_lines(-1),
            KeyCode::Down => self.go_lines(1),
            KeyCode::PageUp => self.go_lines(-10),
            KeyCode::PageDown => self.go_lines(10),
            KeyCode::Home => (self.line, self.piece) = (0, 0),
            KeyCode::End => {
                let lines = picture::lines(&self.snapshot);
                self.line = lines.len().saturating_sub(1);
                self.piece = lines.last().map_or(0, |line| line.pieces.len().saturating_sub(1));
            }
            KeyCode::Char('+' | '=') => self.zoom = (self.zoom * 2).min(MOST_ZOOM),
            KeyCode::Char('-') => self.zoom = (self.zoom / 2).max(1),
            KeyCode::Char('0') => self.zoom = 1,
            KeyCode::Char('c') => {
                let place = Colouring::ALL.iter().position(|&one| one == self.colouring).unwrap_or(0);
                self.colouring = Colouring::ALL[(place + 1) % Colouring::ALL.len()];
            }
            _ => {}
        }
        Step::Stay
    }

    /// Goes to the piece before or after, over the ends of lines.
    fn step(&mut self, by: isize) {
        let lines = picture::lines(&self.snapshot);
        let Some(line) = lines.get(self.line) else { return };
        match self.piece.checked_add_signed(by) {
            Some(piece) if piece < line.pieces.len() => self.piece = piece,
            Some(_) if self.line + 1 < lines.len() => (self.line, self.piece) = (self.line + 1, 0),
            None if self.line > 0 => (self.line, self.piece) = (self.line - 1, lines[self.line - 1].pieces.len() - 1),
            _ => {}
        }
    }

    /// Goes up or down, to the piece that lies there.
    fn go_lines(&mut self, by: isize) {
        let lines = picture::lines(&self.snapshot);
        let Some(line) = lines.get(self.line) else { return };
        let offset = line.pieces[self.piece].start - line.start;
        self.line = self.line.saturating_add_signed(by).min(lines.len() - 1);
        let line = &lines[self.line];
        let after = line.pieces.partition_point(|piece| piece.start - line.start <= offset);
        self.piece = after.saturating_sub(1);
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let rows = [
            Constraint::Length(1),
            Constraint::Length(2),
            Constraint::Min(1),
            Constraint::Length(3),
            Constraint::Length(1),
        ];
        let [head, ledger, map, panel, foot] = Layout::vertical(rows).areas(frame.area());
        let process = &self.snapshot.process;
        let state = if self.has_ended { "   (it has ended; this was the last look)" } else { "" };
        let resident = Size(process.resident_bytes);
        let title = format!("{} (process {}): {resident} resident{state}", process.name, process.pid);
        frame.render_widget(Paragraph::new(title).style(Style::new().add_modifier(Modifier::BOLD)), head);
        self.draw_ledger(frame, ledger);
        let chosen = self.draw_map(frame, map);
        frame.render_widget(Paragraph::new(chosen).wrap(Wrap { trim: true }), panel);
        let keys =
            format!("colour: {}   zoom: {}   arrows + - 0 c r   ? help   q leave", self.colouring.name(), self.zoom);
        frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::REVERSED)), foot);
        if self.is_help_shown {
            let [area] = Layout::horizontal([Constraint::Length(56)]).areas(frame.area());
            let [area] = Layout::vertical([Constraint::Length(12)]).areas(area);
            let area = area.intersection(frame.area());
            frame.render_widget(Clear, area);
            frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title("Keys")), area);
        }
    }

    fn draw_ledger(&self, frame: &mut Frame<'_>, area: Rect) {
        let accounts = svg::accounts(&Ledger::of(&self.snapshot));
        let whole: u64 = accounts.iter().map(|account| account.1).sum();
        let cells = |bytes: u64| (u128::from(bytes) * u128::from(area.width) / u128::from(whole.max(1))) as usize;
        let bar = accounts.map(|(_, bytes, colour)| Span::styled(" ".repeat(cells(bytes)), on(colour)));
        let words = accounts.iter().flat_map(|&(name, bytes, colour)| {
            [Span::styled("  ", on(colour)), Span::raw(format!(" {name} {}  ", Share(bytes, whole)))]
        });
        frame.render_widget(Paragraph::new(vec![Words::from(bar.to_vec()), words.collect()]), area);
    }

    /// Draws the lines that fit; says what the chosen piece is.
    fn draw_map(&mut self, frame: &mut Frame<'_>, area: Rect) -> String {
        let lines = picture::lines(&self.snapshot);
        let Some(chosen) = lines.get(self.line).map(|line| line.pieces[self.piece]) else {
            return "The heap is empty.".to_owned();
        };
        let height = area.height as usize;
        self.top = self.top.min(self.line).max((self.line + 1).saturating_sub(height));
        let columns = u64::from(area.width.saturating_sub(LABEL)).max(1);
        let shown = picture::LINE / self.zoom;
        // The chosen piece stands in the middle, as far as the line's ends allow.
        let middle = chosen.start - lines[self.line].start + chosen.bytes / 2;
        let left = middle.saturating_sub(shown / 2).min(picture::LINE - shown);
        let rows = lines.iter().enumerate().skip(self.top).take(height).map(|(number, line)| {
            let label = Span::raw(format!("{:#014x}{:2}", line.start, if number == self.line { " >" } else { "" }));
            let cells = (0..columns).map(|column| {
                let address = line.start + left + (column * 2 + 1) * shown / (columns * 2);
                // A piece that is smaller than a cell is still seen while it is the chosen one.
                let is_chosen = number == self.line
                    && (address >= chosen.start && address < chosen.start + chosen.bytes
                        || (middle - left.min(middle)) * columns / shown == column);
                let piece = line.pieces.iter().find(|piece| address < piece.start + piece.bytes);
                let style = piece.map_or_else(Style::new, |piece| on(piece.part.colour(self.colouring)));
                Span::styled(if is_chosen { "◆" } else { " " }, style.fg(Color::Black))
            });
            std::iter::once(label).chain(cells).collect::<Words<'_>>()
        });
        frame.render_widget(Paragraph::new(rows.collect::<Vec<_>>()), area);
        svg::title(chosen.part)
    }
}

fn on(colour: Colour) -> Style {
    Style::new().bg(Color::Rgb(colour.0, colour.1, colour.2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn press(view: &mut View, codes: &[KeyCode]) -> Step {
        codes.iter().fold(Step::Stay, |_, &code| view.key(code.into()))
    }

    /// The screen after drawing, as text.
    fn screen(view: &mut View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(110, 16)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_arrows_go_from_zone_to_zone_over_the_ends_of_lines() {
        let snapshot = sample();
        let zones: Vec<u64> =
            snapshot.arenas[0].segments.iter().flat_map(|s| &s.zones).map(|zone| zone.start).collect();
        let in_first = snapshot.arenas[0].segments[0].zones.len();
        let mut view = View::new(snapshot, Colouring::Occupancy);
        assert!(screen(&mut view).contains(&format!("{:#x}: the segment's tables", zones[0])));
        press(&mut view, &vec![KeyCode::Right; in_first]);
        assert_eq!((view.line, view.piece), (1, 0));
        assert!(screen(&mut view).contains(&format!("{:#x}: the segment's tables", zones[in_first])));
        press(&mut view, &[KeyCode::Left]);
        assert_eq!((view.line, view.piece), (0, in_first - 1));
        press(&mut view, &[KeyCode::Home, KeyCode::Left, KeyCode::Up]);
        assert_eq!((view.line, view.piece), (0, 0), "there is nothing before the first");
        press(&mut view, &[KeyCode::End, KeyCode::Right, KeyCode::Down]);
        assert!(screen(&mut view).contains("0x7f6a0cc00000: large, freed"));
    }

    #[test]
    fn zoom_makes_pieces_longer_and_colours_go_round() {
        let mut view = View::new(sample(), Colouring::Occupancy);
        press(&mut view, &[KeyCode::Right]);
        let marks = |view: &mut View| screen(view).matches('◆').count();
        let before = marks(&mut view);
        press(&mut view, &[KeyCode::Char('+'); 4]);
        assert!(marks(&mut view) >= before * 8, "{before} cells, then {}", marks(&mut view));
        press(&mut view, &[KeyCode::Char('0')]);
        assert_eq!(marks(&mut view), before);
        let names = (0..4).map(|_| {
            press(&mut view, &[KeyCode::Char('c')]);
            view.colouring.name()
        });
        assert_eq!(names.collect::<Vec<_>>(), ["class", "age", "owner", "occupancy"]);
    }

    #[test]
    fn help_covers_the_map_and_the_next_escape_only_closes_it() {
        let mut view = View::new(sample(), Colouring::Occupancy);
        assert_eq!(press(&mut view, &[KeyCode::Char('?')]), Step::Stay);
        assert!(screen(&mut view).contains("the next colouring"));
        assert_eq!(press(&mut view, &[KeyCode::Esc]), Step::Stay);
        assert!(!screen(&mut view).contains("the next colouring"));
        assert_eq!(press(&mut view, &[KeyCode::Esc]), Step::Leave);
        assert_eq!(press(&mut view, &[KeyCode::Char('q')]), Step::Leave);
    }

    #[test]
    fn another_look_keeps_the_place_or_takes_the_nearest() {
        let mut view = View::new(sample(), Colouring::Occupancy);
        press(&mut view, &[KeyCode::End]);
        let mut later = sample();
        later.arenas[0].segments.remove(0);
        view.renew(later);
        assert!(screen(&mut view).contains("0x7f6a0cc00000: large, freed"), "the chosen piece is still there");
        let mut empty = sample();
        empty.large.clear();
        empty.arenas.truncate(1);
        view.renew(empty);
        assert_eq!(view.line, 1, "the last line that is left");
        let mut nothing = sample();
        nothing.large.clear();
        nothing.arenas.clear();
        view.renew(nothing);
        assert!(screen(&mut view).contains("The heap is empty."));
        press(&mut view, &[KeyCode::Down, KeyCode::Right, KeyCode::Home, KeyCode::End]);
    }
}
