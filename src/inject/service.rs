//! Services: the one that selects a backend is pointed at the proxy, or gets another beside it that is.

use serde_json::json;

use super::{
    pod::Injected,
    record::{Change, Record, port_key},
    settings::Settings,
    yaml::{Map, Scalar, Value},
};

/// What Kubernetes allows for the name of a Service.
const LONGEST_NAME: usize = 63;

/// What became of a Service.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirected {
    /// Its ports lead to the proxy now.
    Yes(String),
    /// It stays as it is, for this reason.
    No(String),
}

/// Whether a Service selects pods with the labels of this one.
pub(super) fn selects(service: &Map, workload: &Injected) -> bool {
    let Some(selector) = service.map("spec").and_then(|spec| spec.map("selector")) else { return false };
    !selector.0.is_empty()
        && selector.0.iter().all(|(key, value)| {
            let wanted = value.as_scalar().map(|scalar| scalar.text.as_str());
            workload.labels.get(&key.text).map(String::as_str) == wanted
        })
}

/// Points the Service at the proxy.
pub(super) fn redirect(service: &mut Map, workload: &Injected, settings: &Settings) -> Redirected {
    let Some(ingress) = settings.planes.ingress else {
        return Redirected::No("the configuration has no `ingress`".to_owned());
    };
    let chosen = match choose(service, workload, settings, ingress) {
        Ok(chosen) => chosen,
        Err(reason) => return Redirected::No(reason),
    };
    let mut record = Record::default();
    let mut said = Vec::new();
    let ports = service.map_mut("spec").and_then(|spec| spec.list_mut("ports"));
    let ports = ports.into_iter().flatten().filter_map(Value::as_map_mut).enumerate();
    for (_, port) in ports.filter(|(index, _)| chosen.contains(index)) {
        let was = port.get("targetPort");
        let named = was.filter(|was| was.as_int().is_none()).and_then(Value::as_text);
        let number = port.text("port").unwrap_or_default();
        said.push(match named {
            Some(name) => format!("port {number} leads to {ingress} instead of the port named {name}"),
            None => {
                let before = was.and_then(Value::as_text).unwrap_or(number);
                format!("port {number} leads to {ingress} instead of {before}")
            }
        });
        record.ports.insert(port_key(port), Change::new(was, ingress.to_string()));
        port.set("targetPort", json!(ingress).into());
    }
    record.write(service);
    Redirected::Yes(said.join(", "))
}

/// Another Service with the same selector, which leads to the proxy.
pub(super) fn proxied(service: &Map, workload: &Injected, settings: &Settings) -> Result<Value, String> {
    let mut copy = service.clone();
    if let Redirected::No(reason) = redirect(&mut copy, workload, settings) {
        return Err(reason);
    }
    let metadata = service.map("metadata");
    let name = format!("{}-proxied", metadata.and_then(|metadata| metadata.text("name")).unwrap_or_default());
    if name.len() > LONGEST_NAME {
        return Err(format!("a Service named {name} would have more than {LONGEST_NAME} characters"));
    }
    let mut made = Map::default();
    for key in ["apiVersion", "kind"] {
        made.set(key, Value::text(service.text(key).unwrap_or_default()));
    }
    let mut about = Map::default();
    about.set("name", Value::text(name));
    for key in ["namespace", "labels"] {
        if let Some(value) = metadata.and_then(|metadata| metadata.get(key)).filter(|value| !value.is_empty())
        {
            about.set(key, value.clone());
        }
    }
    made.set("metadata", Value::Map(about));
    // An address, a port of the node or a load balancer is the other's own: this one is for inside the cluster.
    let mut spec = Map::default();
    for key in ["selector", "ports", "sessionAffinity", "sessionAffinityConfig"] {
        if let Some(value) = copy.map("spec").and_then(|spec| spec.get(key)) {
            spec.set(key, value.clone());
        }
    }
    for port in spec.list_mut("ports").into_iter().flatten().filter_map(Value::as_map_mut) {
        port.remove("nodePort");
    }
    made.set("spec", Value::Map(spec));
    Record { added: true, ..Record::default() }.write(&mut made);
    Ok(Value::Map(made))
}

/// The ports that lead to the backend, by their place.
fn choose(
    service: &Map,
    workload: &Injected,
    settings: &Settings,
    ingress: u16,
) -> Result<Vec<usize>, String> {
    let spec = service.map("spec");
    if spec.and_then(|spec| spec.text("type")) == Some("ExternalName") {
        return Err("it is of type ExternalName".to_owned());
    }
    if spec.and_then(|spec| spec.text("clusterIP")) == Some("None") {
        return Err("it is headless: its clients call the pods themselves, on the port they know".to_owned());
    }
    let ports: Vec<(usize, &Map, Option<i64>)> = spec
        .map(|spec| spec.list("ports"))
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_map)
        .enumerate()
        .filter(|(_, port)| port.text("protocol").unwrap_or("TCP") == "TCP")
        .map(|(index, port)| (index, port, target(port, workload)))
        .collect();
    let backend = settings.planes.backend.map(i64::from).or(match workload.ports.as_slice() {
        [(_, only)] => Some(*only),
        _ => None,
    });
    if ports.iter().any(|(_, _, target)| *target == Some(i64::from(ingress))) {
        return Err(format!("it leads to {ingress} already"));
    }
    let leading: Vec<usize> = ports
        .iter()
        .filter(|(_, _, target)| backend.is_some() && *target == backend)
        .map(|(index, ..)| *index)
        .collect();
    match (leading.is_empty(), backend, ports.as_slice()) {
        (false, ..) => Ok(leading),
        (true, None, [(index, ..)]) => Ok(vec![*index]),
        (true, Some(backend), _) => {
            Err(format!("none of its ports leads to {backend}, where the backend listens"))
        }
        (true, None, _) => {
            Err("which of its ports leads to the backend? --config would say where that listens".to_owned())
        }
    }
}

/// The port of the pod that a port leads to, if its name is known.
fn target(port: &Map, workload: &Injected) -> Option<i64> {
    let target = port.get("targetPort").filter(|target| !target.is_empty()).or_else(|| port.get("port"))?;
    target.as_int().or_else(|| {
        let name = target.as_scalar().map(|Scalar { text, .. }| text.as_str());
        workload
            .ports
            .iter()
            .find(|(known, _)| known.is_some() && known.as_deref() == name)
            .map(|(_, number)| *number)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::settings::Flags, *};

    fn settings() -> Settings {
        Settings::new(Flags { image: Some("i".to_owned()), ..Flags::default() }).unwrap()
    }

    fn workload(ports: &[(&str, i64)]) -> Injected {
        let ports = ports.iter().map(|(name, number)| (Some((*name).to_owned()), *number)).collect();
        let labels = BTreeMap::from([("app".to_owned(), "a".to_owned())]);
        Injected { container: "b".to_owned(), remarks: Vec::new(), labels, ports }
    }

    fn service(spec: &serde_json::Value) -> Map {
        let value =
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" }, "spec": spec });
        Value::from(value).as_map().cloned().unwrap()
    }

    #[test]
    fn the_port_that_leads_to_the_backend_is_found_or_not_touched() {
        let (one, two) = (workload(&[("http", 8000)]), workload(&[("http", 8000), ("grpc", 9000)]));
        for (ports, workload, expected) in [
            (json!([{ "port": 80, "targetPort": "http" }]), &one, Ok(vec![0])),
            (json!([{ "port": 8000 }, { "port": 81, "targetPort": 9 }]), &one, Ok(vec![0])),
            (json!([{ "port": 80, "targetPort": 3000 }]), &one, Err("none of its ports")),
            (json!([{ "port": 80, "targetPort": "http" }]), &two, Ok(vec![0])),
            (json!([{ "port": 80 }, { "port": 81 }]), &two, Err("which of its ports")),
            (json!([{ "port": 8080 }]), &two, Err("leads to 8080 already")),
            (json!([{ "port": 53, "protocol": "UDP" }]), &two, Err("which of its ports")),
        ] {
            let found = choose(&service(&json!({ "ports": ports })), workload, &settings(), 8080);
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected), "{ports}"),
                Err(said) => {
                    assert!(found.as_ref().is_err_and(|error| error.contains(said)), "{ports}: {found:?}");
                }
            }
        }
        let headless = service(&json!({ "clusterIP": "None", "ports": [{ "port": 8000 }] }));
        assert!(choose(&headless, &one, &settings(), 8080).is_err_and(|error| error.contains("headless")));
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        let workload = workload(&[]);
        assert!(selects(&service(&json!({ "selector": { "app": "a" } })), &workload));
        assert!(!selects(&service(&json!({ "selector": { "app": "a", "tier": "x" } })), &workload));
        assert!(!selects(&service(&json!({ "selector": {} })), &workload));
        assert!(!selects(&service(&json!({})), &workload));
    }
}
