"""Bodies on their way in: streamed, never collected."""

import hashlib
import subprocess
from uuid import uuid4

import pytest

from coach.testing import pattern
from support.raw import Reader
from support.wait import until


def client(proxy, protocol):
    return proxy.client if protocol == "h1" else proxy.h2_client()


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_a_file_of_a_form_arrives_whole(proxy, protocol):
    data = pattern(3_000_000)

    receipt = client(proxy, protocol).post("/api/uploads", files={"file": ("walk.mp4", data, "video/mp4")}).json()

    assert receipt == {
        "name": "walk.mp4",
        "type": "video/mp4",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("size", [0, 1, 65_537, 9_000_000])
def test_a_bare_body_arrives_whole(proxy, protocol, size):
    data = pattern(size)

    receipt = client(proxy, protocol).put("/api/uploads/a", content=data).json()

    assert (receipt["bytes"], receipt["sha256"]) == (size, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_the_backend_reads_the_first_part_before_the_client_sends_the_second(proxy, backend, protocol):
    path = f"/api/uploads/{uuid4()}"

    def body():
        yield b"a" * 1000
        # Nothing more is sent until the backend has the first part: a collecting proxy would wait for ever.
        until(lambda: [e["body_bytes"] for e in backend.seen(path)] == [1000], "the first part arrives")
        yield b"b" * 500

    receipt = client(proxy, protocol).put(path, content=body()).json()

    assert receipt["bytes"] == 1500


def test_a_length_that_the_client_knows_reaches_the_backend(proxy, backend):
    path = f"/api/uploads/{uuid4()}"

    proxy.client.put(path, content=b"hello")

    fields = dict(backend.seen(path)[0]["headers"])
    assert fields["content-length"] == "5"
    assert "transfer-encoding" not in fields


def test_a_client_that_waits_for_100_continue_gets_it(proxy):
    with proxy.connect(timeout_s=5) as sock:
        sock.sendall(
            b"PUT /api/uploads/a HTTP/1.1\r\nHost: app.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        reader = Reader(sock)
        assert reader.answer().status == 100
        sock.sendall(b"hello")
        answer = reader.answer()

    assert answer.status == 200
    assert b'"bytes":5' in answer.body


def test_curl_uploads_without_a_pause(proxy, tmp_path):
    file = tmp_path / "large.bin"
    file.write_bytes(pattern(2_000_000))

    done = subprocess.run(
        [
            "curl",
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--fail",
            "-T",
            file,
            f"{proxy.url}/api/uploads/large.bin",
            "-w",
            "\n%{time_total}",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )

    receipt, _, taken = done.stdout.rpartition("\n")
    assert '"bytes":2000000' in receipt
    assert float(taken) < 0.9, "curl waits one second for a 100 Continue that never comes"


def test_an_early_answer_ends_the_upload_and_leaves_no_bytes_behind(touchline, fake):
    # The backend refuses at once and never reads the body: what is left of it must not become a request.
    server = fake(
        lambda sock, request: (
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"),
            False,
        )[1],
        reads_bodies=False,
    )
    proxy = touchline(server)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: app.example\r\n\r\n"
    with proxy.connect(timeout_s=5) as sock:
        sock.sendall(
            b"PUT /api/uploads/a HTTP/1.1\r\nHost: app.example\r\nContent-Length: 200000\r\n\r\n" + b"x" * 1000
        )
        reader = Reader(sock)
        answer = reader.answer()
        try:
            sock.sendall(smuggled * 2)
        except ConnectionError:
            pass
        follow = reader.answer()

    assert answer.status in (403, 502)
    assert follow is None
    assert "/smuggled" not in server.targets()
