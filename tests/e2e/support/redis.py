"""Real Redis servers on ports of their own, nothing kept on disk: one alone, with TLS, under Sentinels, or as a Cluster.

A test speaks to a server over its unix socket as the user `admin`, whatever it does to the port and to the other users.
"""

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from support.ports import free_port
from support.process import Process
from support.resp import Monitor, RedisClient, RedisError
from support.wait import until

PREFIX = "touchline:"
BASICS = [
    "bind 127.0.0.1",
    "protected-mode no",
    'save ""',
    "appendonly no",
    "enable-debug-command yes",
    "repl-diskless-sync-delay 0",
    "user admin on nopass ~* &* +@all",
]


def _program() -> str:
    found = shutil.which("redis-server")
    assert found, "redis-server is missing: run scripts/setup-test"
    return found


class RedisServer:
    """One redis-server. `lines` are added to its configuration; `lines_once` may be given to a later `start`."""

    def __init__(self, *lines: str, port: int | None = None, tls: "Certificates | None" = None) -> None:
        # Short, because the path of a unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.port = port or free_port()
        self.address = ("127.0.0.1", self.port)
        self.socket = str(self.folder / "s")
        self.tls = tls
        self._starts = 0
        self._clients: list[RedisClient] = []
        self.processes: list[Process] = []
        listen = [f"port {self.port}"]
        if tls:
            listen = [
                "port 0",
                f"tls-port {self.port}",
                f"tls-cert-file {tls.cert}",
                f"tls-key-file {tls.key}",
                f"tls-ca-cert-file {tls.ca}",
                f"tls-auth-clients {'yes' if tls.mutual else 'no'}",
            ]
        self._lines = [*BASICS, *listen, f"unixsocket {self.socket}", f"dir {self.folder}", *lines]
        self.start()

    @property
    def url(self) -> str:
        return f"{'rediss' if self.tls else 'redis'}://127.0.0.1:{self.port}"

    @property
    def name(self) -> str:
        return f"redis-{self.port}"

    @property
    def process(self) -> Process:
        return self.processes[-1]

    def log(self) -> str:
        """What all its processes wrote, for the report of a failed test."""
        return "\n".join(process.log() for process in self.processes)

    def start(self, *lines_once: str) -> None:
        """Starts the server, for the first time or again on the same port; returns when it accepts commands."""
        self._starts += 1
        file = self.folder / f"{self._starts}.conf"
        file.write_text("\n".join([*self._lines, *lines_once, ""]))
        name = f"redis-{self.port}-{self._starts}"
        self.processes.append(Process(name, [_program(), str(file)], self.folder))
        until(self._accepts, f"{name} accepts commands", deadline_s=10)

    def _accepts(self) -> bool:
        assert self.process.is_running(), f"redis-server ended at once:\n{self.process.log()}"
        try:
            with RedisClient(self.socket, ("admin", "-")) as client:
                client("PING")
            return True
        except (OSError, ConnectionError):
            return False
        except RedisError:
            return True  # LOADING: it is there, and says what it does.

    def client(self) -> RedisClient:
        """One more connection, past the port, with all rights."""
        client = RedisClient(self.socket, ("admin", "-"))
        self._clients.append(client)
        return client

    def run(self, *words):
        """One command over a connection of its own."""
        with RedisClient(self.socket, ("admin", "-")) as client:
            return client(*words)

    def monitor(self) -> Monitor:
        return Monitor(self.client())

    def names(self, pattern: str = "*") -> list[str]:
        """The names that exist, in order."""
        return sorted(name.decode() for name in self.run("KEYS", pattern))

    def entries(self, prefix: str = PREFIX) -> list[str]:
        """The names of stored answers, variants too."""
        return [name for name in self.names(f"{prefix}*") if name[len(prefix) :].startswith(("e:", "v:"))]

    def wait_for_entries(self, count: int, prefix: str = PREFIX, deadline_s: float = 5.0) -> list[str]:
        """The names of the entries, once there are this many: they are written behind the answers."""
        return until(
            lambda: (found := self.entries(prefix)) and len(found) >= count and found,
            f"{count} entries in Redis",
            deadline_s,
            every_s=0.02,
        )

    def kill(self) -> None:
        self.process.stop()

    def pause(self) -> None:
        """From now on it accepts connections, as the kernel does that, and answers nothing."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.signal(signal.SIGCONT)

    def drop_clients(self) -> None:
        """Closes every connection but that of this command."""
        with RedisClient(self.socket, ("admin", "-")) as client:
            for kind in ("normal", "pubsub"):
                client("CLIENT", "KILL", "TYPE", kind)

    def stop(self) -> None:
        try:
            for client in self._clients:
                client.close()
        finally:
            for process in self.processes:
                process.stop()
            shutil.rmtree(self.folder, ignore_errors=True)


class Sentinels:
    """A primary, a replica of it, and three Sentinels that agree on both."""

    MASTER = "mymaster"

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        self.sentinels: list[RedisServer] = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        primary = self._server()
        self._server(f"replicaof 127.0.0.1 {primary.port}")
        for _ in range(3):
            self.sentinels.append(
                _Sentinel(
                    f"sentinel monitor {self.MASTER} 127.0.0.1 {primary.port} 2",
                    f"sentinel down-after-milliseconds {self.MASTER} 500",
                    f"sentinel failover-timeout {self.MASTER} 3000",
                    f"sentinel parallel-syncs {self.MASTER} 1",
                )
            )
        until(self._agree, "the Sentinels know each other and the replica", deadline_s=30, every_s=0.1)

    def _server(self, *lines: str) -> RedisServer:
        server = RedisServer(*lines)
        self.servers.append(server)
        return server

    def _agree(self) -> bool:
        for sentinel in self.sentinels:
            words = sentinel.run("SENTINEL", "MASTER", self.MASTER)
            facts = dict(zip(words[::2], words[1::2], strict=True))
            if (facts[b"num-slaves"], facts[b"num-other-sentinels"], facts[b"flags"]) != (b"1", b"2", b"master"):
                return False
            replicas = sentinel.run("SENTINEL", "REPLICAS", self.MASTER)
            facts = dict(zip(replicas[0][::2], replicas[0][1::2], strict=True))
            if facts[b"master-link-status"] != b"ok" or facts[b"flags"] != b"slave":
                return False
        return True

    @property
    def url(self) -> str:
        return "redis://" + ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    def primary(self) -> RedisServer:
        """The server that the first Sentinel calls the primary now."""
        port = int(self.sentinels[0].run("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.MASTER)[1])
        return next(server for server in self.servers if server.port == port)

    def stop(self) -> None:
        for server in [*self.sentinels, *self.servers]:
            server.stop()


class _Sentinel(RedisServer):
    """redis-server as a Sentinel: it rewrites its file, and knows none of the settings of a store."""

    def __init__(self, *lines: str) -> None:
        self._sentinel_lines = lines
        super().__init__()

    def start(self, *lines_once: str) -> None:
        self._starts += 1
        file = self.folder / "sentinel.conf"
        lines = [f"port {self.port}", "bind 127.0.0.1", "protected-mode no", f"dir {self.folder}"]
        file.write_text("\n".join([*lines, *self._sentinel_lines, *lines_once, ""]))
        name = f"sentinel-{self.port}-{self._starts}"
        self.processes.append(Process(name, [_program(), str(file), "--sentinel"], self.folder))
        until(self._accepts, f"{name} accepts commands", deadline_s=10)

    def _accepts(self) -> bool:
        assert self.process.is_running(), f"the Sentinel ended at once:\n{self.process.log()}"
        try:
            return self.run("PING") == "PONG"
        except (OSError, ConnectionError):
            return False

    def run(self, *words):
        with RedisClient(self.address) as client:
            return client(*words)


class Cluster:
    """Three nodes without replicas that share the slots. Those that are left serve theirs when one is gone."""

    def __init__(self) -> None:
        self.nodes: list[RedisServer] = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        buses = []
        for _ in range(3):
            buses.append(free_port())
            self.nodes.append(
                RedisServer(
                    "cluster-enabled yes",
                    f"cluster-port {buses[-1]}",
                    "cluster-node-timeout 1000",
                    "cluster-require-full-coverage no",
                )
            )
        edges = [0, 5461, 10923, 16384]
        for number, node in enumerate(self.nodes):
            node.run("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.run("CLUSTER", "ADDSLOTSRANGE", edges[number], edges[number + 1] - 1)
        for node, bus in zip(self.nodes[1:], buses[1:], strict=True):
            self.nodes[0].run("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        until(self._agree, "the cluster is whole", deadline_s=20, every_s=0.05)

    def _agree(self) -> bool:
        whole = (b"cluster_state:ok", b"cluster_slots_ok:16384", b"cluster_known_nodes:3")
        facts = [node.run("CLUSTER", "INFO").split(b"\r\n") for node in self.nodes]
        return all(line in lines for lines in facts for line in whole)

    @property
    def url(self) -> str:
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class Certificates:
    """A private authority and a certificate of 127.0.0.1 from it. `mutual`: the server asks clients for one too."""

    def __init__(self, folder: Path, mutual: bool = False) -> None:
        self.mutual = mutual
        self.ca, self.ca_key = folder / "ca.pem", folder / "ca.key"
        self.cert, self.key = folder / "server.pem", folder / "server.key"
        self._openssl(
            *("req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=private authority", *self._new(self.ca_key)),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", self.ca),
        )
        request, extensions = folder / "server.csr", folder / "server.ext"
        extensions.write_text(
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
            "subjectAltName=IP:127.0.0.1,DNS:localhost\n"
        )
        self._openssl("req", "-new", "-nodes", "-subj", "/CN=redis", *self._new(self.key), "-out", request)
        self._openssl(
            *("x509", "-req", "-days", "2", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial"),
            *("-extfile", extensions, "-out", self.cert),
        )

    @staticmethod
    def _new(key: Path) -> list:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key]

    @staticmethod
    def _openssl(*words) -> None:
        done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
