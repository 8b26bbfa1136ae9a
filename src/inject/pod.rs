//! A pod with the proxy beside its backend.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;

use super::{
    note::Fault,
    record::{Change, DEFAULT_CONTAINER, Record},
    settings::{Mode, Settings},
    sidecar,
    yaml::{Map, Meaning, Value},
};

/// What Kubernetes waits where a pod does not say.
const USUAL_GRACE: u64 = 30;

/// What became of a pod.
#[derive(Debug)]
pub(super) struct Injected {
    /// The backend's container.
    pub(super) container: String,
    /// What somebody should know.
    pub(super) remarks: Vec<String>,
    /// What Services select by.
    pub(super) labels: BTreeMap<String, String>,
    /// The ports that the backend declares, with their names.
    pub(super) ports: Vec<(Option<String>, i64)>,
}

/// Puts the proxy into a pod, which has none.
pub(super) fn inject(pod: &mut Map, settings: &Settings, kind: &str) -> Result<Injected, Vec<Fault>> {
    let Some(spec) = pod.map("spec").filter(|spec| !spec.list("containers").is_empty()) else {
        return Err(vec![Fault::at("spec.containers", "there is no container")]);
    };
    let index = backend(pod, spec, settings).map_err(|fault| vec![fault])?;
    let faults = taken(spec, settings);
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut work = Work { settings, record: Record::default(), remarks: Vec::new() };
    let was_guaranteed = is_guaranteed(spec);
    let names = port_names(spec);
    let Some(backend) = spec.list("containers").get(index).and_then(Value::as_map) else {
        return Err(faults);
    };
    let injected =
        (backend.text("name").unwrap_or_default().to_owned(), labels(pod), declared_ports(backend));
    work.record.container.clone_from(&injected.0);
    if let (Some(port), false) = (settings.planes.backend, injected.2.is_empty())
        && !injected.2.iter().any(|(_, declared)| *declared == i64::from(port))
    {
        work.say(format!(
            "the configuration has the backend on port {port}, which its container does not declare"
        ));
    }
    if let Some(spec) = pod.map_mut("spec") {
        if let Some(backend) =
            spec.list_mut("containers").and_then(|all| all.get_mut(index)).and_then(Value::as_map_mut)
        {
            work.variables(backend);
            let wait = work.hook(backend);
            work.grace(spec, wait);
        }
        work.container(spec, &names);
        work.volumes(spec);
    }
    if was_guaranteed && !settings.sizes.limits.contains_key("cpu") {
        work.say(
            "the pod was of class Guaranteed and becomes Burstable, as the proxy has no CPU limit: give it requests \
             that are limits with --set if that matters",
        );
    }
    if settings.mode == Mode::Container && matches!(kind, "Job" | "CronJob") {
        work.say("a Job with the proxy as a container never ends by itself: use --mode native");
    }
    let annotations = pod.map("metadata").and_then(|metadata| metadata.map("annotations"));
    work.record.default_container = annotations.and_then(|all| all.get(DEFAULT_CONTAINER)).is_none();
    work.record.write(pod);
    let (container, labels, ports) = injected;
    Ok(Injected { container, remarks: work.remarks, labels, ports })
}

/// Which container is the backend's.
fn backend(pod: &Map, spec: &Map, settings: &Settings) -> Result<usize, Fault> {
    let names: Vec<&str> = spec
        .list("containers")
        .iter()
        .map(|item| item.as_map().and_then(|item| item.text("name")).unwrap_or("?"))
        .collect();
    let listed = names.join(", ");
    let annotations = pod.map("metadata").and_then(|metadata| metadata.map("annotations"));
    let annotated = annotations.and_then(|all| all.text(DEFAULT_CONTAINER));
    let find = |wanted: &str| names.iter().position(|name| *name == wanted);
    if let Some(wanted) = &settings.container {
        return find(wanted).ok_or_else(|| {
            Fault::at("spec.containers", format!("--container {wanted} is none of the containers: {listed}"))
        });
    }
    if let Some(wanted) = annotated {
        return find(wanted).ok_or_else(|| {
            let text =
                format!("{DEFAULT_CONTAINER} names {wanted}, which is none of the containers: {listed}");
            Fault::at("metadata.annotations", text)
        });
    }
    if names.len() > 1 {
        let text = format!("which container is the backend? Say --container NAME with one of: {listed}");
        return Err(Fault::at("spec.containers", text));
    }
    Ok(0)
}

/// All containers of a pod, with the list they are in.
fn containers(spec: &Map) -> impl Iterator<Item = (&'static str, &Map)> {
    ["initContainers", "containers"].into_iter().flat_map(|key| {
        spec.list(key).iter().filter_map(move |item| item.as_map().map(|container| (key, container)))
    })
}

/// Names and ports that the proxy needs and another has.
fn taken(spec: &Map, settings: &Settings) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, container) in containers(spec) {
        let name = container.text("name").unwrap_or_default();
        if name == sidecar::NAME {
            let text = "a container named touchline is there already, and touchline inject did not put it there: \
                        remove it first";
            faults.push(Fault::at(format!("spec.{key}"), text));
        }
        // An init container that ends has left its ports when the proxy begins.
        let is_running = key == "containers" || container.text("restartPolicy") == Some("Always");
        for (_, port) in declared_ports(container).iter().filter(|_| is_running) {
            for (_, plane) in settings.planes.taken().filter(|(taken, _)| i64::from(*taken) == *port) {
                let text = format!(
                    "container {name} has port {port}, which touchline takes for `{plane}`: give `{plane}.listen` \
                     another port in proxy.yaml, and pass it with --config"
                );
                faults.push(Fault::at(format!("spec.{key}"), text));
            }
        }
    }
    for volume in spec.list("volumes").iter().filter_map(|volume| volume.as_map()?.text("name")) {
        if sidecar::VOLUMES.contains(&volume) {
            let text = format!(
                "a volume named {volume} is there already, and touchline inject did not put it there"
            );
            faults.push(Fault::at("spec.volumes", text));
        }
    }
    faults
}

/// The TCP ports that a container declares.
fn declared_ports(container: &Map) -> Vec<(Option<String>, i64)> {
    let ports = container.list("ports").iter().filter_map(Value::as_map);
    let tcp = ports.filter(|port| port.text("protocol").unwrap_or("TCP") == "TCP");
    tcp.filter_map(|port| Some((port.text("name").map(str::to_owned), port.get("containerPort")?.as_int()?)))
        .collect()
}

fn port_names(spec: &Map) -> BTreeSet<String> {
    containers(spec)
        .flat_map(|(_, container)| container.list("ports"))
        .filter_map(|port| port.as_map()?.text("name").map(str::to_owned))
        .collect()
}

fn labels(pod: &Map) -> BTreeMap<String, String> {
    let labels = pod.map("metadata").and_then(|metadata| metadata.map("labels"));
    labels
        .into_iter()
        .flat_map(|labels| &labels.0)
        .filter_map(|(key, value)| Some((key.text.clone(), value.as_scalar()?.text.clone())))
        .collect()
}

/// Whether all containers have limits for CPU and memory that are their requests.
fn is_guaranteed(spec: &Map) -> bool {
    containers(spec).all(|(_, container)| {
        let Some(resources) = container.map("resources") else { return false };
        let part = |key: &str, name: &str| resources.map(key).and_then(|part| part.text(name));
        ["cpu", "memory"].iter().all(|name| {
            let (limit, request) = (part("limits", name), part("requests", name));
            limit.is_some() && (request.is_none() || request == limit)
        })
    })
}

/// What is done to a pod, on the way.
struct Work<'a> {
    settings: &'a Settings,
    record: Record,
    remarks: Vec<String>,
}

impl Work<'_> {
    fn say(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Points the backend at the planes that it talks through.
    ///
    /// Each plane adds the variable by which client libraries find it.
    fn variables(&mut self, backend: &mut Map) {
        let Some(port) = self.settings.planes.claude else { return };
        let url = format!("http://127.0.0.1:{port}");
        match variable(backend, "ANTHROPIC_BASE_URL") {
            None => {
                if !backend.list("envFrom").is_empty() {
                    self.say("ANTHROPIC_BASE_URL is set here, and hides one that envFrom may bring: such a one belongs into `claude.upstream`");
                }
                self.add_variable(backend, "ANTHROPIC_BASE_URL", &url);
            }
            Some(Some(there)) if there == url => {}
            Some(Some(there)) => self.say(format!(
                "ANTHROPIC_BASE_URL is {there} already, and stays: calls to Claude do not pass touchline. Make it \
                 `claude.upstream: {there}` in proxy.yaml and take the variable out"
            )),
            Some(None) => self.say(
                "ANTHROPIC_BASE_URL comes from elsewhere (valueFrom), and stays: calls to Claude do not pass touchline. \
                 Make its value `claude.upstream` in proxy.yaml and take the variable out",
            ),
        }
        self.no_proxy(backend);
    }

    /// Keeps calls on the loopback away from a proxy that the backend is told to use.
    fn no_proxy(&mut self, backend: &mut Map) {
        let has = |backend: &Map, names: &[&str]| names.iter().any(|name| variable(backend, name).is_some());
        let pairs = [
            ("NO_PROXY", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]),
            ("no_proxy", ["http_proxy", "https_proxy", "all_proxy"]),
        ];
        for (name, proxies) in pairs {
            match variable(backend, name) {
                None if has(backend, &proxies) => self.add_variable(backend, name, "127.0.0.1"),
                None => {}
                Some(Some(there)) => {
                    let hosts: Vec<&str> = there.split(',').map(str::trim).collect();
                    if !hosts.contains(&"127.0.0.1") && !hosts.contains(&"*") {
                        let set = if there.is_empty() {
                            "127.0.0.1".to_owned()
                        } else {
                            format!("{there},127.0.0.1")
                        };
                        self.change_variable(backend, name, &set);
                    }
                }
                Some(None) => {
                    self.say(format!("{name} comes from elsewhere (valueFrom): it must name 127.0.0.1"));
                }
            }
        }
    }

    fn add_variable(&mut self, backend: &mut Map, name: &str, value: &str) {
        self.record.remember_empty(backend, "env", "env");
        if backend.list_mut("env").is_none() {
            backend.set("env", Value::List(Vec::new()));
        }
        if let Some(env) = backend.list_mut("env") {
            env.push(json!({ "name": name, "value": value }).into());
        }
        self.record.env.insert(name.to_owned(), Change::new(None, value));
    }

    fn change_variable(&mut self, backend: &mut Map, name: &str, value: &str) {
        let env = backend.list_mut("env").into_iter().flatten().filter_map(Value::as_map_mut);
        for variable in env.filter(|variable| variable.text("name") == Some(name)) {
            self.record.env.insert(name.to_owned(), Change::new(variable.get("value"), value));
            variable.set("value", Value::text(value));
        }
    }

    /// Keeps the backend serving while the end of its pod becomes known; returns how long its hook takes.
    fn hook(&mut self, backend: &mut Map) -> Duration {
        let wait = self.settings.sizes.backend_wait;
        let name = self.record.container.clone();
        if let Some(hook) = backend.map("lifecycle").and_then(|lifecycle| lifecycle.map("preStop")) {
            let (known, how) = match hook_time(hook) {
                Some(time) => (time, format!("{} s", time.as_secs())),
                None => (wait, format!("an unknown time, taken for {} s", wait.as_secs())),
            };
            self.say(format!("{name} has a preStop already, which stays; it takes {how}"));
            return known;
        }
        if self.settings.mode == Mode::Container {
            self.say(format!(
                "{name} has no preStop: give it one that sleeps {} s (exec), so that it serves until the end of its pod \
                 is known everywhere",
                wait.as_secs()
            ));
            return wait;
        }
        if wait.is_zero() {
            self.say(format!(
                "{name} has no preStop, and gets none: it ends before the end of its pod is known everywhere"
            ));
            return wait;
        }
        let hook = json!({ "sleep": { "seconds": wait.as_secs() } });
        self.record.remember_empty(backend, "lifecycle", "lifecycle");
        match backend.map_mut("lifecycle") {
            Some(lifecycle) => lifecycle.set("preStop", hook.into()),
            None => backend.set("lifecycle", json!({ "preStop": hook }).into()),
        }
        self.record.pre_stop = Some(wait.as_secs());
        wait
    }

    /// Leaves time for hooks, backend and drain, in this order.
    fn grace(&mut self, spec: &mut Map, backend_wait: Duration) {
        let key = "terminationGracePeriodSeconds";
        let sizes = &self.settings.sizes;
        let own = if self.settings.planes.control.is_some() { sizes.wait } else { Duration::ZERO };
        let (shutdown, drain) = (sizes.backend_shutdown, self.settings.planes.drain);
        let hooks = own.max(backend_wait);
        let needed = whole_seconds(hooks + shutdown + drain);
        let there = spec.get(key).and_then(Value::as_int);
        let current = there.and_then(|there| u64::try_from(there).ok()).unwrap_or(USUAL_GRACE);
        if current >= needed {
            return;
        }
        let raised = needed.div_ceil(10) * 10;
        let change = Change::new(spec.get(key), raised.to_string());
        self.record.grace = Some(change);
        let next = if spec.get("initContainers").is_some() { "initContainers" } else { "containers" };
        spec.set_before(next, key, json!(raised).into());
        self.say(format!(
            "{key} is raised from {current} to {raised}: {} s for the hooks, {} s for the backend's end, {} s for the drain",
            whole_seconds(hooks),
            whole_seconds(shutdown),
            whole_seconds(drain)
        ));
    }

    fn container(&mut self, spec: &mut Map, port_names: &BTreeSet<String>) {
        let container = sidecar::container(self.settings, port_names);
        let key = match self.settings.mode {
            Mode::Native => "initContainers",
            Mode::Container => "containers",
        };
        self.record.remember_empty(spec, key, key);
        if spec.list_mut(key).is_none() {
            spec.set_before("containers", key, Value::List(Vec::new()));
        }
        let Some(list) = spec.list_mut(key) else { return };
        match self.settings.mode {
            // Last, so that init containers run as they did, and other sidecars are there before it and after it.
            Mode::Native => list.push(container),
            Mode::Container => list.insert(0, container),
        }
    }

    fn volumes(&mut self, spec: &mut Map) {
        self.record.remember_empty(spec, "volumes", "volumes");
        if spec.list_mut("volumes").is_none() {
            spec.set("volumes", Value::List(Vec::new()));
        }
        if let Some(list) = spec.list_mut("volumes") {
            list.extend(sidecar::volumes(self.settings));
        }
    }
}

/// A variable of a container: `Some(None)` if its value comes from elsewhere.
fn variable(container: &Map, name: &str) -> Option<Option<String>> {
    let found = container
        .list("env")
        .iter()
        .filter_map(Value::as_map)
        .find(|item| item.text("name") == Some(name))?;
    if found.get("valueFrom").is_some() {
        return Some(None);
    }
    Some(Some(found.text("value").unwrap_or_default().to_owned()))
}

/// How long a hook takes, where it says so: `sleep`, or a command with `sleep N` in it.
fn hook_time(hook: &Map) -> Option<Duration> {
    if let Some(seconds) = hook.map("sleep").and_then(|sleep| sleep.get("seconds")).and_then(Value::as_int) {
        return u64::try_from(seconds).ok().map(Duration::from_secs);
    }
    let command =
        hook.map("exec")?.list("command").iter().filter_map(Value::as_text).collect::<Vec<_>>().join(" ");
    let mut words = command.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '\'' | '"'));
    let seconds =
        words.by_ref().find(|word| word.rsplit('/').next() == Some("sleep")).and_then(|_| words.next())?;
    seconds.trim_end_matches('s').parse().ok().map(Duration::from_secs)
}

/// Seconds, rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Whether the pod shares the network of its node, where ports are everybody's.
pub(super) fn is_on_host_network(pod: &Map) -> bool {
    pod.map("spec").and_then(|spec| spec.get("hostNetwork")).is_some_and(Value::is_true)
}

/// Whether an object asks to be left alone.
pub(super) fn is_disabled(object: &Map) -> bool {
    let annotations = object.map("metadata").and_then(|metadata| metadata.map("annotations"));
    let asked =
        annotations.and_then(|annotations| annotations.get("touchline/inject")).and_then(Value::as_scalar);
    asked.is_some_and(|asked| {
        asked.text == "disabled" || matches!(asked.meaning(), Meaning::Bool(false) | Meaning::Text("false"))
    })
}

/// A pod as Services see it, without having the proxy.
pub(super) fn bare(pod: &Map) -> Injected {
    Injected { container: String::new(), remarks: Vec::new(), labels: labels(pod), ports: Vec::new() }
}
