//! What the machine says about itself: the pod's name, the CPU quota of its container, and who started the process.

use std::fs;

/// The name of the pod or host, for logs and pages.
#[must_use]
pub fn host_name() -> String {
    // The kubelet sets the variable; elsewhere the kernel knows.
    let from_kernel = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = super::load::variable("HOSTNAME").or_else(from_kernel).unwrap_or_default();
    name.trim().to_owned()
}

/// True in a pod of Kubernetes: the kubelet tells every container where the API server is.
#[must_use]
pub fn is_in_kubernetes() -> bool {
    super::load::variable("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty())
}

/// Where the service manager that started the process wants to hear how far it is (`sd_notify(3)`): a path, or a name in the
/// abstract namespace behind an `@`.
#[must_use]
pub fn notify_socket() -> Option<String> {
    super::load::variable("NOTIFY_SOCKET").filter(|name| !name.is_empty())
}

/// The container's CPU quota in whole cores, rounded up; none without a quota. The node's own cores say nothing about
/// what a container may use of them.
#[must_use]
pub fn cpu_quota() -> Option<usize> {
    let from_v2 = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok().and_then(|text| quota_v2(&text));
    from_v2.or_else(|| {
        let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/cpu/{name}")).ok();
        quota_v1(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
    })
}

/// cgroup v2: `max 100000` or `150000 100000`.
fn quota_v2(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    quota_v1(quota, period)
}

/// cgroup v1: a quota of -1 means none.
fn quota_v1(quota: &str, period: &str) -> Option<usize> {
    let quota: usize = quota.trim().parse().ok()?;
    let period: usize = period.trim().parse().ok().filter(|period| *period > 0)?;
    Some(quota.div_ceil(period).max(1))
}

#[cfg(test)]
mod tests {
    use super::{quota_v1, quota_v2};

    #[test]
    fn a_quota_is_rounded_up_to_whole_cores() {
        assert_eq!(quota_v2("150000 100000\n"), Some(2));
        assert_eq!(quota_v2("50000 100000"), Some(1));
        assert_eq!(quota_v2("max 100000"), None);
        assert_eq!(quota_v1("-1", "100000"), None);
        assert_eq!(quota_v1("200000\n", "100000\n"), Some(2));
    }
}
