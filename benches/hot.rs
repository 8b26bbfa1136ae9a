//! In-process benches.
fn main() {
    divan::main();
}
