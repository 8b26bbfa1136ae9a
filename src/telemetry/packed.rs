//! Counts by bucket in little memory: for each bucket that holds any, the distance from the last one and the count, both
//! as variable-length numbers of seven bits a byte. Most buckets of a slot cost two bytes.

/// Packed counts. Empty takes no allocation.
#[derive(Debug, Default)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    /// Packs the counts of buckets 0, 1, 2 and so on.
    pub(super) fn new(counts: &[u32]) -> Self {
        let mut bytes = Vec::new();
        let mut gap = 0;
        for count in counts {
            if *count == 0 {
                gap += 1;
            } else {
                write(&mut bytes, gap);
                write(&mut bytes, *count);
                gap = 0;
            }
        }
        Self(bytes.into_boxed_slice())
    }

    /// Adds the counts to those of `buckets`.
    pub(super) fn add_to(&self, buckets: &mut [u32]) {
        let mut rest = &*self.0;
        let mut buckets = buckets.iter_mut();
        while let (Some(gap), Some(count)) = (read(&mut rest), read(&mut rest)) {
            let Some(bucket) = buckets.nth(gap as usize) else { return };
            *bucket = bucket.saturating_add(count);
        }
    }
}

fn write(bytes: &mut Vec<u8>, mut value: u32) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn read(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, prop_oneof, proptest};

    use super::Packed;

    proptest! {
        #[test]
        fn counts_come_back_as_they_were(
            counts in prop::collection::vec(prop_oneof![0..1_u32, 0..200_u32, any::<u32>()], 0..832)
        ) {
            let mut found = vec![0; counts.len()];

            Packed::new(&counts).add_to(&mut found);

            prop_assert_eq!(found, counts);
        }
    }

    #[test]
    fn an_empty_slot_takes_no_bytes_and_a_common_bucket_two() {
        assert_eq!(Packed::new(&[0; 832]).0.len(), 0);
        assert_eq!(Packed::new(&[0, 0, 100, 7, 0, 1]).0.len(), 6);
    }
}
