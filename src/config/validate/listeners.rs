//! Rules for addresses: no two listeners in one place, no loop, no open control.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Finding, doubles};
use crate::config::{BackendAddress, Config, Ingress, OnIngress, address::split_peer, path::YamlPath};

/// The most entries of `admin.peers`.
const PEERS: usize = 16;

pub(super) fn check(config: &Config, findings: &mut Vec<Finding>) {
    let listeners = listeners(config);
    for (index, (name, address)) in listeners.iter().enumerate() {
        for (earlier, other) in listeners.iter().take(index) {
            if is_same_place(*address, *other) {
                findings.push(
                    Finding::error(
                        path(name),
                        format!("`{name}` takes the port that `{earlier}` has ({other})"),
                    )
                    .hint("give each listener a port of its own")
                    .reads(path(earlier)),
                );
            }
        }
    }
    if let Some(ingress) = &config.ingress {
        ingress_addresses(ingress, &listeners, findings);
    } else if config.claude.is_none() {
        findings.push(
            Finding::warning(
                YamlPath::at("ingress"),
                "there is no `ingress` section, so no request is proxied",
            )
            .hint("the smallest one is `ingress: { backend: http://127.0.0.1:8000 }`"),
        );
    }
    operators(config, findings);
}

/// The listeners that will be opened, by the path of their address.
fn listeners(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let ingress = config.ingress.as_ref().map(|ingress| ("ingress.listen", ingress.listen));
    let claude = config.claude.as_ref().map(|claude| ("claude.listen", claude.listen));
    let admin = config.admin.on().map(|admin| ("admin.listen", admin.listen));
    let control = config.control.on().map(|control| ("control.listen", control.listen));
    [ingress, claude, admin, control].into_iter().flatten().collect()
}

fn path(name: &str) -> YamlPath {
    YamlPath::at(name)
}

/// Whether both cannot be bound at once. Port 0 takes a free port and so is never in the way.
fn is_same_place(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn ingress_addresses(ingress: &Ingress, listeners: &[(&str, SocketAddr)], findings: &mut Vec<Finding>) {
    let backend = path("ingress.backend");
    for (name, address) in listeners {
        if is_backend(&ingress.backend, *address) {
            let message = format!("the backend {} is `{name}` itself", ingress.backend);
            let hint = match *name {
                "ingress.listen" => "requests would run in a circle: name the port of the application",
                _ => "name the port of the application",
            };
            findings.push(Finding::error(backend.clone(), message).hint(hint).reads(path(name)));
        }
    }
    doubles(&ingress.hosts, &path("ingress.hosts"), findings);
    for (index, network) in ingress.trusted_proxies.iter().enumerate() {
        if network.is_everything() {
            findings.push(
                Finding::warning(
                    path("ingress.trusted_proxies").index(index),
                    format!("{network} trusts everyone, so each client can claim any address"),
                )
                .hint("name the networks of the load balancer or mesh"),
            );
        }
    }
}

/// Whether connecting to the backend would reach this listener.
fn is_backend(backend: &BackendAddress, listener: SocketAddr) -> bool {
    let BackendAddress::Tcp { host, port } = backend else { return false };
    let address = match host.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) if host.eq_ignore_ascii_case("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) => return false,
    };
    let is_here = address == listener.ip()
        || (listener.ip().is_unspecified() && address.is_loopback())
        || (address.is_unspecified() && listener.ip().is_loopback());
    *port == listener.port() && is_here
}

fn operators(config: &Config, findings: &mut Vec<Finding>) {
    if let Some(control) = config.control.on()
        && !control.listen.ip().is_loopback()
        && control.token.is_none()
    {
        findings.push(
            Finding::error(
                path("control.listen"),
                "`control` would be open to everyone who reaches this address",
            )
            .hint("listen on 127.0.0.1, or set `control.token`")
            .reads(path("control.token")),
        );
    }
    let Some(admin) = config.admin.on() else { return };
    doubles(&admin.hosts, &path("admin.hosts"), findings);
    doubles(&admin.peers, &path("admin.peers"), findings);
    for (index, peer) in admin.peers.iter().enumerate() {
        if let Err(fault) = split_peer(peer) {
            let hint =
                fault.hint.unwrap_or_else(|| "write NAME:PORT, such as my-app-headless:9090".to_owned());
            findings.push(
                Finding::error(path("admin.peers").index(index), fault.message)
                    .hint(hint.replace("http://", "")),
            );
        }
    }
    if admin.peers.len() > PEERS {
        let message = format!("`peers` has {} entries; at most {PEERS} are asked", admin.peers.len());
        findings.push(
            Finding::error(path("admin.peers"), message)
                .hint("name a headless Service, which stands for all its pods"),
        );
    }
    let words: Vec<String> = admin.on_ingress.iter().map(|word| word.as_str().to_owned()).collect();
    doubles(&words, &path("admin.on_ingress"), findings);
    if admin.readiness.path.is_some() && !admin.readiness.backend {
        findings.push(
            Finding::warning(path("admin.readiness.path"), "the path is never asked, as `backend` is false")
                .reads(path("admin.readiness.backend")),
        );
    }
    let Some(ingress) = &config.ingress else { return };
    for (index, route) in ingress.routes.iter().enumerate() {
        let is_taken = admin.on_ingress.iter().any(|page| match page {
            OnIngress::Performance => route.path.starts_with("/performance/"),
            OnIngress::Health => route.path == "/health",
        });
        if is_taken {
            findings.push(
                Finding::warning(
                    path("ingress.routes").index(index).key("path"),
                    format!("`{}` is answered by the proxy itself, so this route is never used", route.path),
                )
                .hint("see `admin.on_ingress`")
                .reads(path("admin.on_ingress")),
            );
        }
    }
}
