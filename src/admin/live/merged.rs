//! Sections over several pods: the others are asked, and their parts are added to this pod's own.

use std::{collections::HashSet, time::SystemTime};

use super::{
    alerts::Alerts,
    part::Part,
    planes::{Backend, Cache, Claude, Redis},
    routes::{Routes, Slow},
    sections::{Chart, Health, Peers, Silent, Tiles, json},
};
use crate::admin::{Admin, PeerAnswer};
use crate::telemetry::Window;

/// The parts that came, this pod's first, and who was asked.
struct Gathered {
    parts: Vec<Part>,
    peers: Peers,
}

/// Asks the other pods and adds up. Their answers have a deadline, so this takes no longer than that.
pub(super) async fn sections(admin: &Admin, window: Window) -> Vec<(&'static str, String)> {
    let target = format!("/api/v1/merge?window={}", window.as_str());
    let answers = match &admin.terms().sources.peers {
        Some(peers) => peers.ask(&target).await,
        None => Vec::new(),
    };
    // Last, so that it is as new as the others.
    Gathered::new(Part::own(admin, window), answers).sections(SystemTime::now())
}

impl Gathered {
    fn new(own: Part, answers: Vec<PeerAnswer>) -> Self {
        let mut seen = HashSet::from([own.instance.clone()]);
        let (mut parts, mut silent) = (vec![own], Vec::new());
        for PeerAnswer { pod, body } in answers {
            let part = body.map_err(std::borrow::Cow::into_owned).and_then(|body| Part::read(&body));
            match part {
                // This pod, or one that was asked under two addresses.
                Ok(part) if !seen.insert(part.instance.clone()) => {}
                Ok(part) => parts.push(part),
                Err(error) => silent.push(Silent { pod, error }),
            }
        }
        silent.sort_by(|a, b| a.pod.cmp(&b.pod));
        let answered = parts.len();
        Self { parts, peers: Peers { asked: answered + silent.len(), answered, silent } }
    }

    /// The sections in the order in which those of one pod have it.
    fn sections(self, now: SystemTime) -> Vec<(&'static str, String)> {
        let Self { parts, peers } = self;
        let meta = parts.first().map(|own| own.meta.clone().merged(peers));
        let health: Vec<_> = parts.iter().map(|part| (part.pod(), &part.health)).collect();
        let routes: Vec<_> = parts.iter().map(|part| (part.seconds(), &part.routes)).collect();
        let calls = parts.iter().filter_map(|part| Some((part.claude.as_ref()?, part.call_times.as_ref())));
        let redis =
            parts.iter().filter_map(|part| Some((part.pod(), part.redis.as_ref()?))).collect::<Vec<_>>();
        let backend =
            parts.iter().filter_map(|part| Some((part.pod(), part.backend.as_ref()?))).collect::<Vec<_>>();
        let tiles = parts.iter().map(|part| (part.seconds(), &part.counted, &part.plain));
        vec![
            ("meta", json(&meta)),
            ("health", json(&Health::joined(&health))),
            ("tiles", json(&Tiles::joined(tiles))),
            ("chart", json(&Chart::joined(parts.iter().map(|part| (part.pod(), &part.chart)), now))),
            ("routes", json(&Routes::joined(&routes))),
            ("cache", json(&Cache::joined(parts.iter().filter_map(|part| part.cache.as_ref())))),
            ("redis", json(&Redis::joined(&redis))),
            ("backend", json(&Backend::joined(&backend))),
            ("claude", json(&Claude::joined(calls))),
            ("slow", json(&Slow::joined(parts.iter().map(|part| (part.pod(), &part.slow))))),
            ("alerts", json(&Alerts::joined(parts.iter().map(|part| (part.pod(), &part.alerts))))),
        ]
    }
}

#[cfg(test)]
mod tests;
