//! One fetch at a time: of the requests that miss the same key at once, one leads and the others wait for what it
//! brings. This holds who leads and who waits; it fetches nothing and spawns nothing.
//!
//! A leader that goes away without a word (its request was cancelled, its fetch failed, its task panicked) frees its
//! followers at once: one of them leads, and if that one goes away too, all of them go on their own. So a bad answer
//! costs two fetches in a row at most, never one after the other for a thousand waiters.
//!
//! Locks are taken in one order, table before call, and never held across an await.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    entry::Entry,
    key::{Key, KeyHash},
    redis::Lease,
};

/// Leaders one flight may have, one after the other.
const MAX_LEADS: u8 = 2;

/// Places kept in the table while nothing flies.
const IDLE_CAPACITY: usize = 1024;

/// The fetches under way in this process. A clone is another handle to the same flights.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    shared: Arc<Shared>,
}

/// The part of a request in the fetch of a key.
#[derive(Debug)]
pub(super) enum Seat {
    /// This request fetches; others may wait for it.
    Lead(Lead),
    /// Another request fetches.
    Follow(Waiter),
    /// Too many wait already: fetch without sharing.
    Full,
}

/// What a follower's wait ends with.
#[derive(Debug)]
pub enum Landed {
    /// The leader stored this.
    Entry(Arc<Entry>),
    /// The leader went away and this request takes its place.
    Lead(Lead),
    /// The answer cannot be shared, or two leaders went away: fetch without sharing.
    Go,
}

/// The duty to fetch. Dropping it without a word frees the followers as a failure does.
#[derive(Debug)]
#[must_use = "dropping a lead at once makes its followers fetch"]
pub struct Lead {
    shared: Arc<Shared>,
    call: Arc<Call>,
    key: Key,
    is_over: bool,
    /// The same duty towards other replicas.
    lease: Option<Lease>,
}

/// A place in the queue behind a leader. Dropping it, waited on or not, gives the place back.
#[derive(Debug)]
pub struct Waiter {
    shared: Arc<Shared>,
    call: Arc<Call>,
    key: Key,
    is_counted: bool,
}

#[derive(Debug)]
struct Shared {
    calls: Mutex<HashMap<Key, Arc<Call>, KeyHash>>,
    max_followers: usize,
    waiting: AtomicUsize,
}

/// One flight. It is in the table as long as its phase is not `Landed`.
#[derive(Debug)]
struct Call {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    followers: usize,
    leads: u8,
}

#[derive(Debug)]
enum Phase {
    /// Somebody fetches.
    Flying,
    /// The leader went away and nobody has taken its place yet.
    Vacant,
    /// It is over. None: nothing to share.
    Landed(Option<Arc<Entry>>),
}

impl Flight {
    /// No flights yet; `max_followers` may wait in each.
    #[must_use]
    pub(super) fn new(max_followers: usize) -> Self {
        let calls = Mutex::new(HashMap::with_hasher(KeyHash::default()));
        Self { shared: Arc::new(Shared { calls, max_followers, waiting: AtomicUsize::new(0) }) }
    }

    /// Takes a seat in the fetch of a key.
    #[must_use]
    pub(super) fn join(&self, key: &Key) -> Seat {
        let mut calls = self.shared.calls.lock();
        if let Some(call) = calls.get(key) {
            let mut state = call.state.lock();
            match state.phase {
                Phase::Flying if state.followers >= self.shared.max_followers => return Seat::Full,
                Phase::Flying => {
                    state.followers += 1;
                    self.shared.waiting.fetch_add(1, Ordering::Relaxed);
                    let (shared, call, key) = (Arc::clone(&self.shared), Arc::clone(call), key.clone());
                    return Seat::Follow(Waiter { shared, call, key, is_counted: true });
                }
                Phase::Vacant => return Seat::Lead(state.take_lead(&self.shared, call, key)),
                Phase::Landed(_) => {}
            }
        }
        let call = Arc::new(Call {
            state: Mutex::new(State { phase: Phase::Flying, followers: 0, leads: 1 }),
            wake: Notify::new(),
        });
        calls.insert(key.clone(), Arc::clone(&call));
        Seat::Lead(Lead {
            shared: Arc::clone(&self.shared),
            call,
            key: key.clone(),
            is_over: false,
            lease: None,
        })
    }

    /// Requests that wait now.
    #[must_use]
    pub(super) fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Fetches under way now.
    #[must_use]
    pub(super) fn flying(&self) -> usize {
        self.shared.calls.lock().len()
    }
}

impl Lead {
    /// The key that is fetched.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Takes on the duty towards other replicas too; it ends with this one.
    pub(super) fn hold(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Hands the stored answer to all followers.
    pub fn publish(mut self, entry: Arc<Entry>) {
        self.land(Some(entry));
    }

    /// Nothing can be shared: lets all followers go at once, in parallel.
    pub fn release(mut self) {
        self.land(None);
    }

    fn land(&mut self, result: Option<Arc<Entry>>) {
        self.is_over = true;
        let mut calls = self.shared.calls.lock();
        self.call.state.lock().phase = Phase::Landed(result);
        Shared::forget(&mut calls, &self.key, &self.call);
        drop(calls);
        self.call.wake.notify_waiters();
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut calls = self.shared.calls.lock();
        let mut state = self.call.state.lock();
        if state.leads < MAX_LEADS && state.followers > 0 {
            state.phase = Phase::Vacant;
        } else {
            state.phase = Phase::Landed(None);
            Shared::forget(&mut calls, &self.key, &self.call);
        }
        drop(state);
        drop(calls);
        self.call.wake.notify_waiters();
    }
}

impl Waiter {
    /// Waits until the flight lands or this request has to lead. The caller sets the deadline. Dropping the future is
    /// safe: it may be called again, or the waiter dropped.
    pub async fn landed(&mut self) -> Landed {
        let call = Arc::clone(&self.call);
        loop {
            let mut woken = pin!(call.wake.notified());
            // Registered before the look at the phase, so that no change between the two is missed.
            woken.as_mut().enable();
            if let Some(landed) = self.look() {
                return landed;
            }
            woken.await;
        }
    }

    fn look(&mut self) -> Option<Landed> {
        let call = Arc::clone(&self.call);
        let mut state = call.state.lock();
        let landed = match &state.phase {
            Phase::Flying => return None,
            Phase::Landed(Some(entry)) => Landed::Entry(Arc::clone(entry)),
            Phase::Landed(None) => Landed::Go,
            Phase::Vacant => Landed::Lead(state.take_lead(&self.shared, &call, &self.key)),
        };
        if std::mem::take(&mut self.is_counted) {
            self.shared.left(&mut state);
        }
        Some(landed)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let mut calls = self.shared.calls.lock();
        let mut state = self.call.state.lock();
        self.shared.left(&mut state);
        // The last follower leaves before anybody has taken over: nobody will, so the flight ends here.
        if state.followers == 0 && matches!(state.phase, Phase::Vacant) {
            state.phase = Phase::Landed(None);
            Shared::forget(&mut calls, &self.key, &self.call);
        }
    }
}

impl State {
    fn take_lead(&mut self, shared: &Arc<Shared>, call: &Arc<Call>, key: &Key) -> Lead {
        self.phase = Phase::Flying;
        self.leads = self.leads.saturating_add(1);
        Lead {
            shared: Arc::clone(shared),
            call: Arc::clone(call),
            key: key.clone(),
            is_over: false,
            lease: None,
        }
    }
}

impl Shared {
    /// A follower gives its place back.
    fn left(&self, state: &mut State) {
        state.followers = state.followers.saturating_sub(1);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a flight out of the table, unless a later one for the same key stands there.
    fn forget(calls: &mut HashMap<Key, Arc<Call>, KeyHash>, key: &Key, call: &Arc<Call>) {
        if calls.get(key).is_some_and(|known| Arc::ptr_eq(known, call)) {
            calls.remove(key);
        }
        // The table grows with a burst of distinct keys; an idle process gives that back.
        if calls.is_empty() && calls.capacity() > IDLE_CAPACITY {
            calls.shrink_to(IDLE_CAPACITY);
        }
    }
}

#[cfg(test)]
mod tests;
