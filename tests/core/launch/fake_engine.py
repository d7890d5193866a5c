"""An imitated engine on a unix socket: containers are local processes, faults are made to order.

It speaks as much of Docker's language as the launcher uses. `faults` maps "VERB path-part" to
(status, message); `podman`, `rootless` and `gpu` change what it says of itself.
"""

from __future__ import annotations

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TRAINER = Path(__file__).parents[1] / "fake_trainer.py"
IMAGE = {"Id": "sha256:" + "1" * 64, "RepoDigests": ["ftlab@sha256:" + "2" * 64], "RepoTags": []}


class Engine(socketserver.ThreadingUnixStreamServer):
    """The server, and everything a test may look at or change."""

    daemon_threads = True

    def __init__(self, socket: Path) -> None:
        super().__init__(str(socket), Handler)
        self.address = f"unix://{socket}"
        self.images: dict[str, dict[str, Any]] = {"ftlab": IMAGE, IMAGE["Id"]: IMAGE}  # type: ignore[dict-item]
        self.containers: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.faults: dict[str, tuple[int, str]] = {}
        self.pull: list[dict[str, Any]] = []
        self.info: dict[str, Any] = {"SecurityOptions": [], "Runtimes": {"runc": {}}}
        self.made = 0
        self.podman = False
        self.unseen = False  # as in a virtual machine: no pid of this machine
        self.oom = False
        self.late = 0  # inspections that still call an ended container running

    def __enter__(self) -> Engine:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        for process in self.processes.values():
            process.kill()
            process.wait()
        for entry in self.containers.values():
            if "log" in entry:
                entry["log"].close()
        self.server_close()

    def find(self, name: str) -> dict[str, Any] | None:
        """A container by id or name."""
        for entry in self.containers.values():
            if entry["Id"].startswith(name) or entry["Name"] == f"/{name}":
                return entry
        return None

    def state(self, entry: dict[str, Any]) -> dict[str, Any]:
        """The state as an inspection tells it."""
        process = self.processes.get(entry["Id"])
        if process is None:
            return {"Status": "created", "Running": False, "Pid": 0, "ExitCode": 0}
        code = process.poll()
        running = code is None
        if not running and self.late > 0:
            self.late, running = self.late - 1, True
        return {
            "Status": "running" if running else "exited", "Running": running,
            "Pid": 0 if self.unseen or not running else process.pid,
            "ExitCode": 0 if code is None else (128 - code if code < 0 else code),
            "OOMKilled": self.oom and not running, "Error": "",
        }  # fmt: skip

    def begin(self, entry: dict[str, Any]) -> None:
        """Start the command as a process of this machine."""
        command = list(entry["Config"]["Cmd"])
        if "ftlab.train" in command:
            at = command.index("ftlab.train")
            command[at - 2 : at + 1] = [sys.executable, str(TRAINER)]
        else:
            command = [sys.executable if word == "python" else word for word in command]
        given = dict(pair.split("=", 1) for pair in entry["Config"]["Env"])
        kept = {n: v for n, v in os.environ.items() if n.startswith(("FAKE_", "PYTHON", "PATH"))}
        entry["log"] = open(f"{self.server_address}.{entry['Id'][:6]}", "w+b")  # noqa: SIM115
        self.processes[entry["Id"]] = subprocess.Popen(
            command, env={**kept, **given, "PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL,
            stdout=entry["log"], stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Engine

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.route("GET")

    def do_POST(self) -> None:
        self.route("POST")

    def do_DELETE(self) -> None:
        self.route("DELETE")

    def route(self, verb: str) -> None:
        split = urlsplit(self.path)
        path = unquote(re.sub(r"^/v[\d.]+", "", split.path))
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for part, (status, message) in self.server.faults.items():
            if f"{verb} {path}".startswith(part):
                return self.send(status, {"message": message})
        words = path.strip("/").split("/")
        if words[0] == "containers":
            return self.container(verb, words[1:], query, json.loads(body) if body else {})
        if words[0] == "images":
            return self.image(verb, path)
        parts = [{"Name": "Podman Engine" if self.server.podman else "Engine"}]
        answers: dict[str, Any] = {
            "_ping": "OK", "version": {"ApiVersion": "1.41", "Components": parts},
            "info": self.server.info,
        }  # fmt: skip
        return self.send(200, answers[words[0]])

    def image(self, verb: str, path: str) -> None:
        if verb == "POST":
            lines = "".join(json.dumps(line) + "\n" for line in self.server.pull)
            return self.send(200, lines.encode())
        found = self.server.images.get(path.removeprefix("/images/").removesuffix("/json"))
        if found is None:
            return self.send(404, {"message": "No such image"})
        return self.send(200, found)

    def container(
        self, verb: str, words: list[str], query: dict[str, str], body: dict[str, Any]
    ) -> None:
        engine = self.server
        if words == ["create"]:
            name = query.get("name") or f"made-{len(engine.containers)}"
            engine.made += 1
            key = f"{engine.made:04x}" + "0" * 60
            entry = {
                "Id": key, "Name": f"/{name}", "Config": body, "Created": "",
                "HostConfig": body["HostConfig"], "Image": IMAGE["Id"],
            }  # fmt: skip
            engine.containers[key] = entry
            return self.send(201, {"Id": key, "Warnings": []})
        if words == ["json"]:
            listed = [{"Id": key} for key in engine.containers]
            return self.send(200, listed)
        entry_found = engine.find(words[0])
        if entry_found is None:
            return self.send(404, {"message": "No such container"})
        return self.one(verb, words, entry_found)

    def one(self, verb: str, words: list[str], entry: dict[str, Any]) -> None:
        engine, process = self.server, self.server.processes.get(entry["Id"])
        action = words[1] if len(words) > 1 else "remove"
        if action == "json":
            return self.send(200, {k: v for k, v in entry.items() if k != "log"} | {
                "State": engine.state(entry)})  # fmt: skip
        if action == "start":
            engine.begin(entry)
        elif action == "stop" and process is not None:
            process.terminate()
            process.wait(10)
        elif action == "wait" and process is not None:
            return self.send(200, {"StatusCode": process.wait(30)})
        elif action == "logs" and process is not None:
            process.wait(30)
            entry["log"].seek(0)
            data = entry["log"].read()
            frame = b"\x01\0\0\0" + len(data).to_bytes(4, "big") + data if data else b""
            return self.send(200, frame)
        elif action == "remove":
            if process is not None:
                process.kill()
                process.wait()
                entry["log"].close()
            del engine.containers[entry["Id"]]
        return self.send(204, b"")

    def send(self, status: int, value: Any) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
