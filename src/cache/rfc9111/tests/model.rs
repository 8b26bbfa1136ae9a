//! A second, naive reading of the standard, with which the decisions are compared on random answers and
//! requests. It knows no fields, only what they say, and computes in whole seconds at the moment of the
//! request.

use proptest::{
    option,
    prelude::{Strategy, any},
    prop_assert_eq, proptest,
};

use super::fixture::{self, NOW_MS, default, store_plain};
use crate::{
    cache::rfc9111::{Failure, Reuse, may_reuse, may_serve_on_failure},
    telemetry::record::Reason,
};

/// What an answer says.
#[derive(Clone, Debug)]
struct Answer {
    s_maxage: Option<i64>,
    max_age: Option<i64>,
    expires: Option<i64>,
    date: i64,
    age: i64,
    swr: Option<i64>,
    sie: Option<i64>,
    has_etag: bool,
    must_revalidate: bool,
    no_cache: bool,
}

/// What a request says.
#[derive(Clone, Debug)]
struct Asked {
    no_cache: bool,
    max_age: Option<i64>,
    min_fresh: Option<i64>,
    max_stale: Option<i64>,
    only_if_cached: bool,
}

impl Answer {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut control = Vec::new();
        let numbers = [
            ("s-maxage", self.s_maxage),
            ("max-age", self.max_age),
            ("stale-while-revalidate", self.swr),
            ("stale-if-error", self.sie),
        ];
        control.extend(numbers.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))));
        control.extend(self.must_revalidate.then(|| "must-revalidate".to_owned()));
        control.extend(self.no_cache.then(|| "no-cache".to_owned()));
        let mut lines = vec![("date", format!("@{}", self.date)), ("age", self.age.to_string())];
        lines.push(("cache-control", control.join(", ")));
        lines.extend(self.expires.map(|expires| ("expires", format!("@{expires}"))));
        lines.extend(self.has_etag.then(|| ("etag", "\"a\"".to_owned())));
        lines
    }

    fn lifetime(&self) -> Option<i64> {
        let expires = self.expires.map(|expires| (expires - self.date).max(0));
        self.s_maxage.or(self.max_age).or(expires)
    }

    /// Seconds of age when `after` seconds have passed.
    fn age_after(&self, after: i64) -> i64 {
        self.age.max(-self.date).max(0) + after
    }

    /// Seconds since expiry; 0 is the first stale one.
    fn stale_for(&self, after: i64) -> i64 {
        self.age_after(after) - self.lifetime().unwrap_or(0)
    }

    fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.no_cache
    }

    fn is_disconnect_allowed(&self) -> bool {
        !self.forbids_stale() && self.s_maxage.is_none() && self.lifetime() > Some(0)
    }

    /// How long after expiry it is good for anything without being validated.
    fn window(&self) -> i64 {
        let stated = if self.forbids_stale() { 0 } else { self.swr.max(self.sie).unwrap_or(0) };
        if self.is_disconnect_allowed() { stated.max(3600) } else { stated }
    }

    fn is_stored(&self) -> bool {
        let says_something = self.lifetime().is_some() || self.no_cache || self.swr.max(self.sie) > Some(0);
        let is_validated_only = self.no_cache && !self.has_etag;
        says_something && !is_validated_only && (self.has_etag || self.stale_for(0) < self.window())
    }

    fn verdict(&self, asked: &Asked, after: i64) -> Reuse {
        let (age, stale_for) = (self.age_after(after), self.stale_for(after));
        let is_refused = asked.no_cache
            || asked.max_age.is_some_and(|max| max == 0 || age > max)
            || asked.min_fresh.is_some_and(|min| -stale_for < min);
        let verdict = if is_refused {
            Reuse::Validate(Reason::ClientNoCache)
        } else if self.no_cache {
            Reuse::Validate(Reason::NoCache)
        } else if stale_for < 0 {
            Reuse::Fresh
        } else if !self.forbids_stale() && stale_for < self.swr.unwrap_or(0) {
            Reuse::Stale(Reason::Swr)
        } else if self.is_disconnect_allowed() && stale_for < asked.max_stale.unwrap_or(0) {
            Reuse::Stale(Reason::MaxStale)
        } else {
            Reuse::Validate(Reason::Expired)
        };
        match verdict {
            Reuse::Validate(_) if asked.only_if_cached => Reuse::OnlyIfCached,
            verdict => verdict,
        }
    }

    fn after_disconnect(&self, after: i64) -> Option<Reason> {
        let stale_for = self.stale_for(after);
        if self.no_cache {
            None
        } else if !self.forbids_stale() && self.sie > Some(0) && stale_for < self.sie.unwrap_or(0) {
            Some(Reason::Sie)
        } else if stale_for < 0 || (self.is_disconnect_allowed() && stale_for < 3600) {
            Some(Reason::Disconnect)
        } else {
            None
        }
    }
}

impl Asked {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let numbers =
            [("max-age", self.max_age), ("min-fresh", self.min_fresh), ("max-stale", self.max_stale)];
        let flags = [("no-cache", self.no_cache), ("only-if-cached", self.only_if_cached)];
        let numbers = numbers.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?)));
        let flags = flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (*name).to_owned());
        numbers.chain(flags).map(|directive| ("cache-control", directive)).collect()
    }
}

/// Small numbers, so that borders are met.
fn seconds() -> impl Strategy<Value = Option<i64>> {
    option::of(0..6_i64)
}

fn answer() -> impl Strategy<Value = Answer> {
    let numbers = (seconds(), seconds(), option::of(-5..6_i64), -5..5_i64, 0..6_i64, seconds(), seconds());
    (numbers, any::<[bool; 5]>()).prop_map(
        |(numbers, [has_etag, strict, also_strict, no_cache, also_no_cache])| {
            let (s_maxage, max_age, expires, date, age, swr, sie) = numbers;
            let (must_revalidate, no_cache) = (strict && also_strict, no_cache && also_no_cache);
            Answer { s_maxage, max_age, expires, date, age, swr, sie, has_etag, must_revalidate, no_cache }
        },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let numbers = (seconds(), seconds(), seconds());
    (numbers, any::<[bool; 4]>()).prop_map(
        |((max_age, min_fresh, max_stale), [one, two, is_modest, only_if_cached])| {
            // Most requests ask for little, or every verdict would be the client's.
            let some = |number: Option<i64>| number.filter(|_| is_modest);
            Asked {
                no_cache: one && two,
                max_age: some(max_age),
                min_fresh: some(min_fresh),
                max_stale,
                only_if_cached,
            }
        },
    )
}

fn borrowed<'a>(lines: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    lines.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

proptest! {
    #[test]
    fn the_decisions_agree_with_a_naive_reading(answer in answer(), asked in asked(), after in 0..12_u32) {
        let (answer_lines, asked_lines) = (answer.lines(), asked.lines());
        let stored = store_plain(&borrowed(&answer_lines), &default());

        prop_assert_eq!(stored.is_ok(), answer.is_stored(), "{:?}", stored);
        let Ok(storable) = stored else { return Ok(()) };
        let now_ms = NOW_MS + u64::from(after) * 1000;
        let request = fixture::headers(&borrowed(&asked_lines));
        let after = i64::from(after);
        let verdict = may_reuse(&fixture::get(&request), &storable.meta, now_ms, &default());
        prop_assert_eq!(verdict, answer.verdict(&asked, after));
        let cut_off = may_serve_on_failure(&storable.meta, now_ms, Failure::Disconnect);
        prop_assert_eq!(cut_off, answer.after_disconnect(after));
        prop_assert_eq!(i64::try_from(storable.meta.age_s(now_ms)).unwrap(), answer.age_after(after));
    }
}
