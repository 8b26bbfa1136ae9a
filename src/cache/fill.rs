//! Copies of bodies in the making. A copy never holds up the answer it is taken from: when it grows too large, or
//! all copies together do, it is dropped and the client notices nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use super::to_u64;
use crate::telemetry::record::Reason;

/// Room is taken from the budget in steps of this many bytes while the length is not known.
const STEP: u64 = 16 * 1024;

/// The memory that all copies in the making share. A clone is another handle to the same budget.
#[derive(Clone, Debug)]
pub(super) struct FillBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max_bytes: u64,
    max_fills: u64,
    bytes: AtomicU64,
    fills: AtomicU64,
}

/// A copy in the making. Dropping it gives its room back.
#[derive(Debug)]
pub struct Fill {
    shared: Arc<Shared>,
    copy: Vec<u8>,
    max_body: u64,
    taken: u64,
}

impl FillBudget {
    /// Room for so many bytes in so many copies.
    #[must_use]
    pub(super) fn new(max_bytes: u64, max_fills: u64) -> Self {
        let shared = Shared { max_bytes, max_fills, bytes: AtomicU64::new(0), fills: AtomicU64::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Begins a copy of a body of at most `max_body` bytes; `length` if the answer declares one.
    pub(super) fn begin(&self, max_body: u64, length: Option<u64>) -> Result<Fill, Reason> {
        if length.is_some_and(|length| length > max_body) {
            return Err(Reason::TooLarge);
        }
        if !add_within(&self.shared.fills, 1, self.shared.max_fills) {
            return Err(Reason::FillLimit);
        }
        let mut fill = Fill { shared: Arc::clone(&self.shared), copy: Vec::new(), max_body, taken: 0 };
        if let Some(length) = length {
            fill.take(length)?;
            fill.copy.reserve_exact(usize::try_from(length).unwrap_or(0));
        }
        Ok(fill)
    }

    /// Copies in the making now.
    #[must_use]
    pub(super) fn fills(&self) -> u64 {
        self.shared.fills.load(Ordering::Relaxed)
    }

    /// Bytes they hold.
    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Fill {
    /// Adds the next part of the body. An error says why there will be no copy; drop it then.
    pub fn push(&mut self, data: &[u8]) -> Result<(), Reason> {
        let size = to_u64(self.copy.len()).saturating_add(to_u64(data.len()));
        if size > self.max_body {
            return Err(Reason::TooLarge);
        }
        if size > self.taken {
            // As the buffer doubles, so does the room taken for it.
            let wanted = size.max(self.taken.saturating_mul(2)).next_multiple_of(STEP).min(self.max_body);
            self.take(wanted - self.taken)?;
            self.copy.reserve_exact(usize::try_from(wanted).unwrap_or(0).saturating_sub(self.copy.len()));
        }
        self.copy.extend_from_slice(data);
        Ok(())
    }

    /// The whole body, in memory of its exact size.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.copy).into_boxed_slice())
    }

    /// Bytes copied so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        to_u64(self.copy.len())
    }

    fn take(&mut self, bytes: u64) -> Result<(), Reason> {
        if !add_within(&self.shared.bytes, bytes, self.shared.max_bytes) {
            return Err(Reason::FillLimit);
        }
        self.taken += bytes;
        Ok(())
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.taken, Ordering::Relaxed);
        self.shared.fills.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds to a counter unless that takes it over its bound.
fn add_within(counter: &AtomicU64, amount: u64, bound: u64) -> bool {
    let add = |now: u64| now.checked_add(amount).filter(|sum| *sum <= bound);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

#[cfg(test)]
mod tests {
    use super::FillBudget;
    use crate::telemetry::record::Reason;

    #[test]
    fn copies_a_body_into_memory_of_its_size_and_gives_the_room_back() {
        let budget = FillBudget::new(100_000, 2);
        let mut known = budget.begin(1_000, Some(6)).unwrap();
        let mut unknown = budget.begin(50_000, None).unwrap();

        known.push(b"abc").unwrap();
        known.push(b"def").unwrap();
        unknown.push(&[7; 20_000]).unwrap();

        assert_eq!((budget.fills(), budget.bytes()), (2, 6 + 32_768));
        assert_eq!(known.finish(), "abcdef");
        assert_eq!(unknown.finish(), vec![7; 20_000]);
        assert_eq!((budget.fills(), budget.bytes()), (0, 0));
    }

    #[test]
    fn refuses_what_is_too_large_or_over_the_budget() {
        let budget = FillBudget::new(40_000, 2);
        assert_eq!(budget.begin(10, Some(11)).unwrap_err(), Reason::TooLarge);
        assert_eq!(budget.begin(100_000, Some(40_001)).unwrap_err(), Reason::FillLimit);
        assert_eq!((budget.fills(), budget.bytes()), (0, 0));

        let mut one = budget.begin(10, None).unwrap();
        let mut two = budget.begin(100_000, None).unwrap();

        assert_eq!(budget.begin(10, None).unwrap_err(), Reason::FillLimit);
        assert_eq!(one.push(&[0; 11]), Err(Reason::TooLarge));
        two.push(&[0; 16_000]).unwrap();
        assert_eq!(two.push(&[0; 40_000]), Err(Reason::FillLimit));
        drop((one, two));
        assert_eq!((budget.fills(), budget.bytes()), (0, 0));
    }

    #[test]
    fn a_body_of_just_the_allowed_size_fits() {
        let budget = FillBudget::new(1 << 20, 1);
        let mut fill = budget.begin(17_000, None).unwrap();

        for _ in 0..17 {
            fill.push(&[1; 1_000]).unwrap();
        }

        assert_eq!(budget.bytes(), 17_000);
        assert_eq!(fill.size(), 17_000);
        assert_eq!(fill.push(b"x"), Err(Reason::TooLarge));
    }
}
