"""Nothing that names a person, a machine or a secret survives in what leaves."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path
from typing import Any

import doctor_fixtures as fixtures
import pytest

from ftlab_doctor import cli, redact
from ftlab_doctor.collect import system

USER, HOST = "zaphodbee", "heartofgold7"
SECRETS = {
    "token": "hf_" + "AbCdEfGh" * 4, "key": "sk-" + "a1B2c3D4" * 4, "github": "ghp_" + "Zz9" * 12, "wandb": "0123456789abcdef" * 2 + "01234567",
    "user": USER, "host": HOST, "fqdn": f"{HOST}.corp.example", "ip": "203.0.113.77", "private": "192.168.17.23",
    "ip6": "2001:db8:85a3::8a2e:370:7334", "uuid": "GPU-6f1d3a52-9c1e-4b7a-8f00-1234567890ab", "mac": "02:42:ac:11:00:9f", "interface": "enx0242ac11009f",
    "mail": f"{USER}@corp.example", "password": "s3cr3t-Pass",
}  # fmt: skip
SHAPES = (
    "{}", "see {} there", "at={};", '"{}"', "/srv/{}/x", "a\n{}\nb", "[{}]", "key: {}, other", "({})",
)  # fmt: skip


def _planted(kind: str, value: str, rng: random.Random) -> str:
    if kind == "password":
        return rng.choice(
            [
                f"http://{USER}:{value}@proxy.corp.example:3128",
                f"password={value}",
                f"https://x:{value}@10.1.2.3/a",
            ]
        )
    return rng.choice(SHAPES).format(value)


def _plant(value: Any, rng: random.Random, text: str) -> Any:
    """The secret behind every string and in new keys, at every depth."""
    if isinstance(value, dict):
        planted = {k: _plant(v, rng, text) for k, v in value.items()}
        return planted
    if isinstance(value, list):
        return [_plant(item, rng, text) for item in value]
    if isinstance(value, str):
        return f"{value} {text}"
    return value


def _facts(rng: random.Random, kind: str) -> dict[str, Any]:
    facts = fixtures.host("docker-a100")
    text = _planted(kind, SECRETS[kind], rng)
    keep = {k: facts[k] for k in ("format", "version")}
    planted: dict[str, Any] = _plant(facts, rng, text) | keep
    planted["files"][f"/home/{USER}/{SECRETS['token']}"] = text
    planted["identity"] = {
        "users": [USER],
        "hosts": [HOST, f"{HOST}.corp.example"],
        "home": f"/home/{USER}",
    }
    return planted


@pytest.mark.parametrize("kind", SECRETS)
def test_nothing_planted_in_any_fact_survives(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the snapshot, in --json, in --report, in the text and in the fix plan."""
    seeds = (random.Random(i) for i in range(100))
    monkeypatch.setattr("ftlab_doctor.collect.collect", lambda lock=None: _facts(next(seeds), kind))
    texts = []
    for command in (["snapshot"], ["--json"], ["--report", "-"], ["-v"], ["--fix-plan"]):
        cli.main(command)
        texts.append(capsys.readouterr().out)
    assert all(len(text) > 100 for text in texts)
    for name in {kind, "token", "user"}:
        secret = _bare(name)
        assert not [i for i, text in enumerate(texts) if secret in text.lower()], (name, secret)


def _bare(kind: str) -> str:
    return SECRETS[kind].removeprefix("GPU-").removeprefix("enx").lower()


def test_no_shape_hides_a_secret() -> None:
    """Every kind in every shape, in one string; the test above takes the whole way with one shape each."""
    redactor = redact.Redactor({"users": [USER], "hosts": [HOST, f"{HOST}.corp.example"]})
    for kind in SECRETS:
        for seed in range(3 * len(SHAPES)):
            text = _planted(kind, SECRETS[kind], random.Random(seed))
            assert _bare(kind) not in redactor.text(text).lower(), text


def test_random_tokens_of_every_kind() -> None:
    rng = random.Random(7)
    letters = string.ascii_letters + string.digits
    redactor = redact.Redactor()
    for prefix, length in (
        ("hf_", 34),
        ("sk-", 40),
        ("ghp_", 36),
        ("glpat-", 20),
        ("nvapi-", 40),
        ("AKIA", 16),
    ):
        for _ in range(50):
            token = prefix + "".join(
                rng.choices(
                    string.ascii_uppercase + string.digits if prefix == "AKIA" else letters,
                    k=length,
                )
            )
            for shape in SHAPES:
                assert token not in redactor.text(shape.format(token))


@pytest.mark.parametrize(
    "text",
    [
        "nvidia_cublas_cu12-12.1.3.1.dist-info", "nvidia-cublas-cu12==12.1.3.1", "libcudnn.so.8.9.2.26", "torch 2.4.1+cu121", "at::Tensor c10::Error",
        "hf_transfer", "hf_xet", "enp5s0", "0000:65:00.0", "http://127.0.0.1:80", "https://huggingface.co/api", "/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01", "12:34:56",
    ],
)  # fmt: skip
def test_versions_and_names_of_libraries_stay(text: str) -> None:
    assert redact.Redactor().text(text) == text


def test_a_package_keeps_its_version_of_four_numbers() -> None:
    facts = {
        "packages": [{"name": "nvidia-cublas-cu12", "version": "12.1.3.1"}],
        "locks": {"a": {"nvidia-cublas-cu12": "12.1.3.1"}},
    }
    assert {k: v for k, v in redact.snapshot(facts).items() if k != "redacted"} == facts


def test_the_same_thing_stays_the_same_thing() -> None:
    uuid = "6f1d3a52-9c1e-4b7a-8f00-1234567890ab"
    clean = redact.snapshot(
        {
            "env": {"CUDA_VISIBLE_DEVICES": f"GPU-{uuid}"},
            "nvml": {
                "gpus": [
                    {"uuid": f"GPU-{uuid}"},
                    {"uuid": "GPU-00000000-9c1e-4b7a-8f00-1234567890ab"},
                ]
            },
        }
    )
    first, second = (gpu["uuid"] for gpu in clean["nvml"]["gpus"])
    assert clean["env"]["CUDA_VISIBLE_DEVICES"] == first != second


@pytest.mark.parametrize("user", ["ftlab", "root", "jovyan", "torch"])
def test_a_user_with_an_everyday_name_leaves_the_facts_as_they_are(user: str) -> None:
    """In the project's own image the user is called ftlab, and so is the package."""
    facts = fixtures.host("in-docker-a100") | {
        "identity": {"users": [user], "hosts": [], "home": "/cache/home"}
    }
    clean = redact.snapshot(facts)
    assert clean["packages"] == facts["packages"]
    assert "user" not in clean["redacted"]


def test_redacting_twice_changes_nothing() -> None:
    once = redact.snapshot(_facts(random.Random(1), "fqdn"))
    twice = redact.snapshot(once)
    assert {k: v for k, v in twice.items() if k != "redacted"} == {
        k: v for k, v in once.items() if k != "redacted"
    }


def test_this_machine_is_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["snapshot"])
    text = capsys.readouterr().out
    identity = system.identity()
    assert "identity" not in json.loads(text)
    for name in (*identity["users"], *identity["hosts"]):
        if len(name) > 3 and name not in redact.COMMON:
            assert name not in text
