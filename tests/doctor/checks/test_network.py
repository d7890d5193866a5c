"""Proxies, certificates and tokens by their settings; answers of the hub."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'env': {'HTTPS_PROXY': 'proxy:3128'}}, 'net.proxy', 'fail', 'no proxy address'),
    ('ubuntu-t4', {'env': {'HTTPS_PROXY': 'http://p:1', 'https_proxy': 'http://q:1'}}, 'net.proxy', 'warn', 'differ'),
    ('ubuntu-t4', {'env': {'ALL_PROXY': 'socks5h://p:1'}}, 'net.proxy', 'warn', 'SOCKS'),
    ('ubuntu-t4', {'env': {'ALL_PROXY': 'socks5h://p:1'}, 'packages': {'PySocks': '1.7.1'}}, 'net.proxy', 'ok', ''),
    ('ubuntu-t4', {'env': {'SSL_CERT_FILE': '/gone'}, 'files': {'$SSL_CERT_FILE': False}}, 'net.certificates', 'fail', 'not there'),
    ('ubuntu-t4', {'env': {'HF_TOKEN': '<empty>'}}, 'net.token', 'warn', 'empty'),
    ('ubuntu-t4', {'token': {'mode': '0o644'}}, 'net.token', 'warn', 'Other users'),
    ('ubuntu-t4', {'env': {'HF_HUB_OFFLINE': '1'}}, 'net.offline', 'ok', 'offline'),
    ('ubuntu-t4', {'env': {'HF_ENDPOINT': 'hf-mirror.example'}}, 'net.offline', 'fail', 'no address'),
    ('ubuntu-t4', {'probes': {'hub': {'out': {'status': 200, 'seconds': 0.2}}}}, 'net.hub', 'ok', '200'),
    ('ubuntu-t4', {'probes': {'hub': {'out': {'status': 407}}}}, 'net.hub', 'fail', 'password'),
    ('ubuntu-t4', {'probes': {'hub': {'out': {'status': 0, 'error': 'SSL certificate problem'}}}}, 'net.hub', 'fail', 'not trusted'),
    ('ubuntu-t4', {'probes': {'hub': {'out': {'status': 0, 'error': 'could not resolve host'}}}}, 'net.hub', 'warn', 'cannot be reached'),
    ('ubuntu-t4', {'probes': {'hub': {'out': {'missing': True}}}}, 'net.hub', 'unknown', 'curl'),
    ('ubuntu-t4', {'files': {'/etc/resolv.conf': False}}, 'net.dns', 'warn', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_the_network(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
