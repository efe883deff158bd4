//! How far a step is, for whoever looks: bars on a terminal, a line now and then elsewhere.
//!
//! What the engine tells is only added up; a thread of its own draws it. So drawing never slows the work down, and
//! work that stands still is seen standing still.

use super::style::{Style, harmless, width};
use crate::base::size::format_bytes;
use crate::base::text::grouped;
use crate::base::time::format_duration_ms;
use crate::base::{NoProgress, Progress, ProgressHandle};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A bar's columns.
const BAR: usize = 12;
/// What must stand behind it: `100 %   999k/1.2M   1.0 GiB/s   59 s left`.
const FACTS: usize = 45;
/// How often bars are drawn anew.
const FRAME: Duration = Duration::from_millis(150);
/// The rate is that of the last so many seconds: what was before says little about what is left.
const WINDOW: Duration = Duration::from_secs(15);
/// Topics under way that are shown at once.
const TOPICS_ON_TERMINAL: usize = 6;
const TOPICS_IN_LINES: usize = 20;

/// What is shown of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// All of a step
    #[default]
    Total,
    /// All of a step, and each topic under way
    Topics,
    /// Nothing until a step is done
    None,
}

/// What is shown, where, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    form: Form,
    /// Between two lines, where there is no terminal to draw on.
    every: Duration,
    terminal: bool,
    width: usize,
}

impl Look {
    pub fn of_stderr(form: Form, every: Duration) -> Self {
        Self {
            form,
            every,
            terminal: std::io::stderr().is_terminal(),
            width: Style::of_stderr().width,
        }
    }
}

/// One piece of work that is shown until this is dropped.
pub struct Working {
    progress: ProgressHandle,
    /// Dropped to end the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    bars: Option<MultiProgress>,
}

impl Working {
    /// Begins to show work called `head`.
    pub fn start(look: Look, head: &str) -> Self {
        let mut working = Self {
            progress: NoProgress::handle(),
            stop: None,
            thread: None,
            bars: None,
        };
        if look.form == Form::None {
            return working;
        }
        let work = Arc::new(Shared::default());
        let bars = look
            .terminal
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12)));
        let drawing = Drawing {
            work: work.clone(),
            began: Instant::now(),
            look,
            head: harmless(head),
        };
        let (stop, stopped) = mpsc::channel::<()>();
        let drawn_on = bars.clone();
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || match drawn_on {
                Some(bars) => drawing.bars(&bars, &stopped),
                None => drawing.lines(&stopped),
            });
        // Without a thread to draw there is nothing to see, and the work goes on all the same.
        if let Ok(thread) = thread {
            working.progress = work;
            working.stop = Some(stop);
            working.thread = Some(thread);
            working.bars = bars;
        }
        working
    }

    /// Where the work tells how far it is.
    pub fn progress(&self) -> &ProgressHandle {
        &self.progress
    }

    /// Prints something else while the bars are out of the way.
    pub fn aside(&self, print: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has drawn nonsense at worst.
            let _ = thread.join();
        }
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }
}

// ── what was told

/// Of how much, how much is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    records: u64,
    bytes: u64,
    total_records: u64,
    total_bytes: u64,
}

impl Part {
    /// Done and total in the unit that tells the time best: bytes if their total is known.
    fn measured(&self) -> (u64, u64) {
        match self.total_bytes {
            0 => (self.records.min(self.total_records), self.total_records),
            total => (self.bytes.min(total), total),
        }
    }

    fn percent(&self) -> Option<u64> {
        let (done, total) = self.measured();
        (total > 0).then(|| (u128::from(done) * 100 / u128::from(total)) as u64)
    }

    fn is_under_way(&self) -> bool {
        let (done, total) = self.measured();
        self.records + self.bytes > 0 && done < total
    }

    fn is_done(&self) -> bool {
        let (done, total) = self.measured();
        done >= total
    }

    fn left(&self) -> u64 {
        let (done, total) = self.measured();
        total - done
    }

    fn records(&self) -> String {
        match (self.records, self.total_records) {
            (0, 0) => String::new(),
            (done, 0) => short(done),
            (done, total) => format!("{}/{}", short(done), short(total)),
        }
    }

    fn add(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
    }
}

#[derive(Debug, Default)]
struct Work {
    all: Part,
    topics: BTreeMap<String, Part>,
    doing: String,
}

impl Work {
    /// The topics under way, those with most left first, and how many more there are.
    fn under_way(&self, most: usize) -> (Vec<(&str, &Part)>, usize) {
        let mut found: Vec<(&str, &Part)> = self
            .topics
            .iter()
            .filter(|(_, part)| part.is_under_way())
            .map(|(name, part)| (name.as_str(), part))
            .collect();
        found.sort_by_key(|(_, part)| std::cmp::Reverse(part.left()));
        let more = found.len().saturating_sub(most);
        found.truncate(most);
        (found, more)
    }

    fn topics_done(&self) -> String {
        match self.topics.len() {
            0 => String::new(),
            all => {
                let done = self.topics.values().filter(|part| part.is_done()).count();
                format!("{done} of {all} topics")
            }
        }
    }
}

#[derive(Default)]
struct Shared(Mutex<Work>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topic(&self, topic: &str, change: impl FnOnce(&mut Part)) {
        let mut work = self.lock();
        match work.topics.get_mut(topic) {
            Some(part) => change(part),
            None => change(work.topics.entry(topic.to_string()).or_default()),
        }
    }
}

impl Progress for Shared {
    fn total(&self, records: u64, bytes: u64) {
        let mut work = self.lock();
        work.all.total_records = records;
        work.all.total_bytes = bytes;
    }

    fn advance(&self, records: u64, bytes: u64) {
        self.lock().all.add(records, bytes);
    }

    fn doing(&self, what: &str) {
        self.lock().doing = harmless(what);
    }

    fn topic_total(&self, topic: &str, records: u64, bytes: u64) {
        self.topic(topic, |part| {
            part.total_records += records;
            part.total_bytes += bytes;
        });
    }

    fn topic_advance(&self, topic: &str, records: u64, bytes: u64) {
        self.topic(topic, |part| part.add(records, bytes));
    }
}

// ── how fast

/// The rate of the last seconds, and what it says about the time that is left.
#[derive(Debug, Default)]
struct Pace {
    seen: VecDeque<(Duration, Part)>,
}

impl Pace {
    fn observe(&mut self, at: Duration, part: Part) {
        self.seen.push_back((at, part));
        while self.seen.len() > 2 && at - self.seen[1].0 >= WINDOW {
            self.seen.pop_front();
        }
    }

    /// Per second, by `of`; `None` before there is enough to tell.
    fn per_second(&self, of: impl Fn(&Part) -> u64) -> Option<f64> {
        let ((from, first), (to, last)) = (self.seen.front()?, self.seen.back()?);
        let seconds = (*to - *from).as_secs_f64();
        (seconds >= 0.2).then(|| of(last).saturating_sub(of(first)) as f64 / seconds)
    }

    fn rate(&self) -> String {
        match self.per_second(|part| part.bytes) {
            Some(rate) if rate >= 1.0 => format!("{}/s", format_bytes(rate as u64)),
            _ => match self.per_second(|part| part.records) {
                Some(rate) if rate >= 1.0 => format!("{}/s", short(rate as u64)),
                // Standing still must not look like no news.
                Some(_) => "0/s".to_string(),
                None => String::new(),
            },
        }
    }

    fn left(&self) -> String {
        let Some((_, now)) = self.seen.back().filter(|(at, _)| at.as_secs() >= 1) else {
            return String::new();
        };
        match self.per_second(|part| part.measured().0) {
            Some(rate) if rate > 0.0 && now.left() > 0 => {
                match (now.left() as f64 / rate).ceil() as i64 {
                    seconds @ ..60 => format!("{seconds} s left"),
                    seconds => format!("{} left", format_duration_ms(seconds * 1000)),
                }
            }
            _ => String::new(),
        }
    }
}

// ── drawing

struct Drawing {
    work: Arc<Shared>,
    began: Instant,
    look: Look,
    head: String,
}

/// What stands behind a bar or in a line, apart from the percentage.
fn facts(work: &Work, pace: &Pace, form: Form) -> String {
    let topics = match form {
        Form::Topics => work.topics_done(),
        _ => String::new(),
    };
    let facts = [
        work.all.records(),
        pace.rate(),
        pace.left(),
        topics,
        work.doing.clone(),
    ];
    let said: Vec<&str> = facts
        .iter()
        .map(String::as_str)
        .filter(|fact| !fact.is_empty())
        .collect();
    said.join("   ")
}

fn percent(part: &Part) -> String {
    part.percent()
        .map_or(String::new(), |percent| format!("{percent:>3} %   "))
}

/// The lines of one report.
fn report(head: &str, work: &Work, pace: &Pace, form: Form) -> String {
    let mut out = format!(
        "{head}   {}{}\n",
        percent(&work.all),
        facts(work, pace, form)
    );
    if form == Form::Topics {
        let (topics, more) = work.under_way(TOPICS_IN_LINES);
        let widest = topics.iter().map(|(name, _)| width(name)).max();
        for (name, part) in topics {
            let name = super::style::left(&harmless(name), widest.unwrap_or(0));
            let line = format!("       {name}   {}{}", percent(part), part.records());
            out.push_str(&format!("{}\n", line.trim_end()));
        }
        if more > 0 {
            out.push_str(&format!("       and {more} more\n"));
        }
    }
    out
}

impl Drawing {
    fn lines(&self, stopped: &mpsc::Receiver<()>) {
        let mut pace = Pace::default();
        pace.observe(Duration::ZERO, Part::default());
        while stopped.recv_timeout(self.look.every) == Err(mpsc::RecvTimeoutError::Timeout) {
            let text = {
                let work = self.work.lock();
                pace.observe(self.began.elapsed(), work.all);
                report(&self.head, &work, &pace, self.look.form)
            };
            // A closed standard error loses the news and nothing else.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }

    fn bars(&self, bars: &MultiProgress, stopped: &mpsc::Receiver<()>) {
        let columns = self.look.width.saturating_sub(BAR + FACTS);
        let total = bars.add(ProgressBar::no_length().with_style(spinning()));
        total.set_prefix(cut(&self.head, columns));
        let mut topics: Vec<ProgressBar> = Vec::new();
        let mut pace = Pace::default();
        loop {
            {
                let work = self.work.lock();
                pace.observe(self.began.elapsed(), work.all);
                if let (done, length @ 1..) = work.all.measured() {
                    if total.length() != Some(length) {
                        total.set_style(measured());
                        total.set_length(length);
                    }
                    total.set_position(done);
                }
                total.set_message(facts(&work, &pace, self.look.form));
                if self.look.form == Form::Topics {
                    topic_bars(bars, &mut topics, &work, columns);
                }
            }
            total.tick();
            if stopped.recv_timeout(FRAME) != Err(mpsc::RecvTimeoutError::Timeout) {
                break;
            }
        }
        for bar in topics {
            bar.finish_and_clear();
        }
        total.finish_and_clear();
    }
}

/// One bar per topic under way, the same bar for the same place.
fn topic_bars(bars: &MultiProgress, drawn: &mut Vec<ProgressBar>, work: &Work, columns: usize) {
    let (topics, more) = work.under_way(TOPICS_ON_TERMINAL);
    while drawn.len() > topics.len() {
        if let Some(bar) = drawn.pop() {
            bar.finish_and_clear();
            bars.remove(&bar);
        }
    }
    while drawn.len() < topics.len() {
        drawn.push(bars.add(ProgressBar::new(0).with_style(measured())));
    }
    for (place, (bar, (name, part))) in drawn.iter().zip(&topics).enumerate() {
        let (done, length) = part.measured();
        let name = cut(&harmless(name), columns.saturating_sub(7));
        bar.set_prefix(super::style::left(
            &format!("       {name}"),
            columns.min(30),
        ));
        bar.set_length(length);
        bar.set_position(done);
        let rest = match place + 1 == topics.len() && more > 0 {
            true => format!("   and {more} more topics"),
            false => String::new(),
        };
        bar.set_message(format!("{}{rest}", part.records()));
        bar.tick();
    }
}

fn spinning() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}  {spinner} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn measured() -> ProgressStyle {
    // `wide_msg` is cut at the terminal's edge: a bar that wraps would leave its pieces behind.
    ProgressStyle::with_template(&format!(
        "{{prefix}}  {{bar:{BAR}}} {{percent:>3}} %   {{wide_msg}}"
    ))
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("█▉▊▋▌▍▎▏░")
}

/// At most so many columns, the last of them an ellipsis where something is missing.
fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_string();
    }
    let mut out = String::new();
    for c in text.chars() {
        if width(&out) + width(c.encode_utf8(&mut [0; 4])) + 1 > columns {
            break;
        }
        out.push(c);
    }
    out + "…"
}

/// `818k`, `1.2M`.
fn short(number: u64) -> String {
    match number {
        0..10_000 => grouped(number),
        10_000..1_000_000 => format!("{}k", number / 1_000),
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn part(records: u64, bytes: u64) -> Part {
        Part {
            records,
            bytes,
            total_records: 1_204_551,
            total_bytes: 0,
        }
    }

    #[test]
    fn a_long_name_is_cut_and_says_so() {
        assert_eq!(cut("orders", 6), "orders");
        assert_eq!(cut("payments-eu", 6), "payme…");
    }

    #[test]
    fn counts_in_a_bar_are_short() {
        assert_eq!(
            [short(818), short(818_123), short(1_204_551)],
            ["818", "818k", "1.2M"]
        );
    }

    #[test]
    fn a_line_tells_share_counts_rate_and_the_time_that_is_left() {
        let work = Shared::default();
        work.total(1_204_551, 0);
        work.doing("reading records");
        let mut pace = Pace::default();
        pace.observe(at(0.0), Part::default());
        work.advance(818_000, 940 * MIB);
        pace.observe(at(10.0), work.lock().all);
        assert_eq!(
            report(
                "  1  backup   prod to file:archive",
                &work.lock(),
                &pace,
                Form::Total
            ),
            "  1  backup   prod to file:archive    67 %   818k/1.2M   94 MiB/s   5 s left   reading records\n"
        );
    }

    #[test]
    fn before_anything_is_known_a_line_says_only_what_is_being_done() {
        let work = Shared::default();
        work.doing("reading committed offsets");
        assert_eq!(
            report(
                "  1  backup   x",
                &work.lock(),
                &Pace::default(),
                Form::Total
            ),
            "  1  backup   x   reading committed offsets\n"
        );
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut pace = Pace::default();
        for second in 0..=10 {
            pace.observe(at(f64::from(second)), part(0, 100 * MIB * second as u64));
        }
        assert_eq!(pace.rate(), "100 MiB/s");
        for second in 11..=60 {
            pace.observe(at(f64::from(second)), part(0, 1000 * MIB));
        }
        assert_eq!(pace.rate(), "0/s");
        assert_eq!(pace.left(), "");
    }

    #[test]
    fn the_time_that_is_left_counts_bytes_where_their_total_is_known() {
        let mut all = Part {
            records: 10,
            bytes: 100 * MIB,
            total_records: 1000,
            total_bytes: 400 * MIB,
        };
        let mut pace = Pace::default();
        pace.observe(at(0.0), Part::default());
        pace.observe(at(10.0), all);
        assert_eq!(pace.left(), "30 s left");
        assert_eq!(all.percent(), Some(25));
        all.total_bytes = 0;
        assert_eq!(all.percent(), Some(1));
    }

    #[test]
    fn more_done_than_was_expected_is_all_of_it() {
        let all = part(2_000_000, 1);
        assert_eq!(all.percent(), Some(100));
        assert_eq!(all.left(), 0);
    }

    #[test]
    fn topics_under_way_are_listed_with_most_left_first() {
        let work = Shared::default();
        for (topic, total, done) in [("a", 100, 100), ("b", 100, 40), ("c", 900, 9), ("d", 5, 0)] {
            work.topic_total(topic, total, 0);
            work.total(1105, 0);
            work.topic_advance(topic, done, done * 10);
            work.advance(done, done * 10);
        }
        assert_eq!(
            report(
                "  1  backup   x",
                &work.lock(),
                &Pace::default(),
                Form::Topics
            ),
            "  1  backup   x    13 %   149/1,105   1 of 4 topics\n       c     1 %   9/900\n       b    40 %   40/100\n"
        );
    }

    #[test]
    fn topics_that_do_not_fit_are_counted() {
        let work = Shared::default();
        for number in 0..30 {
            let topic = format!("topic-{number}");
            work.topic_total(&topic, 100, 0);
            work.topic_advance(&topic, 1, 10);
        }
        let work = work.lock();
        let (shown, more) = work.under_way(TOPICS_IN_LINES);
        assert_eq!((shown.len(), more), (20, 10));
    }
}
