"""Taking names, addresses and secrets out of facts, so that the same fact stays the same fact.

Every string of a snapshot passes through here, keys too. A name is replaced by the same stand-in
wherever it stands, so that comparisons (this UUID against that variable) still come out the same.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

# What a secret looks like, whatever it is called.
# (hf_transfer is a package: a token has capitals, digits, or is much longer.)
TOKENS = re.compile(
    r"\b(hf_(?:(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{6,}|[a-z]{20,})|api_org_[A-Za-z0-9]{6,}|sk-[A-Za-z0-9_-]{8,}|gh[pousr]_[A-Za-z0-9]{8,}|github_pat_\w{8,}"
    r"|glpat-[\w-]{8,}|xox[abprs]-[\w-]{8,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|AIza[\w-]{20,}|npm_\w{20,}|pypi-[\w-]{16,}"
    r"|dop_v1_\w{16,}|nvapi-[\w-]{8,}|r8_\w{16,}|eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?)"
)
LONG = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-f]{32,}|[0-9A-F]{32,})(?![0-9A-Za-z])")
PAIR = re.compile(
    r"((?:api[_-]?key|token|secret|passw(?:or)?d|pwd|bearer|authorization|credential)s?[\"']?\s*(?:[:=]|\s)\s*[\"']?)"
    r"(?!<)(?=[^\s,;\"'&]*[\d\W_])([^\s,;\"'&]{6,})", re.IGNORECASE,
)  # fmt: skip
WORDS = ("key", "token", "secret", "passw", "pwd", "bearer", "authorization", "credential")
URL = re.compile(
    r"\b([a-z][a-z0-9+.-]*://)([^\s/@\"']+@)?(\[[0-9a-fA-F:]+\]|[^\s/:\"'?#,;]+)?", re.IGNORECASE
)
UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
MAC = re.compile(  # also in the name of a network interface: enx0242ac11009f
    r"(?<![0-9a-fA-F:])(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}(?![0-9a-fA-F:])|(?<=\benx)[0-9a-f]{12}\b"
)
IPV6 = re.compile(
    r"(?<![\w:.])(?:(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|(?:[0-9a-fA-F]{1,4}:){1,6}(?::[0-9a-fA-F]{1,4}){1,6}"
    r"|(?:[0-9a-fA-F]{1,4}:){2,7}:|::(?:[0-9a-fA-F]{1,4}:)+[0-9a-fA-F]{1,4})(?![\w:])"
)
# Four numbers are an address unless they are the version in a file name, a pin or a wheel's name.
IPV4 = re.compile(
    r"(?<![\w.<>-])(?<![=<>~!]=)(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\w-]|\.\d)"
)
MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
HOMES = re.compile(
    r"(/home/|/Users/|/mnt/c/Users/|/export/home/|[A-Za-z]:\\Users\\)([^/\\\s:\"',*]+)"
)
REMOTE = re.compile(
    r"(?<![\w/.:-])([\w-]+(?:\.[\w-]+)+)(?=:/)|(?<=//)([\w.-]+)(?=/\S*\s+/\S+\s+cifs)"
)
SERIAL = re.compile(r"(serial(?:[ _-]?(?:number|no))?\W{1,4})([A-Za-z0-9-]{6,})", re.IGNORECASE)
# Public hosts that are worth knowing and tell nothing about anybody.
PUBLIC = re.compile(
    r"(?:127\.0\.0\.1|0\.0\.0\.0|(?:[\w-]+\.)*(?:huggingface\.co|hf\.co|pytorch\.org|nvidia\.com|github\.com|localhost))\Z",
    re.IGNORECASE,
)
COMMON = {
    "root",
    "user",
    "users",
    "nobody",
    "localhost",
    "home",
    "python",
    "docker",
    "nvidia",
    "torch",
    "container",
    "vm",
    "host",
    "lib",
    "usr",
    "bin",
    "tmp",
    "ubuntu",
    "debian",
    "linux",
    "admin",
    "test",
    "x",
}
VERSIONS = {"version", "driver", "cuda", "ptxas", "ptxas-blackwell", "override", "torch", "libc"}
VERSION = re.compile(r"\d+(\.\d+){0,4}([a-z]+\d*)?(\.post\d+)?(\.dev\d+)?(\+[\w.]+)?\Z")


class Redactor:
    """Replaces what must not leave; `removed` counts what was taken out, by kind."""

    def __init__(self, identity: dict[str, Any] | None = None) -> None:
        self.removed: Counter[str] = Counter()
        self._well: set[str] = set()  # strings in which nothing had to be replaced
        self._known: dict[tuple[str, str], str] = {}
        identity = identity or {}
        self._home = str(identity.get("home") or "")
        names = [("user", n) for n in identity.get("users", [])]
        for host in identity.get("hosts", []):
            names += [("host", part) for part in (host, host.split(".")[0])]
        named = {name: kind for kind, name in names if len(name) > 1 and name.lower() not in COMMON}
        self._named = named
        longest = sorted(named, key=len, reverse=True)
        joined = "|".join(re.escape(name) for name in longest)
        self._names = (
            re.compile(rf"(?<![A-Za-z0-9])(?:{joined})(?![A-Za-z0-9])", re.IGNORECASE)
            if joined
            else None
        )

    def facts(self, value: Any, field: str = "") -> Any:
        """A JSON value without what must not leave."""
        if isinstance(value, dict):
            if isinstance(value.get("name"), str) and self._released(
                value["name"], value.get("version")
            ):
                return {
                    **self.facts({k: v for k, v in value.items() if k != "version"}),
                    "version": value["version"],
                }
            return {self.text(str(k)): self.facts(v, str(k)) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.facts(item, field) for item in value]
        if isinstance(value, str):
            return (
                value
                if (field in VERSIONS and VERSION.match(value) and not IPV4.fullmatch(value))
                or self._pin(value, field)
                else self.text(value)
            )
        return value

    @staticmethod
    def _pin(value: str, field: str) -> bool:
        """A version of four numbers, where only a version can stand: nvidia's packages have them."""
        return field.startswith(("nvidia-", "cuda-")) and bool(VERSION.match(value))

    @staticmethod
    def _released(name: str, version: object) -> bool:
        """A package's version of four numbers: NVIDIA's are, others' only if no private network is."""
        if not isinstance(version, str) or not VERSION.match(version):
            return False
        private = re.match(r"(10|127|1\d\d|2\d\d)\.", version)
        return name.lower().startswith(("nvidia", "cuda", "cu")) or not private

    def text(self, text: str) -> str:
        """One string."""
        if len(text) < 3 or text in self._well:
            return text
        was = text
        if TOKENS.search(text):
            text = TOKENS.sub(lambda m: self._as("token", m[0], "<token>"), text)
        text = self._telling(text)
        text = self._addresses(text)
        text = self._homes(text)
        if ":/" in text or "cifs" in text:
            text = REMOTE.sub(lambda m: self._same("host", (m[1] or m[2]).lower()), text)
        if self._names:
            text = self._names.sub(self._name, text)
        if text == was:
            self._well.add(text)
        return text

    # Each pattern is tried only where a character or word stands that it cannot do without: most
    # of some thousand strings have none, and looking for a plain word is many times cheaper.
    def _telling(self, text: str) -> str:
        if "://" in text:
            text = URL.sub(self._url, text)
        lower = text.lower()
        if any(word in lower for word in WORDS):
            text = PAIR.sub(lambda m: m[1] + self._as("secret", m[2], "<secret>"), text)
        if "@" in text:
            text = MAIL.sub(lambda m: self._as("mail", m[0], "<mail>"), text)
        if text.count("-") > 3:
            text = UUID.sub(lambda m: self._same("uuid", m[0].lower()), text)
        if len(text) > 31:
            text = LONG.sub(lambda m: self._same("hash", m[0]), text)
        if "serial" in lower:
            text = SERIAL.sub(lambda m: m[1] + self._as("serial", m[2], "<serial>"), text)
        return text

    def _addresses(self, text: str) -> str:
        if text.count(":") + text.count("-") > 4 or "enx" in text:
            text = MAC.sub(lambda m: self._same("mac", m[0].lower()), text)
        if text.count(":") > 1:
            text = IPV6.sub(lambda m: self._same("ip", m[0].lower()), text)
        if text.count(".") > 2:
            text = IPV4.sub(self._address, text)
        return text

    def _homes(self, text: str) -> str:
        if self._home and self._home not in ("/", "") and self._home in text:
            text = re.sub(
                re.escape(self._home) + r"(?![\w.-])", lambda m: self._as("home", m[0], "~"), text
            )
        if "home/" not in text and "Users" not in text:
            return text
        return HOMES.sub(
            lambda m: (
                m[0]
                if m[2].startswith("<") or m[2] == "*"
                else m[1] + self._same("user", m[2].lower())
            ),
            text,
        )

    def _name(self, match: re.Match[str]) -> str:
        kind = next(k for n, k in self._named.items() if n.lower() == match[0].lower())
        return self._same(kind, match[0].lower())

    def _url(self, match: re.Match[str]) -> str:
        scheme, credentials, host = match[1], match[2] or "", match[3] or ""
        if credentials:
            credentials = self._as("credentials", credentials, "<credentials>@")
        if (
            host
            and not host.startswith("<")
            and not PUBLIC.match(host)
            and scheme.lower() not in ("file://", "unix://")
        ):
            host = self._same("host", host.lower())
        return scheme + credentials + host

    def _address(self, match: re.Match[str]) -> str:
        if match[0] in ("127.0.0.1", "0.0.0.0"):
            return match[0]
        return self._same("ip", match[0])

    def _as(self, kind: str, was: str, stands: str) -> str:
        if was == stands:
            return was
        self.removed[kind] += 1
        return stands

    def _same(self, kind: str, name: str) -> str:
        if name.startswith("<"):
            return name
        self.removed[kind] += 1
        number = sum(1 for known, _ in self._known if known == kind) + 1
        stand_in = (
            f"{number:08x}-0000-0000-0000-000000000000" if kind == "uuid" else f"<{kind}{number}>"
        )
        return self._known.setdefault((kind, name), stand_in)


def snapshot(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts without names, addresses and secrets, and what was removed."""
    redactor = Redactor(facts.get("identity"))
    clean: dict[str, Any] = redactor.facts({k: v for k, v in facts.items() if k != "identity"})
    told = dict(clean.get("redacted") or {})
    for kind, count in redactor.removed.items():
        told[kind] = told.get(kind, 0) + count
    clean["redacted"] = dict(sorted(told.items()))
    return clean
