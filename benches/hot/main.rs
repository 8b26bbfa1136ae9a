//! In-process benches of the functions that every request runs through, over the public surface of the library.
//! How to run and read them: benches/README.md. What a whole proxy costs is measured in `benches/peers`.
//!
//! A bench that could measure something else unnoticed, such as a miss in place of a hit, asserts before the clock starts
//! that it does not. `cargo test --all-targets` runs every one a single time, so it finds those that no longer hold.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench stops where its setup cannot go on")]

mod cache;
mod classify;
mod http1;
mod plane;
mod rfc9111;
mod samples;
mod telemetry;

/// Samples of each bench, unless the command line says otherwise. All of them together take seconds.
const SAMPLES: u32 = 1000;

/// Calls within a sample: many enough for the timer's 20 ns not to show in 20 ns, few enough for the inputs, which are made
/// before the clock starts, to stay in the processor's cache.
const BATCH: u32 = 64;

fn main() {
    divan::Divan::default().sample_count(SAMPLES).config_with_args().main();
}
