//! The container that is put beside a backend. The chart renders the same; a test holds them together.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::{
    settings::{Mode, Settings},
    yaml::Value,
};

/// The name of the container.
pub(super) const NAME: &str = "touchline";
/// The volumes, which only this container mounts.
pub(super) const VOLUMES: [&str; 2] = ["touchline-config", "touchline-secrets"];

const CONFIG: &str = "/etc/touchline/proxy.yaml";
const BINARY: &str = "/usr/local/bin/touchline";

/// The container. Names of ports that another container has are left out.
pub(super) fn container(settings: &Settings, taken: &BTreeSet<String>) -> Value {
    let (planes, sizes) = (&settings.planes, &settings.sizes);
    let mut container = Map::new();
    let mut set = |key: &str, value: Json| drop(container.insert(key.to_owned(), value));
    set("name", NAME.into());
    set("image", settings.image.as_str().into());
    if let Some(policy) = &sizes.pull_policy {
        set("imagePullPolicy", policy.as_str().into());
    }
    if settings.mode == Mode::Native {
        set("restartPolicy", "Always".into());
    }
    set("args", json!(["run", "--config", CONFIG]));
    let ports = [(planes.ingress, "ingress"), (Some(planes.admin), "admin")];
    let ports = ports.into_iter().filter_map(|(port, name)| port.map(|port| (port, name)));
    let ports = ports.map(|(port, name)| match taken.contains(name) {
        true => json!({ "containerPort": port }),
        false => json!({ "name": name, "containerPort": port }),
    });
    set("ports", ports.collect());
    set("env", env(settings));
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": { "path": path, "port": planes.admin },
            "periodSeconds": period,
            "failureThreshold": failures,
        })
    };
    set("startupProbe", probe("/livez", 1, 30));
    set("readinessProbe", probe("/readyz", 2, 2));
    set("livenessProbe", probe("/livez", 10, 6));
    let lifecycle = lifecycle(settings);
    if !lifecycle.is_empty() {
        set("lifecycle", Json::Object(lifecycle));
    }
    set("resources", json!({ "requests": sizes.requests, "limits": sizes.limits }));
    set("terminationMessagePolicy", "FallbackToLogsOnError".into());
    set(
        "securityContext",
        json!({
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        }),
    );
    let [config, secrets] = VOLUMES;
    set(
        "volumeMounts",
        json!([
            { "name": config, "mountPath": "/etc/touchline", "readOnly": true },
            { "name": secrets, "mountPath": "/etc/touchline-secrets", "readOnly": true },
        ]),
    );
    Json::Object(container).into()
}

/// The volumes. Files of the Secret can be read by all in the container: they belong to root, and the proxy is another.
pub(super) fn volumes(settings: &Settings) -> [Value; 2] {
    let [config, secrets] = VOLUMES;
    [
        json!({ "name": config, "configMap": { "name": settings.config_map } }).into(),
        json!({
            "name": secrets,
            "secret": { "secretName": settings.secret, "defaultMode": 0o444, "optional": true },
        })
        .into(),
    ]
}

fn env(settings: &Settings) -> Json {
    let mut env = vec![
        json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }),
        json!({
            "name": "TOUCHLINE_MEMORY_LIMIT",
            "valueFrom": { "resourceFieldRef": { "resource": "limits.memory" } },
        }),
    ];
    env.extend(settings.sizes.env.iter().map(|(name, value)| json!({ "name": name, "value": value })));
    Json::Array(env)
}

fn lifecycle(settings: &Settings) -> Map<String, Json> {
    let mut hooks = Map::new();
    if settings.mode == Mode::Container {
        // Containers start in their order, each after the hook of the one before.
        let url = format!("http://127.0.0.1:{}/livez", settings.planes.admin);
        hooks.insert("postStart".to_owned(), exec(&[BINARY, "probe", "--wait", "30s", &url]));
    }
    if settings.planes.control.is_some() {
        let wait = format!("{}s", settings.sizes.wait.as_secs());
        let mut command = vec![BINARY, "drain", "--wait", &wait];
        if !settings.planes.is_control_usual {
            command.extend(["--config", CONFIG]);
        }
        hooks.insert("preStop".to_owned(), exec(&command));
    }
    hooks
}

fn exec(command: &[&str]) -> Json {
    json!({ "exec": { "command": command } })
}
