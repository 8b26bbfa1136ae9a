//! Whole frames against `tests/golden/live`, and the commands against a listener in this process.
//!
//! `UPDATE_GOLDEN=1 cargo test --lib cli::live` rewrites the frames, to be read in review.

mod frames;
pub(super) mod served;
