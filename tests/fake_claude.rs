//! Checks the fake Claude API itself: the table of what is refused, the order of events, the arithmetic of the prompt
//! cache, and the faults that it can be asked for.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails where its helpers cannot go on")]

#[path = "support/claude/mod.rs"]
mod claude;

#[path = "fake_claude/answers.rs"]
mod answers;
#[path = "fake_claude/faults.rs"]
mod faults;
#[path = "fake_claude/prompt_cache.rs"]
mod prompt_cache;
#[path = "fake_claude/refusals.rs"]
mod refusals;
#[path = "fake_claude/wire.rs"]
mod wire;
