//! What was changed in an object, kept in an annotation of it, and how the change is taken back.
//!
//! A value is restored only where it is still the one that was set: what somebody changed since is theirs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    sidecar,
    yaml::{Document, Map, Scalar, Value},
};

/// Says by which version an object was changed.
pub(super) const VERSION: &str = "touchline/injected-version";
/// Holds what was changed.
pub(super) const RECORD: &str = "touchline/injected";
/// Names the container whose logs `kubectl logs` shows.
pub(super) const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What was changed in an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record {
    /// The whole object was added.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) added: bool,
    /// The backend's container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) container: String,
    /// `terminationGracePeriodSeconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grace: Option<Change>,
    /// Variables of the backend.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) env: BTreeMap<String, Change>,
    /// The seconds of the backend's hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pre_stop: Option<u64>,
    /// The annotation for the default container was added.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) default_container: bool,
    /// Ports of a Service, by number and protocol, with their `targetPort`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) ports: BTreeMap<String, Change>,
    /// What was there and empty before something was put into it, as it was written.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) empty: BTreeMap<String, String>,
}

/// A value that was replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    /// What was there, as it was written; nothing if nothing was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<String>,
    /// What was put there.
    pub(super) set: String,
}

/// For serde, which asks with a reference.
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Change {
    pub(super) fn new(was: Option<&Value>, set: impl Into<String>) -> Self {
        let was = was.and_then(Value::as_scalar).map(|scalar| scalar.on_one_line(false));
        Self { was, set: set.into() }
    }
}

impl Record {
    /// Reads the record of an object; `None` if it has none.
    pub(super) fn of(metadata: Option<&Map>) -> Result<Option<Self>, String> {
        let annotations = metadata.and_then(|metadata| metadata.map("annotations"));
        let Some(annotations) = annotations else { return Ok(None) };
        match annotations.text(RECORD) {
            Some(text) => serde_json::from_str(text).map(Some).map_err(|error| {
                format!(
                    "the annotation {RECORD} cannot be read, so that nothing can be restored from it: {error}"
                )
            }),
            None if annotations.get(VERSION).is_some() => Err(format!(
                "the annotation {VERSION} says that it was injected, but {RECORD}, which says how, is missing"
            )),
            None => Ok(None),
        }
    }

    /// Keeps how an empty collection was written, so that it can be so again.
    pub(super) fn remember_empty(&mut self, map: &Map, key: &str, path: &str) {
        let spelled = match map.get(key) {
            Some(Value::List(items)) if items.is_empty() => "[]".to_owned(),
            Some(Value::Map(map)) if map.0.is_empty() => "{}".to_owned(),
            Some(Value::Scalar(scalar)) => scalar.on_one_line(false),
            _ => return,
        };
        self.empty.insert(path.to_owned(), spelled);
    }

    /// Writes the record into the annotations of an object.
    pub(super) fn write(mut self, object: &mut Map) {
        self.remember_empty(object, "metadata", "metadata");
        if object.map("metadata").is_none() {
            object.set_before("spec", "metadata", Value::Map(Map::default()));
        }
        let Some(metadata) = object.map_mut("metadata") else { return };
        self.remember_empty(metadata, "annotations", "annotations");
        if metadata.map("annotations").is_none() {
            metadata.set("annotations", Value::Map(Map::default()));
        }
        let Some(annotations) = metadata.map_mut("annotations") else { return };
        if self.default_container {
            annotations.set(DEFAULT_CONTAINER, Value::text(self.container.as_str()));
        }
        annotations.set(VERSION, Value::text(env!("CARGO_PKG_VERSION")));
        // A record is made of texts and numbers alone, which always have a form in JSON.
        let text = serde_json::to_string(&self).unwrap_or_default();
        annotations.set(RECORD, Value::text(text));
    }

    /// Takes back what was changed in a pod. Says what was changed since and therefore stays.
    pub(super) fn undo_pod(&self, pod: &mut Map) -> Vec<String> {
        let mut kept = Vec::new();
        if let Some(spec) = pod.map_mut("spec") {
            for key in ["initContainers", "containers"] {
                self.take_named(spec, key, &[sidecar::NAME]);
            }
            self.take_named(spec, "volumes", &sidecar::VOLUMES);
            if let Some(change) = &self.grace {
                undo(spec, "terminationGracePeriodSeconds", change, &mut kept);
            }
            let containers = spec.list_mut("containers").into_iter().flatten().filter_map(Value::as_map_mut);
            for container in containers.filter(|container| container.text("name") == Some(&self.container)) {
                self.undo_backend(container, &mut kept);
            }
        }
        self.undo_annotations(pod);
        kept
    }

    fn undo_backend(&self, container: &mut Map, kept: &mut Vec<String>) {
        if let Some(env) = container.list_mut("env") {
            let mut is_gone = Vec::new();
            for variable in env.iter_mut().filter_map(Value::as_map_mut) {
                let name = variable.text("name").unwrap_or_default().to_owned();
                let Some(change) = self.env.get(&name) else { continue };
                match &change.was {
                    Some(_) => undo(variable, "value", change, kept),
                    None if variable.text("value") == Some(&change.set) => is_gone.push(name),
                    None => kept.push(format!("{name} was changed since, and stays")),
                }
            }
            if !is_gone.is_empty() {
                env.retain(|variable| {
                    let name = variable.as_map().and_then(|variable| variable.text("name"));
                    !is_gone.iter().any(|gone| Some(gone.as_str()) == name)
                });
                self.settle(container, "env", "env");
            }
        }
        let Some(seconds) = self.pre_stop else { return };
        let Some(lifecycle) = container.map_mut("lifecycle") else { return };
        let found = lifecycle
            .map("preStop")
            .and_then(|hook| hook.map("sleep"))
            .and_then(|sleep| sleep.get("seconds"));
        if found.and_then(Value::as_int).and_then(|found| u64::try_from(found).ok()) == Some(seconds) {
            lifecycle.remove("preStop");
        } else if lifecycle.get("preStop").is_some() {
            kept.push("the backend's preStop was changed since, and stays".to_owned());
        }
        self.settle(container, "lifecycle", "lifecycle");
    }

    /// Takes back what was changed in a Service.
    pub(super) fn undo_service(&self, service: &mut Map) -> Vec<String> {
        let mut kept = Vec::new();
        let ports = service.map_mut("spec").and_then(|spec| spec.list_mut("ports"));
        for port in ports.into_iter().flatten().filter_map(Value::as_map_mut) {
            if let Some(change) = self.ports.get(&port_key(port)) {
                undo(port, "targetPort", change, &mut kept);
            }
        }
        self.undo_annotations(service);
        kept
    }

    fn undo_annotations(&self, object: &mut Map) {
        let Some(metadata) = object.map_mut("metadata") else { return };
        if let Some(annotations) = metadata.map_mut("annotations") {
            annotations.remove(VERSION);
            annotations.remove(RECORD);
            if self.default_container && annotations.text(DEFAULT_CONTAINER) == Some(&self.container) {
                annotations.remove(DEFAULT_CONTAINER);
            }
        }
        self.settle(metadata, "annotations", "annotations");
        self.settle(object, "metadata", "metadata");
    }

    /// Takes items out of a list by their names.
    fn take_named(&self, map: &mut Map, key: &str, names: &[&str]) {
        let Some(items) = map.list_mut(key) else { return };
        let before = items.len();
        items.retain(|item| {
            !item.as_map().and_then(|item| item.text("name")).is_some_and(|name| names.contains(&name))
        });
        if items.len() < before {
            self.settle(map, key, key);
        }
    }

    /// What has become empty goes, or is written as it was.
    fn settle(&self, map: &mut Map, key: &str, path: &str) {
        if !map.get(key).is_some_and(Value::is_empty) {
            return;
        }
        match self.empty.get(path) {
            Some(spelled) => map.set(key, spelled_value(spelled)),
            None => map.remove(key),
        }
    }
}

/// Restores one value, unless it is no longer the one that was set.
fn undo(map: &mut Map, key: &str, change: &Change, kept: &mut Vec<String>) {
    if map.text(key) != Some(&change.set) {
        if map.get(key).is_some() {
            kept.push(format!("{key} was changed since, and stays"));
        }
        return;
    }
    match &change.was {
        Some(spelled) => map.set(key, spelled_value(spelled)),
        None => map.remove(key),
    }
}

/// A value as it was written.
fn spelled_value(spelled: &str) -> Value {
    let read = Document::parse(spelled).ok().and_then(|document| document.value().cloned());
    read.unwrap_or_else(|| Value::Scalar(Scalar::plain(spelled)))
}

/// What a port of a Service is known by.
pub(super) fn port_key(port: &Map) -> String {
    format!("{}/{}", port.text("port").unwrap_or_default(), port.text("protocol").unwrap_or("TCP"))
}
