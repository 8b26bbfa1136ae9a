//! Values as they are written and read, and what is done to them on the way.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::{Answer, Frame, HEAD, Keys, Now, Refused, Value, Varying};
use crate::{
    cache::{
        entry::{Entry, NewEntry},
        key::KeyMaker,
        redis::position::MarkId,
        rfc9111::{Languages, Selection},
        samples::{answer, key},
        tags::Tag,
    },
    telemetry::ValueFault,
};

const KNOWN: MarkId = MarkId { ms: 17, seq: 3 };
const THEN: Now = Now { ms: 50_000, unix_ms: 1_700_000_000_000 };

fn entry(body: &[u8]) -> Entry {
    let mut new = answer(&key(&KeyMaker::default(), "/a"), 1);
    new.headers = HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
        (header::LINK, HeaderValue::from_bytes(b"<\xff>").unwrap()),
    ]);
    new.headers.append(header::LINK, HeaderValue::from_static("<2>"));
    new.tags = vec![Tag::new("one"), Tag::new("zwei ü")];
    new.body = Bytes::copy_from_slice(body);
    Entry::new(NewEntry { status: StatusCode::NOT_FOUND, fetch_ms: 9, ..new })
}

fn value(keys: &Keys, entry: &Entry) -> Vec<u8> {
    keys.answer(entry, b"the key", &Frame::answer(KNOWN, THEN, false))
}

fn read(keys: &Keys, value: &[u8], now: Now) -> Result<Answer, Refused> {
    keys.read(value, b"the key", now).map(|value| match value {
        Value::Answer(answer) => *answer,
        Value::Names(names) => panic!("{names:?}"),
    })
}

#[test]
fn an_answer_comes_back_as_it_was_older_by_the_time_between() {
    let entry = entry(b"hello");
    // Another process: its monotonic clock stands elsewhere.
    let later = Now { ms: 1_000, unix_ms: THEN.unix_ms + 2_500 };
    for secret in [None, Some(b"secret".as_slice())] {
        let keys = Keys::new(secret);

        let back = read(&keys, &value(&keys, &entry), later).unwrap();

        assert_eq!(back.status, entry.status());
        assert_eq!(back.headers, *entry.headers());
        assert_eq!(back.body, *entry.body());
        assert_eq!(back.tags, entry.tags());
        assert_eq!(back.route.as_deref(), entry.route());
        assert_eq!((back.fetch_ms, back.known), (9, KNOWN));
        let moved = i64::try_from(THEN.ms).unwrap() - (1_000 - 2_500);
        let meta = entry.meta();
        assert_eq!(back.meta.born_ms, meta.born_ms - moved);
        assert_eq!(back.meta.expires_ms, meta.expires_ms - moved);
        assert_eq!((back.meta.date, back.meta.last_modified), (meta.date, meta.last_modified));
        assert_eq!((back.meta.swr_ms, back.meta.source), (meta.swr_ms, meta.source));
    }
}

#[test]
fn what_answers_vary_by_comes_back() {
    let keys = Keys::new(None);
    let languages = Languages::new(&["en".to_owned(), "de".to_owned()]);
    let names = [header::ACCEPT_LANGUAGE, HeaderName::from_static("x-tenant")];
    let selection = Selection::rebuilt(&names, languages.as_ref(), &HeaderMap::new(), &HeaderMap::new());

    let value = keys.names(&selection, b"the key", THEN);

    let Ok(Value::Names(back)) = keys.read(&value, b"the key", THEN) else { panic!("no names") };
    assert_eq!(back, Varying { names: names.to_vec(), languages });
}

#[test]
fn what_is_not_to_be_believed_is_named() {
    let keys = Keys::new(Some(b"secret"));
    let good = value(&keys, &entry(b"hello"));
    let fault = |value: &[u8], key: &[u8], now| keys.read(value, key, now).unwrap_err();

    assert_eq!(fault(b"", b"the key", THEN), Refused::Fault(ValueFault::Magic));
    assert_eq!(fault(&good[1..], b"the key", THEN), Refused::Fault(ValueFault::Magic));
    assert_eq!(fault(&good, b"another key", THEN), Refused::Fault(ValueFault::Key));
    assert_eq!(fault(&good[..good.len() - 1], b"the key", THEN), Refused::Fault(ValueFault::Checksum));
    let past = Now { unix_ms: THEN.unix_ms - 5_001, ..THEN };
    assert_eq!(fault(&good, b"the key", past), Refused::Fault(ValueFault::Skew));
    let mut newer = good.clone();
    newer[4] += 1;
    assert_eq!(fault(&newer, b"the key", THEN), Refused::Version);
    for other in [Keys::new(None), Keys::new(Some(b"guess"))] {
        let forged = value(&other, &entry(b"forged"));
        assert_eq!(fault(&forged, b"the key", THEN), Refused::Fault(ValueFault::Checksum));
    }
}

#[test]
fn a_sealed_answer_shows_nothing_and_opens_only_with_its_key() {
    let keys = Keys::new(Some(b"secret"));
    let entry = entry(b"for one person alone");

    let sealed = keys.answer(&entry, b"the key", &Frame::answer(KNOWN, THEN, true));

    assert!(!sealed.windows(8).any(|window| window == b"for one " || window == b"text/pla"));
    assert_eq!(read(&keys, &sealed, THEN).unwrap().body, *entry.body());
    let again = keys.answer(&entry, b"the key", &Frame::answer(KNOWN, THEN, true));
    assert_ne!(sealed, again, "each has a nonce of its own");
    assert!(keys.read(&sealed, b"another", THEN).is_err());
}

#[test]
fn without_a_secret_nothing_is_stored_that_was_to_be_sealed() {
    let keys = Keys::new(None);

    let value = keys.answer(&entry(b"for one person alone"), b"the key", &Frame::answer(KNOWN, THEN, true));

    assert!(!value.windows(8).any(|window| window == b"for one "));
    assert!(keys.read(&value, b"the key", THEN).is_err());
}

proptest! {
    #[test]
    fn no_flipped_bit_is_ever_believed(
        body in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        is_keyed in any::<bool>(),
        is_sealed in any::<bool>(),
    ) {
        let keys = Keys::new(is_keyed.then_some(b"secret"));
        let entry = entry(&body);
        let mut value = keys.answer(&entry, b"the key", &Frame::answer(KNOWN, THEN, is_sealed && is_keyed));
        let at = at.index(value.len());
        value[at] ^= 1 << bit;

        prop_assert!(keys.read(&value, b"the key", THEN).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_cut_ones_too(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        cut in any::<prop::sample::Index>(),
    ) {
        let keys = Keys::new(None);
        prop_assert!(keys.read(&bytes, b"the key", THEN).is_err());
        let whole = value(&keys, &entry(&bytes));
        prop_assert!(keys.read(&whole[..cut.index(whole.len())], b"the key", THEN).is_err());
        let longer = [whole.as_slice(), b"x"].concat();
        prop_assert!(keys.read(&longer, b"the key", THEN).is_err());
        prop_assert_eq!(read(&keys, &whole, THEN).unwrap().body, bytes);
    }

    #[test]
    fn lengths_that_lie_are_refused_even_with_a_right_checksum(
        at in 4..HEAD,
        byte in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        // Whoever shares a Redis without a secret can make right checksums.
        let keys = Keys::new(None);
        let mut value = value(&keys, &entry(&body));
        value[at] = byte;
        let end = value.len() - 16;
        let sum = keys.sum(&value[..end]);
        value[end..].copy_from_slice(&sum);

        // It may be read or not; it must not panic, and never give more than was there.
        if let Ok(answer) = keys.read(&value, b"the key", THEN)
            && let Value::Answer(answer) = answer
        {
            prop_assert!(answer.body.len() <= value.len());
        }
    }
}

#[test]
fn a_head_that_no_answer_has_is_refused_and_nothing_panics() {
    let keys = Keys::new(None);
    let of = |status: u16, fields: u16| {
        let mut rest = status.to_be_bytes().to_vec();
        rest.extend_from_slice(&[0; 7 * 8 + 4]);
        // Nothing that it varies by, no route, no tags.
        rest.extend_from_slice(&[0; 2 + 2 + 4 + 2]);
        rest.extend_from_slice(&fields.to_be_bytes());
        for field in 0..fields {
            let name = format!("x-{field}");
            rest.extend_from_slice(&u32::try_from(name.len()).unwrap().to_be_bytes());
            rest.extend_from_slice(name.as_bytes());
            rest.extend_from_slice(&[0; 4]);
        }
        let value = keys.finish(Frame::answer(KNOWN, THEN, false), b"the key", rest);
        read(&keys, &value, THEN).map(|answer| answer.headers.len())
    };
    let refused = Err(Refused::Fault(ValueFault::Length));

    assert_eq!(of(200, 100), Ok(100));
    assert_eq!(of(200, u16::MAX), refused, "more than a map holds");
    for status in [100, 103, 206, 304, 99] {
        assert_eq!(of(status, 1), refused, "{status}");
    }
}
