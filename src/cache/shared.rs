//! What other planes keep in the tier that replicas share, over the connections that the cache has already: sums, states,
//! and notes for the next process. None of it has to do with answers. Without a tier, and while it is not there, all of it
//! says so at once.

use std::time::Duration;

use super::{
    redis::{HeldNote, OpenedNote, RedisTier},
    store::Cache,
};

impl Cache {
    /// Adds to a sum that replicas share, which ends by itself after `life`, and returns the new one; `None` when there is
    /// no answer in time. What was added then is not lost: the next time brings it too.
    pub async fn add_to_sum(&self, name: &str, amount: i64, life: Duration) -> Option<i64> {
        self.tier()?.add_to_sum(name, amount, life).await
    }

    /// The states that replicas share under names with one tag, in their order; a missing one is empty. `None` when there is
    /// no answer in time.
    pub async fn read_states(&self, tag: &str, names: &[String]) -> Option<Vec<Vec<u8>>> {
        self.tier()?.read_states(tag, names).await
    }

    /// Writes a state that replicas share, which ends by itself after `life`. False: it was not written.
    pub async fn write_state(&self, tag: &str, name: &str, value: &[u8], life: Duration) -> bool {
        let Some(tier) = self.tier() else { return false };
        tier.write_state(tag, name, value, life).await.is_ok()
    }

    /// Takes the name of a note and reads what the last process of this name left there; `None` without an answer.
    pub async fn open_note(&self, name: &str) -> Option<OpenedNote> {
        self.tier()?.open_note(name).await.ok()
    }

    /// Holds the name of a note for longer, and gives the note another `life`; `None` without an answer.
    pub async fn hold_note(&self, name: &str, life: Duration) -> Option<HeldNote> {
        self.tier()?.hold_note(name, life).await.ok()
    }

    /// Writes a note under a name that is held. False: it was not written.
    pub async fn write_note(&self, name: &str, value: &[u8], life: Duration) -> bool {
        let Some(tier) = self.tier() else { return false };
        tier.write_note(name, value, life).await.is_ok()
    }

    /// Takes a name for `life`, or holds it for longer. False: another process has it. `None` without an answer.
    pub async fn hold_name(&self, name: &str, life: Duration) -> Option<bool> {
        self.tier()?.hold_name(name, life).await.ok()
    }

    /// Gives the name of a note, or one that is only held, back, so that the next process does not wait for it.
    pub async fn leave_note(&self, name: &str) {
        if let Some(tier) = self.tier() {
            // Without an answer the name is free a few seconds later.
            let _ = tier.leave_note(name).await;
        }
    }

    fn tier(&self) -> Option<&RedisTier> {
        self.replicas.as_ref().map(|replicas| &*replicas.tier)
    }
}
