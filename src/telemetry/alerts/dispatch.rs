//! Who is told what, and when: collects changes, repeats, keeps quiet about what flaps, and remembers who got what.
//! No clock and no I/O: time comes in, messages come out.
//!
//! Webhooks get one message for each rule: everything of it that fires, and what is over since the last one. An
//! Alertmanager gets all that fires every minute, as it forgets what is not repeated, and does the rest by itself. Where
//! replicas share a store, an alert that another pod speaks for counts as told: should that pod leave, this one goes on.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{
    engine::Change,
    notice::{Message, Notice, Status},
};
use crate::config::{AlertSeverity, ReceiverKind};

/// More changes than this within the time make an alert flap, and no more than the other make it calm.
const FLAPS_OVER: usize = 3;
const CALM_AT_MOST: usize = 1;
const FLAP_MS: u64 = 15 * 60_000;
/// How often an Alertmanager hears again of what fires.
pub(super) const REFRESH_MS: u64 = 60_000;

/// What holds for all receivers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) group_wait_ms: u64,
    /// How long an end waits: with replicas for as long as another one needs to say that it still has the alert.
    pub(super) end_wait_ms: u64,
    pub(super) repeat_ms: u64,
}

/// A receiver as far as decisions go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressee {
    pub(super) kind: ReceiverKind,
    pub(super) least: AlertSeverity,
}

/// A moment as the dispatcher sees it.
pub(super) struct Moment<'a> {
    pub(super) now_ms: u64,
    /// What fires and nothing louder mutes.
    pub(super) firing: &'a [Arc<Notice>],
    pub(super) changes: &'a [Change],
    /// Alerts that another replica speaks for.
    pub(super) elsewhere: &'a HashSet<Arc<str>>,
    /// Messages that wait for each receiver.
    pub(super) queued: &'a [usize],
}

/// Decides for all receivers.
#[derive(Debug)]
pub(super) struct Dispatcher {
    terms: Terms,
    desks: Vec<Desk>,
    history: HashMap<Arc<str>, History>,
}

/// What one receiver was told.
#[derive(Debug)]
struct Desk {
    addressee: Addressee,
    /// Alerts that it was told to fire and not yet to be over.
    told: HashSet<Arc<str>>,
    groups: BTreeMap<Arc<str>, Group>,
}

/// The alerts of one rule, or all of them for an Alertmanager.
#[derive(Debug, Default)]
struct Group {
    due_ms: Option<u64>,
    sent_ms: Option<u64>,
    /// What has to be told and does not fire now, and from when on: it is over, or has begun to flap.
    news: Vec<(u64, Arc<Notice>)>,
}

/// The changes of an alert within the last quarter of an hour.
#[derive(Debug, Default)]
struct History {
    changes: VecDeque<u64>,
    is_flapping: bool,
    /// How it was when it last changed, for the time when it is calm again.
    last: Option<Arc<Notice>>,
}

impl Dispatcher {
    pub(super) fn new(terms: Terms, addressees: &[Addressee]) -> Self {
        let desk = |addressee: &Addressee| Desk {
            addressee: *addressee,
            told: HashSet::new(),
            groups: BTreeMap::new(),
        };
        Self { terms, desks: addressees.iter().map(desk).collect(), history: HashMap::new() }
    }

    /// Goes on from where one for other receivers stands. `places` are those that each of its own had there.
    pub(super) fn succeed(&mut self, mut old: Self, places: &[Option<usize>]) {
        for (desk, place) in self.desks.iter_mut().zip(places) {
            if let Some(known) = place.and_then(|place| old.desks.get_mut(place)) {
                desk.told = std::mem::take(&mut known.told);
                desk.groups = std::mem::take(&mut known.groups);
            }
        }
        self.history = old.history;
    }

    /// What is to be told now, with the places of its receivers.
    pub(super) fn tick(&mut self, moment: &Moment<'_>) -> Vec<(usize, Message)> {
        let (started, calmed) = self.note_changes(moment);
        let firing = self.marked(moment.firing);
        let over = moment.changes.iter().filter(|change| !change.is_firing).map(|change| &change.notice);
        let over: Vec<_> = over.filter(|notice| !self.is_flapping(&notice.id)).chain(&calmed).collect();
        let mut messages = Vec::new();
        for (index, desk) in self.desks.iter_mut().enumerate() {
            let queued = moment.queued.get(index).copied().unwrap_or(0);
            let at_desk = AtDesk { moment, terms: self.terms, firing: &firing, started: &started };
            desk.note(&at_desk, &over);
            let due = match desk.addressee.kind {
                ReceiverKind::Alertmanager => desk.refresh(&at_desk, queued).into_iter().collect(),
                ReceiverKind::Slack | ReceiverKind::Webhook => desk.due(&at_desk),
            };
            messages.extend(due.into_iter().map(|message| (index, message)));
        }
        messages
    }

    /// Whether any receiver was told that an alert fires.
    #[cfg(test)]
    fn is_told(&self, id: &Arc<str>) -> bool {
        self.desks.iter().any(|desk| desk.told.contains(id))
    }

    /// The notices with what is known of their flapping.
    pub(super) fn marked(&self, notices: &[Arc<Notice>]) -> Vec<Arc<Notice>> {
        let mark = |notice: &Arc<Notice>| {
            if self.is_flapping(&notice.id) {
                Arc::new(Notice { is_flapping: true, ..(**notice).clone() })
            } else {
                Arc::clone(notice)
            }
        };
        notices.iter().map(mark).collect()
    }

    fn is_flapping(&self, id: &Arc<str>) -> bool {
        self.history.get(id).is_some_and(|history| history.is_flapping)
    }

    /// Notes what changed. Returns what has begun to flap, and what is over although it flapped when it was.
    fn note_changes(&mut self, moment: &Moment<'_>) -> (HashSet<Arc<str>>, Vec<Arc<Notice>>) {
        let now_ms = moment.now_ms;
        let mut started = HashSet::new();
        for change in moment.changes {
            let history = self.history.entry(Arc::clone(&change.notice.id)).or_default();
            history.changes.push_back(now_ms);
            history.last = Some(Arc::clone(&change.notice));
        }
        let mut calmed = Vec::new();
        self.history.retain(|id, history| {
            while history.changes.front().is_some_and(|at| now_ms.saturating_sub(*at) >= FLAP_MS)
                || history.changes.len() > 2 * FLAPS_OVER
            {
                history.changes.pop_front();
            }
            if history.changes.len() > FLAPS_OVER && !history.is_flapping {
                history.is_flapping = true;
                started.insert(Arc::clone(id));
            }
            if history.is_flapping && history.changes.len() <= CALM_AT_MOST {
                history.is_flapping = false;
                calmed.extend(history.last.take().filter(|last| last.is_resolved()));
            }
            history.is_flapping || !history.changes.is_empty()
        });
        (started, calmed)
    }
}

/// What a desk looks at.
struct AtDesk<'a> {
    moment: &'a Moment<'a>,
    terms: Terms,
    firing: &'a [Arc<Notice>],
    /// What has begun to flap just now.
    started: &'a HashSet<Arc<str>>,
}

impl Group {
    fn is_due_by(&mut self, due_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(due_ms, |due| due.min(due_ms)));
    }

    /// Takes the news whose time has come; the group is due again for the others.
    fn take_news(&mut self, now_ms: u64, told: &mut HashSet<Arc<str>>, notices: &mut Vec<Arc<Notice>>) {
        self.due_ms = self.news.iter().map(|(from_ms, _)| *from_ms).filter(|from_ms| *from_ms > now_ms).min();
        for (_, notice) in self.news.extract_if(.., |(from_ms, _)| *from_ms <= now_ms) {
            // What flaps may fire again at once, and is told to be over only when it is calm.
            if !notice.is_flapping {
                told.remove(&notice.id);
            }
            notices.push(notice);
        }
    }
}

impl Desk {
    /// Notes what has to be told, and by when.
    fn note(&mut self, at: &AtDesk<'_>, over: &[&Arc<Notice>]) {
        let due_ms = at.moment.now_ms.saturating_add(at.terms.group_wait_ms);
        let end_ms = at.moment.now_ms.saturating_add(at.terms.end_wait_ms);
        // It groups by itself.
        let is_alertmanager = self.addressee.kind == ReceiverKind::Alertmanager;
        for notice in at.firing.iter().filter(|notice| notice.severity >= self.addressee.least) {
            let group = group_of(self.addressee.kind, &mut self.groups, notice);
            // It is over no longer.
            group.news.retain(|(_, known)| known.id != notice.id);
            let is_new = !self.told.contains(&notice.id) || at.started.contains(&notice.id);
            if is_new && at.moment.elsewhere.contains(&notice.id) {
                self.told.insert(Arc::clone(&notice.id));
            } else if is_new {
                group.is_due_by(if is_alertmanager { at.moment.now_ms } else { due_ms });
            }
        }
        for notice in over.iter().filter(|notice| self.told.contains(&notice.id)) {
            let group = group_of(self.addressee.kind, &mut self.groups, notice);
            group.news.retain(|(_, known)| known.id != notice.id);
            group.news.push((end_ms, Arc::clone(notice)));
            group.is_due_by(end_ms);
        }
        // What began to flap while it was over is told once, too.
        for change in at.moment.changes.iter().filter(|change| at.started.contains(&change.notice.id)) {
            if !change.is_firing && self.told.contains(&change.notice.id) {
                let group = group_of(self.addressee.kind, &mut self.groups, &change.notice);
                // It is open for the receiver until it is calm.
                let notice = (*change.notice).clone();
                let notice = Notice { status: Status::Firing, is_flapping: true, ..notice };
                group.news.push((due_ms, Arc::new(notice)));
                group.is_due_by(due_ms);
            }
        }
    }

    /// The messages of the groups whose time has come.
    fn due(&mut self, at: &AtDesk<'_>) -> Vec<Message> {
        let now_ms = at.moment.now_ms;
        let least = self.addressee.least;
        let mut messages = Vec::new();
        for (rule, group) in &mut self.groups {
            let firing = at.firing.iter().filter(|notice| notice.rule == *rule && notice.severity >= least);
            let mut notices: Vec<_> =
                firing.filter(|notice| !at.moment.elsewhere.contains(&notice.id)).cloned().collect();
            let is_due = group.due_ms.is_some_and(|due| now_ms >= due);
            let repeats = group.sent_ms.is_some_and(|sent| now_ms.saturating_sub(sent) >= at.terms.repeat_ms);
            if !is_due && (!repeats || notices.is_empty()) {
                continue;
            }
            self.told.extend(notices.iter().map(|notice| Arc::clone(&notice.id)));
            group.take_news(now_ms, &mut self.told, &mut notices);
            if !notices.is_empty() {
                group.sent_ms = Some(now_ms);
                messages.push(Message { rule: Some(Arc::clone(rule)), notices });
            }
        }
        let told = &self.told;
        let is_alive = |rule: &Arc<str>| at.firing.iter().any(|notice| notice.rule == *rule);
        self.groups.retain(|rule, group| {
            group.due_ms.is_some() || !group.news.is_empty() || is_alive(rule) || !told.is_empty()
        });
        messages
    }

    /// What an Alertmanager is told: everything at once, also when it only has to be kept from forgetting.
    fn refresh(&mut self, at: &AtDesk<'_>, queued: usize) -> Option<Message> {
        let now_ms = at.moment.now_ms;
        let (firing, elsewhere) = (at.firing, at.moment.elsewhere);
        let least = self.addressee.least;
        let mine = |notice: &&Arc<Notice>| notice.severity >= least && !elsewhere.contains(&notice.id);
        let mut notices: Vec<_> = firing.iter().filter(mine).cloned().collect();
        let group = self.groups.entry(Arc::from("")).or_default();
        let is_news = group.due_ms.is_some_and(|due| now_ms >= due);
        let is_time = group.sent_ms.is_none_or(|sent| now_ms.saturating_sub(sent) >= REFRESH_MS);
        // What waits already says what a mere repetition would.
        if !is_news && (!is_time || queued > 0) {
            return None;
        }
        self.told.extend(notices.iter().map(|notice| Arc::clone(&notice.id)));
        group.take_news(now_ms, &mut self.told, &mut notices);
        if notices.is_empty() {
            return None;
        }
        group.sent_ms = Some(now_ms);
        Some(Message { rule: None, notices })
    }
}

fn group_of<'a>(
    kind: ReceiverKind,
    groups: &'a mut BTreeMap<Arc<str>, Group>,
    notice: &Notice,
) -> &'a mut Group {
    let key = match kind {
        ReceiverKind::Alertmanager => Arc::from(""),
        ReceiverKind::Slack | ReceiverKind::Webhook => Arc::clone(&notice.rule),
    };
    groups.entry(key).or_default()
}

#[cfg(test)]
mod tests;
