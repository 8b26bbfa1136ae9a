//! What is done to the objects of a stream: first what an earlier injection did is taken back, then it is done again.
//!
//! So a second injection is an upgrade: whatever the earlier one was told, the result is what this one is told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{
    note::{Fault, Level, Note},
    pod::{self, Injected},
    record::Record,
    service::{self, Redirected},
    settings::Settings,
    stream::{Object, Role, Stream},
    yaml::{Map, Value},
};

/// A workload whose pods have the proxy now, or could have had.
struct Workload {
    object: usize,
    injected: Option<Injected>,
    /// What Services select by.
    pod: Injected,
}

/// What is said on the way.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) notes: Vec<Note>,
    pub(super) has_problem: bool,
}

impl Said {
    fn note(&mut self, level: Level, about: &Object, text: impl Into<String>) {
        let about = match level {
            Level::Problem => format!("{}: {}", about.place, about.id),
            Level::Done | Level::Remark => about.id.to_string(),
        };
        self.has_problem |= level == Level::Problem;
        self.notes.push(Note { level, about, text: text.into() });
    }

    /// Brings together what is said of one object.
    pub(super) fn group(&mut self) {
        let mut order = BTreeMap::new();
        for note in &self.notes {
            let next = order.len();
            order.entry(note.about.clone()).or_insert(next);
        }
        self.notes.sort_by_key(|note| order.get(&note.about).copied());
    }

    fn faults(&mut self, object: &Object, prefix: &[&str], faults: Vec<Fault>) {
        for fault in faults {
            let path: Vec<&str> =
                prefix.iter().copied().chain([fault.path.as_str()]).filter(|part| !part.is_empty()).collect();
            self.note(Level::Problem, object, format!("{}: {}", path.join("."), fault.text));
        }
    }
}

/// Puts the proxy beside every backend.
pub(super) fn inject(stream: &mut Stream, settings: &Settings, said: &mut Said) {
    let mut earlier = Said::default();
    let was_injected = undo(stream, &mut earlier);
    said.has_problem |= earlier.has_problem;
    said.notes.extend(earlier.notes.into_iter().filter(|note| note.level != Level::Done));
    let workloads = workloads(stream, settings, said, &was_injected);
    // What no workload here is concerned with, an earlier injection of other texts did: it stays.
    let is_foreign = |index: &usize| {
        stream.objects.get(*index).is_some_and(|object| match object.role {
            Role::Service => !workloads.iter().any(|workload| is_selected(stream, object, workload)),
            Role::ConfigMap => workloads.is_empty(),
            Role::Workload(_) | Role::Other => false,
        })
    };
    let kept: Vec<usize> = was_injected.iter().copied().filter(is_foreign).collect();
    for index in kept {
        if let Some(object) = stream.objects.get_mut(index) {
            object.new.clone_from(&object.old);
        }
    }
    let done: Vec<&Workload> = workloads.iter().filter(|workload| workload.injected.is_some()).collect();
    services(stream, (&workloads, settings), said);
    if settings.config.is_some() {
        config_maps(stream, (&done, settings), said);
    }
    for object in was_injected.iter().filter_map(|index| stream.objects.get(*index)) {
        if object.new.is_none() {
            said.note(
                Level::Done,
                object,
                "is taken out: an earlier injection added it, and this one does not",
            );
        }
    }
}

/// Takes the proxy away; returns the objects that had it.
pub(super) fn undo(stream: &mut Stream, said: &mut Said) -> BTreeSet<usize> {
    let mut undone = BTreeSet::new();
    for (index, object) in stream.objects.iter_mut().enumerate() {
        let Some(map) = object.new.as_mut().and_then(Value::as_map_mut) else { continue };
        let (holder, prefix) = match object.role {
            Role::Workload(path) => (descend(map, path), path),
            Role::Service | Role::ConfigMap => (Some(map), &[][..]),
            Role::Other => continue,
        };
        let Some(holder) = holder else { continue };
        let record = match Record::of(holder.map("metadata")) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(text) => {
                said.faults(object, prefix, vec![Fault::at("metadata.annotations", text)]);
                continue;
            }
        };
        undone.insert(index);
        if record.added {
            object.new = None;
            said.note(Level::Done, object, "is taken out, as it was added");
            continue;
        }
        let kept = match object.role {
            Role::Workload(_) => record.undo_pod(holder),
            _ => record.undo_service(holder),
        };
        said.note(Level::Done, object, "is as it was before");
        for text in kept {
            said.note(Level::Remark, object, text);
        }
    }
    undone
}

/// The part of an object that describes its pods.
fn descend<'a>(map: &'a mut Map, path: &[&str]) -> Option<&'a mut Map> {
    path.iter().try_fold(map, |map, key| map.map_mut(key))
}

fn workloads(
    stream: &mut Stream,
    settings: &Settings,
    said: &mut Said,
    before: &BTreeSet<usize>,
) -> Vec<Workload> {
    let mut workloads = Vec::new();
    for (index, object) in stream.objects.iter_mut().enumerate() {
        let Role::Workload(path) = object.role else { continue };
        let Some(mut value) = object.new.clone() else { continue };
        let Some(map) = value.as_map_mut() else { continue };
        let is_disabled = pod::is_disabled(map);
        let Some(pod) = descend(map, path) else {
            said.faults(object, path, vec![Fault::at("", "there is no template of a pod")]);
            continue;
        };
        let bare = pod::bare(pod);
        let skipped = if is_disabled || pod::is_disabled(pod) {
            Some("touchline/inject: disabled")
        } else if pod::is_on_host_network(pod) {
            Some("hostNetwork: its ports are those of the node")
        } else {
            None
        };
        if let Some(reason) = skipped {
            said.note(Level::Done, object, format!("is skipped ({reason})"));
            workloads.push(Workload { object: index, injected: None, pod: bare });
            continue;
        }
        match pod::inject(pod, settings, &object.id.kind) {
            Ok(mut injected) => {
                object.new = Some(value);
                let is_same = object
                    .old
                    .as_ref()
                    .zip(object.new.as_ref())
                    .is_some_and(|(old, new)| super::yaml::same(old, new));
                let verb = match (before.contains(&index), is_same) {
                    (_, true) => "has touchline already, just so,",
                    (true, false) => "is injected anew:",
                    (false, false) => "is injected:",
                };
                said.note(
                    Level::Done,
                    object,
                    format!("{verb} touchline beside container {}", injected.container),
                );
                for text in std::mem::take(&mut injected.remarks) {
                    said.note(Level::Remark, object, text);
                }
                workloads.push(Workload { object: index, injected: Some(injected), pod: bare });
            }
            Err(faults) => said.faults(object, path, faults),
        }
    }
    workloads
}

/// Points the Services of the stream at the proxy, and says which are not in it.
fn services(stream: &mut Stream, (workloads, settings): (&[Workload], &Settings), said: &mut Said) {
    let mut found = BTreeSet::new();
    let mut added = Vec::new();
    for index in 0..stream.objects.len() {
        let Some(object) = stream.objects.get(index) else { continue };
        let Some(map) = object.new.as_ref().and_then(Value::as_map).filter(|_| object.role == Role::Service)
        else {
            continue;
        };
        let selected: Vec<&Workload> =
            workloads.iter().filter(|workload| is_selected(stream, object, workload)).collect();
        found.extend(selected.iter().map(|workload| workload.object));
        let Some(injected) = selected.iter().find_map(|workload| workload.injected.as_ref()) else {
            continue;
        };
        if let Some(other) = selected.iter().find(|workload| workload.injected.is_none()) {
            let other =
                stream.objects.get(other.object).map(|object| object.id.to_string()).unwrap_or_default();
            said.note(
                Level::Remark,
                object,
                format!("stays as it is: it also selects {other}, which has no proxy"),
            );
            continue;
        }
        let mut map = map.clone();
        if settings.proxied_service {
            match service::proxied(&map, injected, settings) {
                Ok(value) => added.push((index, value)),
                Err(reason) => {
                    said.note(Level::Remark, object, format!("stays without another beside it: {reason}"));
                }
            }
            continue;
        }
        match service::redirect(&mut map, injected, settings) {
            Redirected::Yes(text) => {
                said.note(Level::Done, object, text);
                if let Some(object) = stream.objects.get_mut(index) {
                    object.new = Some(Value::Map(map));
                }
            }
            Redirected::No(reason) => said.note(Level::Remark, object, format!("stays as it is: {reason}")),
        }
    }
    for (index, value) in added {
        let name =
            value.as_map().and_then(|map| map.map("metadata")?.text("name")).unwrap_or_default().to_owned();
        if let Some(object) = stream.objects.get(index) {
            said.note(Level::Done, object, format!("stays as it is; Service/{name} leads to touchline"));
        }
        put(stream, value, said);
    }
    not_found(stream, (workloads, settings), (&found, said));
}

/// Whether a Service leads to the pods of a workload. Those of a Job serve nobody.
fn is_selected(stream: &Stream, service: &Object, workload: &Workload) -> bool {
    let Some(id) = stream.objects.get(workload.object).map(|object| &object.id) else { return false };
    let map = service.old.as_ref().and_then(Value::as_map);
    id.namespace == service.id.namespace
        && !matches!(id.kind.as_str(), "Job" | "CronJob")
        && map.is_some_and(|map| service::selects(map, &workload.pod))
}

/// Says how a Service that is elsewhere is pointed at the proxy.
fn not_found(
    stream: &Stream,
    (workloads, settings): (&[Workload], &Settings),
    (found, said): (&BTreeSet<usize>, &mut Said),
) {
    let Some(ingress) = settings.planes.ingress else { return };
    for workload in
        workloads.iter().filter(|workload| workload.injected.is_some() && !found.contains(&workload.object))
    {
        let Some(object) = stream.objects.get(workload.object) else { continue };
        if matches!(object.id.kind.as_str(), "Job" | "CronJob") {
            continue;
        }
        let namespace = match object.id.namespace.as_str() {
            "" => String::new(),
            namespace => format!(" -n {namespace}"),
        };
        let patch = json!([{ "op": "add", "path": "/spec/ports/0/targetPort", "value": ingress }]);
        said.note(
            Level::Remark,
            object,
            format!(
                "no Service here selects it; point yours at touchline: kubectl{namespace} patch service {} --type=json -p '{patch}'",
                object.id.name
            ),
        );
    }
}

/// Puts the configuration into the stream, once for each namespace.
fn config_maps(stream: &mut Stream, (done, settings): (&[&Workload], &Settings), said: &mut Said) {
    let Some(config) = &settings.config else { return };
    let namespaces: BTreeSet<String> = done
        .iter()
        .filter_map(|workload| Some(stream.objects.get(workload.object)?.id.namespace.clone()))
        .collect();
    for namespace in namespaces {
        let mut metadata = json!({ "name": settings.config_map });
        if let (false, Some(metadata)) = (namespace.is_empty(), metadata.as_object_mut()) {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        let value = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": { "proxy.yaml": config },
        });
        let mut value = Value::from(value);
        if let Some(map) = value.as_map_mut() {
            Record { added: true, ..Record::default() }.write(map);
        }
        put(stream, value, said);
    }
}

/// Adds an object, unless another of its name is there that is not ours.
fn put(stream: &mut Stream, value: Value, said: &mut Said) {
    let id = value.as_map().map(super::stream::id_of);
    let there = stream.objects.iter().find(|object| Some(&object.id) == id.as_ref() && object.new.is_some());
    if let Some(object) = there {
        said.note(
            Level::Problem,
            object,
            "is there already, and touchline inject did not add it: take it out, or name another",
        );
        return;
    }
    let is_new = !stream.objects.iter().any(|object| Some(&object.id) == id.as_ref());
    stream.put(value);
    let added = stream.objects.iter().find(|object| Some(&object.id) == id.as_ref() && object.new.is_some());
    if let (Some(object), true) = (added, is_new) {
        said.note(Level::Done, object, "is added");
    }
}
