"""The app in a browser: who is let in, where it listens, what a page gets, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab_tui import cli, serving

SECONDS = 60.0  # a page may wait for its app, on a slow machine


@pytest.mark.parametrize(
    ("host", "origin", "given", "words"),
    [
        ("localhost:8000", None, "secret", ""),
        ("127.0.0.1:8000", None, "secret", ""),
        ("[::1]:8000", None, "secret", ""),
        ("localhost:8000", "http://localhost:8000", "secret", ""),
        ("localhost:8000", None, "", "with its token"),
        ("localhost:8000", None, "sécret", "with its token"),
        ("evil.example:8000", None, "secret", "not evil.example"),
        ("[::1", None, "secret", "not None"),
        ("localhost:8000", "http://evil.example", "secret", "another site"),
        ("localhost:8000", "http://localhost:9999", "secret", "another site"),
        ("localhost:8000", "null", "secret", "another site"),
    ],
)
def test_who_is_let_in(host: str, origin: str | None, given: str, words: str) -> None:
    refused = serving.may_enter(host, origin, given, "secret")
    assert (words in refused) if words else not refused


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_wrong_port_is_refused(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--port", str(port)]) == ConfigError.exit_code
    said = capsys.readouterr().err
    assert f"--port {port}: a port is a number from 1 to 65535" in said
    assert said.count("\n") == 1


def test_what_to_install_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["serve"]) == EnvironmentUnfit.exit_code
    said = capsys.readouterr().err
    assert "pip install textual-serve" in said
    assert said.count("\n") == 1


def test_why_a_port_cannot_be_had() -> None:
    assert "is in use" in serving._refused(OSError(98, "Address already in use"), 8000)
    assert "for root alone" in serving._refused(OSError(13, "Permission denied"), 80)
    assert "no route" in serving._refused(OSError(113, "no route"), 8000)


@pytest.fixture
def port() -> int:
    """One that nobody has."""
    if importlib.util.find_spec("textual_serve") is None:
        if os.environ.get("FTLAB_TEST_COMPLETE") == "1":
            pytest.fail("FTLAB_TEST_COMPLETE=1 and textual-serve is not installed", pytrace=False)
        pytest.skip("textual-serve is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def start(port: int, folder: Path) -> subprocess.Popen[str]:
    # Tracing of children would slow down what answers; nothing of core is measured here.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    env["XDG_STATE_HOME"] = str(folder)
    code = "import sys; from ftlab_tui.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, "serve", "--port", str(port), "--runs-dir",
         str(folder / "runs")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=folder,
        start_new_session=True,
    )  # fmt: skip


@pytest.fixture
def server(port: int, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(process, the address that it printed)."""
    process = start(port, tmp_path)
    try:
        assert process.stderr is not None
        assert select.select([process.stderr], [], [], SECONDS)[0]
        yield process, process.stderr.readline().strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def listening(port: int) -> list[str]:
    """The addresses, as the kernel writes them in hexadecimal, that listen on a port."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and local.endswith(f":{port:04X}"):
                found.append(local.split(":")[0])
    return found


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == pid:  # its process group
                found.append(int(path.parent.name))
    return found


async def until(socket: Any, pattern: str) -> None:
    seen, deadline = "", time.monotonic() + SECONDS
    while not re.search(pattern, seen):
        message = await socket.receive(timeout=max(0.1, deadline - time.monotonic()))
        assert isinstance(message.data, (bytes, str)), (message, seen[-500:])
        if isinstance(message.data, bytes):
            seen += message.data.decode("utf-8", "replace")


async def visit(process: subprocess.Popen[str], address: str) -> None:
    """Every request that a browser makes, and what others must not be given."""
    import aiohttp

    base = address.partition("/?")[0]
    foreign = {"Origin": "http://evil.example"}
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as stranger:
        assert (await stranger.get(f"{base}/")).status == 403
        assert (await stranger.get(f"{base}/?token=guessed")).status == 403
        assert (await stranger.get(address, headers={"Host": "evil.example"})).status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await stranger.ws_connect(f"{base}/ws")
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as person:
        page = await person.get(address)
        assert page.status == 200
        assert f"ws://{base.partition('//')[2]}/ws" in await page.text()
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        assert (await person.get(f"{base}/static/js/textual.js")).status == 200
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await person.ws_connect(f"{base}/ws", headers=foreign)
        async with person.ws_connect(
            f"{base}/ws?width=100&height=30", headers={"Origin": base}
        ) as page_socket:
            await until(page_socket, "Quick start")
            await page_socket.send_json(["focus"])  # as the page does when it is in front
            await page_socket.send_json(["stdin", "2"])
            await until(page_socket, "ftrun train")
            assert len(children(process.pid)) > 1
            process.send_signal(signal.SIGINT)
            while not page_socket.closed:
                await page_socket.receive(SECONDS)
            await asyncio.to_thread(process.wait, SECONDS)


def test_a_page_shows_the_app_and_ends_with_the_server(
    server: tuple[subprocess.Popen[str], str], port: int, tmp_path: Path
) -> None:
    process, address = server
    assert address.startswith(f"http://localhost:{port}/?token=")
    addresses = listening(port)
    assert addresses
    assert set(addresses) <= {"0100007F", "00000000000000000000000001000000"}
    second = start(port, tmp_path)
    out, said = second.communicate(timeout=SECONDS)
    assert (second.returncode, out) == (EnvironmentUnfit.exit_code, "")
    assert said == f"error: port {port} is in use; another one: `ftui serve --port {port + 1}`\n"
    asyncio.run(visit(process, address))
    assert process.returncode == 0
    assert process.stdout is not None
    assert process.stdout.read() == ""
    waiting_for = functools.partial(children, process.pid)
    deadline = time.monotonic() + SECONDS
    while waiting_for() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert waiting_for() == []
