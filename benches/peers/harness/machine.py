"""What the kernel knows: processor time and memory of process trees, how busy the rest of the machine is, machine facts."""

import os
import platform
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """Processor seconds of a set of processes. `total` has nanosecond resolution; the split comes in ticks of 10 ms."""

    total: float
    user: float
    system: float

    def __sub__(self, other):
        return Cpu(self.total - other.total, self.user - other.user, self.system - other.system)


def tree(root):
    """The process ids of `root` and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(int(entry))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, []))
    return sorted(found)


def cpu(pids):
    """User and system time so far of the given processes, threads that have ended included."""
    total = user = system = 0.0
    for pid in pids:
        fields = _stat(pid)
        if not fields:
            continue
        user += int(fields[11]) / TICKS
        system += int(fields[12]) / TICKS
        try:
            # The process's own CPU clock: the time that /proc/PID/stat shows in ticks, in nanoseconds (clock_getcpuclockid(3)).
            total += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            total += (int(fields[11]) + int(fields[12])) / TICKS
    return Cpu(total, user, system)


def memory(pids):
    """Resident and proportional set size of the given processes in MiB. The latter counts a shared page once."""
    rss = pss = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Rss:"):
                rss += int(line.split()[1])
            elif line.startswith("Pss:"):
                pss += int(line.split()[1])
    return rss / 1024, pss / 1024


def busy():
    """Processor seconds so far of the whole machine: (user and system, stolen by the hypervisor)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, steal = (int(fields[index]) / TICKS for index in (0, 1, 2, 7))
    return user + nice + system, steal


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def free_ports(count):
    """Ports on which nobody listens now, below the range from which the kernel takes ports for outgoing connections."""
    ports, held = [], []
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidate = 18000 + (os.getpid() * 37) % 8000
    while len(ports) < count:
        candidate += 1
        if candidate >= min(low, 65535) and low > 20000:
            candidate = 12000
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", candidate))
        except OSError:
            probe.close()
            continue
        held.append(probe)
        ports.append(candidate)
    for probe in held:
        probe.close()
    return ports


def facts():
    """What a reader needs to know about the machine, as (name, value) pairs."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    total = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    virtual = "hypervisor" in Path("/proc/cpuinfo").read_text()
    return [
        ("CPU", f"{model}, {cores()} cores{' (virtual machine)' if virtual else ''}"),
        ("Memory", f"{total} MiB"),
        ("System", f"{system}, kernel {platform.release()}"),
    ]


def first_line(*command):
    """The first non-empty line that a command prints, or an empty text."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")


def _stat(pid):
    """The fields of /proc/PID/stat after the name, which may itself hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
