"""A hub of a few data sets on localhost, enough for `datasets` to load from: run as a script.

    python fake_hub.py PORT_FILE

Serves org/good (JSON lines, a train and a test split), org/configs (two configurations), org/gated
(needs a login), org/script (only a script); everything else does not exist.
"""

from __future__ import annotations

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
configs:
- config_name: small
  data_files: small.jsonl
- config_name: large
  data_files: large.jsonl
---
"""
REPOSITORIES = {
    "org/good": {
        "README.md": "---\nlicense: mit\n---\n",
        "train.jsonl": '{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n',
        "test.jsonl": '{"text": "four"}\n',
    },
    "org/configs": {
        "README.md": CARD,
        "small.jsonl": '{"text": "s"}\n',
        "large.jsonl": '{"text": "l"}\n',
    },
    "org/script": {"README.md": "", "script.py": "print('never run')\n"},
    "org/gated": {"README.md": "", "train.jsonl": '{"text": "secret"}\n'},
}


class Hub(BaseHTTPRequestHandler):
    """Answers the requests that huggingface_hub makes for a data set."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        data = self.rfile.read(length)
        parts = self._parts()
        if parts[:2] == ["api", "datasets"] and "paths-info" in parts:
            files = REPOSITORIES["/".join(parts[2:4])]
            asked = json.loads(data)["paths"] if data.startswith(b"{") else []
            self._json([_entry(name, files[name]) for name in asked if name in files])
            return
        self._send(404, b"{}", {})

    def _parts(self) -> list[str]:
        return [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]

    def _answer(self, body: bool) -> None:
        parts = self._parts()
        api = parts[:2] == ["api", "datasets"]
        name = "/".join(parts[2:4] if api else parts[1:3])
        files = REPOSITORIES.get(name)
        if files is None or (not api and parts[0] != "datasets"):
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif name == "org/gated":
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
            self._send(401, b"{}", headers)
        elif api and "tree" in parts:
            self._json([_entry(path, text) for path, text in files.items()])
        elif api:
            listed = [{"rfilename": path} for path in files]
            self._json({"id": name, "sha": COMMIT, "siblings": listed, "private": False})
        else:
            self._file(files, "/".join(parts[5:]), body)

    def _file(self, files: dict[str, str], path: str, body: bool) -> None:
        if path not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        data = files[path].encode()
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        self._send(200, data, headers, body)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, code: int, data: bytes, headers: dict[str, str], body: bool = True) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(data)


def _entry(path: str, text: str) -> dict[str, object]:
    data = text.encode()
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Path(sys.argv[1]).write_text(str(server.server_port))
    server.serve_forever()
