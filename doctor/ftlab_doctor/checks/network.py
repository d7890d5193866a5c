"""Proxies, certificates and the hub's token, from settings alone; --deep really asks the hub."""

from __future__ import annotations

import re
from typing import Any

from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check

PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")


@check("net.proxy", "Are the proxy settings well formed?")
def proxy(host: Host) -> Finding:
    """A scheme, a host, and the same in both spellings."""
    found = {name: value for name in PROXIES if (value := host.env(name))}
    if not found:
        return ok("no proxy")
    for name, value in found.items():
        if not re.match(r"(https?|socks5h?|socks4)://[^\s/]+/?\Z", value):
            return fail(
                f"{name} is no proxy address",
                observed=value,
                expected="http://host:port",
                evidence=[(name, value)],
                blocks=("download",),
                fix=f"export {name}=http://HOST:PORT",
            )
        if value.startswith("socks") and not (host.package("pysocks") or host.package("socksio")):
            return warn(
                f"{name} is a SOCKS proxy, which requests and httpx need a package for",
                observed=value,
                evidence=[(name, value)],
                blocks=("download",),
                fix="pip install pysocks 'httpx[socks]'",
            )
    for upper in ("HTTPS_PROXY", "HTTP_PROXY"):
        a, b = host.env(upper), host.env(upper.lower())
        if a and b and a != b:
            return warn(
                f"{upper} and {upper.lower()} differ: which one counts depends on the program",
                observed=f"{a} / {b}",
                blocks=("download",),
                evidence=[(upper, a), (upper.lower(), b)],
                fix=f"export {upper.lower()}=${upper}",
            )
    return ok(next(iter(found.values())))


@check("net.certificates", "Do the certificate settings name files that are there?")
def certificates(host: Host) -> Finding:
    """A stale SSL_CERT_FILE breaks every download."""
    named = [name for name in BUNDLES if host.env(name)]
    for name in named:
        if host.exists(f"${name}") is False:
            return fail(
                f"{name} names a file that is not there: every download fails",
                observed=str(host.env(name)),
                expected="an existing bundle",
                blocks=("download",),
                evidence=[(name, str(host.env(name)))],
                fix=f"unset {name}",
            )
    if named:
        return ok(", ".join(named))
    return ok("the defaults")


@check("net.token", "Is the hub's token well formed?")
def token(host: Host) -> Finding:
    """HF_TOKEN beats the saved one, even when it is empty or wrong."""
    values = {n: host.env(n) for n in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if host.env(n)}
    saved = host.section("token")
    for name, value in values.items():
        if value in ("<empty>", "<malformed>"):
            word = "empty" if value == "<empty>" else "no token of the hub (they begin with hf_)"
            return warn(
                f"{name} is {word}",
                observed=str(value),
                expected="hf_...",
                evidence=[(name, str(value))],
                blocks=("gated",),
                fix=f"unset {name} && hf auth login",
            )
    if saved.get("shape") == "malformed":
        return warn(
            "The saved token of the hub is malformed",
            observed=str(saved.get("path")),
            blocks=("gated",),
            fix="hf auth login",
            evidence=[("token", "malformed")],
        )
    if saved.get("mode") and int(str(saved["mode"]), 8) & 0o077:
        return warn(
            "Other users can read the saved token of the hub",
            observed=f"mode {saved['mode']}",
            expected="0o600",
            blocks=(),
            evidence=[(str(saved.get("path")), str(saved["mode"]))],
            fix=f"chmod 600 {saved.get('path')}",
        )
    return ok("set" if values or saved.get("shape") else "none: gated models cannot be loaded")


@check("net.offline", "Is the hub allowed to be asked?")
def offline(host: Host) -> Finding:
    """HF_HUB_OFFLINE and an endpoint of one's own are told, since they surprise later."""
    off = [
        n
        for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
        if (host.env(n) or "").upper() in ("1", "TRUE", "YES", "ON")
    ]
    endpoint = host.env("HF_ENDPOINT")
    if endpoint and not re.match(r"https?://", endpoint):
        return fail(
            "HF_ENDPOINT is no address",
            observed=endpoint,
            expected="https://...",
            evidence=[("HF_ENDPOINT", endpoint)],
            blocks=("download",),
            fix="unset HF_ENDPOINT",
        )
    if off:
        return ok(f"offline by {off[0]}: only what is in the cache can be loaded")
    return ok(endpoint or "online")


@check(
    "net.hub",
    "Does the hub answer?",
    ("net.proxy", "net.certificates", "net.offline", "platform.clock"),
)
def hub(host: Host) -> Finding:
    """Only with --deep: one request, its error turned into a cause."""
    probe = host.probe("hub")
    if probe is None:
        return skip("asked with --deep")
    out: dict[str, Any] = probe.get("out") or {}
    words, code = str(out.get("error", "")), out.get("status", 0)
    if probe.get("skipped"):
        return skip(str(probe["skipped"]))
    if code in (200, 301, 302, 307, 308):
        return ok(f"status {code} in {out.get('seconds', 0):.1f} s")
    if code == 407 or "407" in words:
        return fail(
            "The proxy wants a user and a password",
            observed="407 Proxy Authentication Required",
            blocks=("download",),
            evidence=[("curl", words or "407")],
            fix="export HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
        )
    if "certificate" in words.lower():
        return fail(
            "The certificate of the hub is not trusted: a proxy looks into TLS",
            observed=words[:120],
            blocks=("download",),
            evidence=[("curl", words[:160])],
            why="its own authority is not in the bundle that Python uses",
            fix=[
                Fix(
                    "export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt REQUESTS_CA_BUNDLE=$SSL_CERT_FILE"
                )
            ],
        )
    if out.get("missing"):
        return unknown("there is no curl to ask with")
    return warn("The hub cannot be reached from here: only what is in the cache can be loaded", observed=words[:120] or f"status {code}", blocks=("download",),
                evidence=[("curl", words[:160])], fix="export HF_HUB_OFFLINE=1  # or set HTTPS_PROXY")  # fmt: skip


@check("net.dns", "Can names be resolved at all?")
def dns(host: Host) -> Finding:
    """/etc/resolv.conf."""
    there = host.exists("/etc/resolv.conf")
    if there is None:
        return unknown("nobody looked")
    if there:
        return ok("/etc/resolv.conf")
    return warn("There is no /etc/resolv.conf: no name can be resolved", blocks=("download",), observed="missing",
                fix=Fix("echo 'nameserver 1.1.1.1' | sudo tee /etc/resolv.conf", "root"))  # fmt: skip
