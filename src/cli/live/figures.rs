//! Numbers and times in few characters. What is not known is a dash, never 0.

/// What stands for a value that is not known.
pub(super) const UNKNOWN: &str = "-";

/// Heights of a column of a sparkline, and what they are where a terminal has ASCII only.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// Which characters a terminal draws with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glyphs {
    /// Block elements.
    Blocks,
    /// ASCII.
    Ascii,
}

impl Glyphs {
    /// What the locale has. None that is set says nothing: containers have none, and the terminal outside is UTF-8.
    pub(super) fn of(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &&str| env(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set);
        let is_utf8 = locale.is_none_or(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        if is_utf8 { Self::Blocks } else { Self::Ascii }
    }

    const fn heights(self) -> [char; 8] {
        match self {
            Self::Blocks => BLOCKS,
            Self::Ascii => ASCII,
        }
    }

    /// Beside the title of the column that rows are sorted by.
    pub(super) const fn arrow(self, is_reversed: bool) -> &'static str {
        match (self, is_reversed) {
            (Self::Blocks, false) => "↓",
            (Self::Blocks, true) => "↑",
            (Self::Ascii, false) => "v",
            (Self::Ascii, true) => "^",
        }
    }

    /// A full cell of a bar.
    pub(super) const fn full(self) -> char {
        match self {
            Self::Blocks => '█',
            Self::Ascii => '#',
        }
    }
}

/// A time in milliseconds: `0.41ms`, `88ms`, `2.31s`, `1m05s`; at most seven characters below a day.
pub(super) fn time(ms: Option<f64>) -> String {
    match ms.filter(|ms| ms.is_finite() && *ms >= 0.0) {
        None => UNKNOWN.to_owned(),
        Some(ms) if ms < 9.995 => format!("{ms:.2}ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0}ms"),
        Some(ms) if ms < 9_995.0 => format!("{:.2}s", ms / 1e3),
        Some(ms) if ms < 99_950.0 => format!("{:.1}s", ms / 1e3),
        Some(ms) => span(ms / 1e3),
    }
}

/// A time in seconds in its two largest units: `42s`, `1m05s`, `6h12m`, `3d04h`.
pub(super) fn span(seconds: f64) -> String {
    let minutes = (seconds / 60.0).floor();
    let hours = (seconds / 3_600.0).floor();
    let days = (seconds / 86_400.0).floor();
    if seconds < 60.0 {
        format!("{seconds:.0}s")
    } else if hours < 1.0 {
        format!("{minutes:.0}m{:02.0}s", (seconds - minutes * 60.0).floor())
    } else if days < 1.0 {
        format!("{hours:.0}h{:02.0}m", minutes - hours * 60.0)
    } else {
        format!("{days:.0}d{:02.0}h", hours - days * 24.0)
    }
}

/// A rate per second: `0.43`, `86.3`, `1,234`, `12.3k`.
pub(super) fn rate(per_second: Option<f64>) -> String {
    match per_second.filter(|rate| rate.is_finite()) {
        None => UNKNOWN.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 9.995 => format!("{rate:.2}"),
        Some(rate) if rate < 999.5 => format!("{rate:.1}"),
        Some(rate) if rate < 9_999.5 => {
            format!("{},{:03.0}", (rate.round() / 1e3).floor(), rate.round() % 1e3)
        }
        Some(rate) if rate < 999_950.0 => format!("{:.1}k", rate / 1e3),
        Some(rate) => format!("{:.1}M", rate / 1e6),
    }
}

/// A share in percent, without the sign: `0`, `0.06`, `12.3`, `100`.
pub(super) fn percent(percent: Option<f64>) -> String {
    match percent.filter(|percent| percent.is_finite()) {
        None => UNKNOWN.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(percent) if percent < 0.01 => "<0.01".to_owned(),
        Some(percent) if percent < 9.995 => format!("{percent:.2}"),
        // Only all is 100 %: of many thousands that are almost all, the few are what is looked for.
        Some(percent) if percent < 100.0 => format!("{:.1}", percent.min(99.9)),
        Some(percent) => format!("{percent:.0}"),
    }
}

/// A count: `4,218`.
pub(super) fn count(number: Option<u64>) -> String {
    let Some(number) = number else { return UNKNOWN.to_owned() };
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size: `812 B`, `11.3 MiB`.
pub(super) fn bytes(bytes: Option<f64>) -> String {
    let Some(mut size) = bytes else { return UNKNOWN.to_owned() };
    if size < 1024.0 {
        return format!("{size:.0} B");
    }
    for unit in ["KiB", "MiB", "GiB"] {
        size /= 1024.0;
        if size < 1023.95 {
            return format!("{size:.1} {unit}");
        }
    }
    format!("{:.1} TiB", size / 1024.0)
}

/// US dollars, signed: `$10.62`, `-$0.13`, `$0.0042`.
pub(super) fn dollars(usd: Option<f64>) -> String {
    let Some(usd) = usd else { return UNKNOWN.to_owned() };
    let (sign, size) = (if usd < 0.0 { "-" } else { "" }, usd.abs());
    match size {
        0.0 => "$0".to_owned(),
        size if size < 0.01 => format!("{sign}${size:.4}"),
        size if size < 999.5 => format!("{sign}${size:.2}"),
        size => format!("{sign}${size:.0}"),
    }
}

/// The time of day of a timestamp such as `2026-11-23T14:05:53.114207+00:00`: `14:05:53`.
pub(super) fn clock(timestamp: Option<&str>) -> String {
    part(timestamp, 11, 19)
}

/// The same with milliseconds: `14:05:53.114`.
pub(super) fn clock_ms(timestamp: Option<&str>) -> String {
    part(timestamp, 11, 23)
}

/// A timestamp as seen from another one: the time of day, with month and day before it if that is another day.
pub(super) fn since(timestamp: Option<&str>, now: Option<&str>) -> String {
    let (then, day) = (clock(timestamp), part(timestamp, 5, 10));
    if then == UNKNOWN || day == part(now, 5, 10) { then } else { format!("{day} {then}") }
}

fn part(timestamp: Option<&str>, from: usize, to: usize) -> String {
    let is_time = |text: &&str| text.as_bytes().get(10) == Some(&b'T');
    let part = timestamp.filter(is_time).and_then(|text| text.get(from..to.min(text.len())));
    part.unwrap_or(UNKNOWN).to_owned()
}

/// Values as a row of columns, the highest at full height; an unknown one is a gap, and none is 0.
pub(super) fn sparkline(values: &[Option<f64>], glyphs: Glyphs) -> String {
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let heights = glyphs.heights();
    let column = |value: &Option<f64>| {
        let Some(value) = value else { return ' ' };
        let fits = |height: &&(f64, char)| *value * 8.0 <= most * height.0;
        let steps = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let steps: Vec<(f64, char)> = steps.into_iter().zip(heights).collect();
        steps.iter().find(fits).map_or(' ', |(_, glyph)| *glyph)
    };
    values.iter().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        Glyphs, bytes, clock, clock_ms, count, dollars, percent, rate, since, span, sparkline, time,
    };

    #[test]
    fn times_take_at_most_seven_columns() {
        let table = [
            (0.0, "0.00ms"),
            (0.412, "0.41ms"),
            (9.994, "9.99ms"),
            (9.996, "10ms"),
            (88.4, "88ms"),
            (999.4, "999ms"),
            (999.6, "1.00s"),
            (2_310.0, "2.31s"),
            (9_996.0, "10.0s"),
            (65_432.0, "65.4s"),
            (125_000.0, "2m05s"),
            (22_331_000.0, "6h12m"),
        ];

        for (ms, text) in table {
            assert_eq!(time(Some(ms)), text);
            assert!(text.len() <= 7);
        }
        for unknown in [None, Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)] {
            assert_eq!(time(unknown), "-");
        }
        assert_eq!(span(3.0 * 86_400.0 + 4.0 * 3_600.0 + 59.0), "3d04h");
        assert_eq!(span(3_599.9), "59m59s");
    }

    #[test]
    fn rates_and_shares_are_short_and_honest() {
        let rates = [
            (0.0, "0"),
            (0.432, "0.43"),
            (9.996, "10.0"),
            (86.31, "86.3"),
            (999.6, "1,000"),
            (1_234.4, "1,234"),
            (12_340.0, "12.3k"),
            (2.5e6, "2.5M"),
        ];
        for (value, text) in rates {
            assert_eq!(rate(Some(value)), text);
        }
        let shares = [
            (0.0, "0"),
            (0.004, "<0.01"),
            (0.06, "0.06"),
            (9.996, "10.0"),
            (93.71, "93.7"),
            (99.97, "99.9"),
            (100.0, "100"),
        ];
        for (value, text) in shares {
            assert_eq!(percent(Some(value)), text);
        }
        assert_eq!((rate(None), percent(None)), ("-".to_owned(), "-".to_owned()));
    }

    #[test]
    fn counts_sizes_and_money_read_well() {
        assert_eq!(
            (count(Some(0)), count(Some(999)), count(Some(1_234_567))),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!((bytes(Some(812.0)), bytes(Some(11_848_000.0))), ("812 B".into(), "11.3 MiB".into()));
        assert_eq!(dollars(Some(10.618)), "$10.62");
        assert_eq!(dollars(Some(-0.131)), "-$0.13");
        assert_eq!(dollars(Some(0.0042)), "$0.0042");
        assert_eq!(dollars(Some(0.0)), "$0");
        assert_eq!((count(None), bytes(None), dollars(None)), ("-".into(), "-".into(), "-".into()));
    }

    #[test]
    fn timestamps_are_cut_where_they_are_timestamps() {
        let stamp = Some("2026-11-23T14:05:53.114207+00:00");

        assert_eq!(clock(stamp), "14:05:53");
        assert_eq!(clock_ms(stamp), "14:05:53.114");
        assert_eq!(since(stamp, Some("2026-11-23T15:00:00+00:00")), "14:05:53");
        assert_eq!(since(stamp, Some("2026-11-24T15:00:00+00:00")), "11-23 14:05:53");
        for wrong in [None, Some(""), Some("soon"), Some("2026-11-23T"), Some("äöü-äöü-äöüTäöü")]
        {
            assert!(clock(wrong).chars().count() <= 8, "{wrong:?}");
        }
        assert_eq!(since(None, stamp), "-");
    }

    #[test]
    fn a_sparkline_tells_nothing_from_unknown() {
        let values = [Some(0.0), Some(1.0), None, Some(8.0)];

        assert_eq!(sparkline(&values, Glyphs::Blocks), "▁▁ █");
        assert_eq!(sparkline(&values, Glyphs::Ascii), "__ #");
        assert_eq!(sparkline(&[Some(0.0), None], Glyphs::Blocks), "▁ ");
        assert_eq!(sparkline(&[], Glyphs::Blocks), "");
    }

    #[test]
    fn the_locale_says_which_characters_there_are() {
        let cases = [
            (&[][..], Glyphs::Blocks),
            (&[("LANG", "de_DE.UTF-8")][..], Glyphs::Blocks),
            (&[("LC_ALL", "C.utf8"), ("LANG", "C")][..], Glyphs::Blocks),
            (&[("LC_ALL", ""), ("LANG", "C")][..], Glyphs::Ascii),
            (&[("LC_CTYPE", "POSIX"), ("LANG", "en_US.UTF-8")][..], Glyphs::Ascii),
        ];

        for (set, expected) in cases {
            let env = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Glyphs::of(&env), expected, "{set:?}");
        }
    }
}
