//! HTTP dates (RFC 9110 section 5.6.7), read strictly: a date that is only nearly right is no date.

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// Month names as written, by number from zero.
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Weekday names as written; day zero of the Unix epoch was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// The long weekday names of the RFC 850 form.
const LONG_WEEKDAYS: [&[u8]; 7] =
    [b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday"];

/// A date in Unix seconds: IMF-fixdate, RFC 850 or asctime. Names and `GMT` may be in any case, and the
/// weekday need not be the right one; everything else must be exact. `now_unix` settles the century of a
/// two-digit year, which is never more than 50 years ahead.
#[must_use]
pub fn parse_date(text: &[u8], now_unix: i64) -> Option<i64> {
    let comma = text.iter().position(|byte| *byte == b',');
    match comma {
        Some(3) => imf_fixdate(text),
        Some(at) => rfc_850(text, at, now_unix),
        None => asctime(text),
    }
}

/// The IMF-fixdate of a moment. Years beyond 9999 cannot be written and become the last one that can.
#[must_use]
pub fn format_date(unix: i64) -> String {
    // 9999-12-31 23:59:59, the last moment with a four-digit year.
    let unix = unix.clamp(0, 253_402_300_799);
    let (days, second) = (unix.div_euclid(DAY_S), unix.rem_euclid(DAY_S));
    let (year, month, day) = civil(days);
    let weekday = usize::try_from(days % 7).ok().and_then(|at| WEEKDAYS.get(at)).unwrap_or(&"Thu");
    let name = usize::try_from(month - 1)
        .ok()
        .and_then(|at| MONTHS.get(at))
        .map_or("Jan", |name| std::str::from_utf8(name.as_slice()).unwrap_or("Jan"));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {name} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &[u8]) -> Option<i64> {
    let mut text = Cursor(text);
    text.weekday()?;
    text.expect(b", ")?;
    let day = text.number(2)?;
    text.expect(b" ")?;
    let month = text.month()?;
    text.expect(b" ")?;
    let year = text.number(4)?;
    text.expect(b" ")?;
    let second = text.time()?;
    text.expect_gmt()?;
    unix(year, month, day, second)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc_850(text: &[u8], comma: usize, now_unix: i64) -> Option<i64> {
    let (weekday, rest) = text.split_at_checked(comma)?;
    if !LONG_WEEKDAYS.iter().any(|name| name.eq_ignore_ascii_case(weekday)) {
        return None;
    }
    let mut text = Cursor(rest);
    text.expect(b", ")?;
    let day = text.number(2)?;
    text.expect(b"-")?;
    let month = text.month()?;
    text.expect(b"-")?;
    let two_digits = text.number(2)?;
    text.expect(b" ")?;
    let second = text.time()?;
    text.expect_gmt()?;
    let (this_year, _, _) = civil(now_unix.clamp(0, 253_402_300_799).div_euclid(DAY_S));
    let mut year = this_year - this_year % 100 + two_digits;
    if year > this_year + 50 {
        year -= 100;
    }
    unix(year, month, day, second)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &[u8]) -> Option<i64> {
    let mut text = Cursor(text);
    text.weekday()?;
    text.expect(b" ")?;
    let month = text.month()?;
    text.expect(b" ")?;
    let day = if text.expect(b" ").is_some() { text.number(1)? } else { text.number(2)? };
    text.expect(b" ")?;
    let second = text.time()?;
    text.expect(b" ")?;
    let year = text.number(4)?;
    text.expect_end()?;
    unix(year, month, day, second)
}

/// Unix seconds of a civil date, if there is such a day. A leap second counts as the second before it.
fn unix(year: i64, month: i64, day: i64, second: i64) -> Option<i64> {
    let days = days_from_civil(year, month, day);
    (day >= 1 && civil(days) == (year, month, day)).then_some(days * DAY_S + second)
}

/// Days since the epoch (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day since the epoch; the inverse of [`days_from_civil`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// What is left of a date's text.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn expect(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn expect_end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    fn expect_gmt(&mut self) -> Option<()> {
        self.0.eq_ignore_ascii_case(b" GMT").then_some(())
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number
            .iter()
            .try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
    }

    fn name(&mut self) -> Option<[u8; 3]> {
        let (name, rest) = self.0.split_first_chunk::<3>()?;
        self.0 = rest;
        Some(*name)
    }

    fn weekday(&mut self) -> Option<()> {
        let name = self.name()?;
        WEEKDAYS.iter().any(|day| day.as_bytes().eq_ignore_ascii_case(&name)).then_some(())
    }

    fn month(&mut self) -> Option<i64> {
        let name = self.name()?;
        let at = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(&name))?;
        i64::try_from(at + 1).ok()
    }

    /// `08:49:37` as the second of the day.
    fn time(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.expect(b":")?;
        let minute = self.number(2)?;
        self.expect(b":")?;
        let second = self.number(2)?;
        (hour <= 23 && minute <= 59 && second <= 60).then_some(hour * 3600 + minute * 60 + second.min(59))
    }
}

#[cfg(test)]
mod tests;
