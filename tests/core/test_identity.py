"""Identity: every fact with its class, nothing secret, and never a failure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab import atomic, identity
from ftlab.plan import Decision, Plan
from ftlab.run import Run

MakePlan = Callable[..., Plan]


@pytest.fixture
def fields(planned: Run) -> dict[str, identity.Field]:
    return identity.collect(planned, planned.plan())


def test_every_field_has_a_value_and_a_class(fields: dict[str, identity.Field]) -> None:
    assert len(fields) > 60
    for name, field in fields.items():
        assert set(field) in ({"value", "class"}, {"value", "class", "reason"}), name
        assert field["class"] in ("bits", "numerics", "none"), name
    json.dumps(fields, allow_nan=False)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("driver", "550.1", "none"),  # trained on the CPU
        ("cpu.threads", 2, "bits"),
        ("gpu.name", ["NVIDIA H100"], "none"),
        ("gpu.capability", [[9, 0]], "none"),
        ("model.weights_sha256", "w" * 64, "numerics"),
        ("model.template_sha256", "p" * 64, "numerics"),
        ("model.revision", "c0ffee", "none"),
        ("data.store_sha256", "d" * 64, "numerics"),
        ("plan.hash", "f" * 64, "bits"),
        ("config.data.train_on", "completions", "none"),
        ("config.memory.budget", "auto", "none"),
        ("seed", 3407, "numerics"),
        ("config.optim.schedule", "linear", "numerics"),
        ("config.train.micro_batch_size", 4, "bits"),
        ("config.train.log_every", 1, "none"),
        ("config.model.name", "org/SmolLM2-135M-Instruct", "none"),
        ("config.launch.where", "local", "none"),
        ("decision.device", "cpu", "bits"),
        ("decision.compute_dtype", "fp32", "numerics"),
    ],
)
def test_values_and_classes(
    fields: dict[str, identity.Field], name: str, value: object, kind: str
) -> None:
    assert (fields[name]["value"], fields[name]["class"]) == (value, kind)


def test_choices_carry_their_reason(fields: dict[str, identity.Field]) -> None:
    assert fields["config.train.micro_batch_size"]["reason"] == "fits"
    assert fields["decision.device"]["reason"] == "no GPU is visible"
    assert "index.json" in fields["data.stream_sha256"]["reason"]
    assert fields["kernels.source_sha256"]["class"] == "bits"


def test_on_a_gpu_its_facts_count(planned: Run, make_plan: MakePlan) -> None:
    plan = make_plan()
    on_gpu = dataclasses.replace(plan, decisions={"device": Decision("cuda:0", "it is there")})
    measured = {"machine": {"driver": "999.9"}, "kernels": {"rms_norm": {"hash": "ab", "warps": 4}}}
    fields = identity.collect(planned, on_gpu, measured)
    assert fields["driver"] == {"value": "999.9", "class": "bits"}
    assert fields["gpu.multiprocessors"] == {"value": [132], "class": "bits"}
    assert fields["gpu.ecc"] == {"value": [True], "class": "none"}
    assert fields["cpu.threads"]["class"] == "none"
    compiled = fields["kernels.compiled.rms_norm"]
    assert compiled == {"value": {"hash": "ab", "warps": 4}, "class": "bits"}


def test_the_stream_hash_comes_from_the_batch_index(planned: Run) -> None:
    atomic.write_json(planned.data_dir / "index.json", {"sha256": "5" * 64})
    fields = identity.collect(planned, planned.plan())
    assert fields["data.stream_sha256"] == {"value": "5" * 64, "class": "numerics"}
    atomic.write_json(planned.data_dir / "index.json", {})
    fields = identity.collect(planned, planned.plan())
    assert fields["data.stream_sha256"]["value"] is None


def test_only_listed_variables_and_never_a_secret(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_NUM_THREADS": "2", "NVIDIA_TF32_OVERRIDE": "0",
        "PYTORCH_CUDA_ALLOC_CONF": "x", "TORCH_SOMETHING": "1", "MKL_CBWR": "AVX2",
        "CUDA_VISIBLE_DEVICES": "0",
    }  # fmt: skip
    hidden = {
        "HF_TOKEN": "hf_secret", "WANDB_API_KEY": "k", "TORCH_HUB_TOKEN": "hf_secret",
        "NCCL_AUTH": "hf_secret", "HOME": "/home/hf_secret", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    for name, value in {**recorded, **hidden}.items():
        monkeypatch.setenv(name, value)
    fields = identity.collect(planned, planned.plan())
    for name, value in recorded.items():
        assert fields[f"environment.{name}"] == {"value": value, "class": "bits"}
    assert not any(f"environment.{name}" in fields for name in hidden)
    assert "hf_secret" not in json.dumps(fields)


def test_git_commit_and_dirty_patch(
    planned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fields = identity.collect(planned, planned.plan())
    assert fields["git.commit"]["value"] is None
    assert "no git repository" in fields["git.commit"]["reason"]
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "m", "--allow-empty"]):
        if command[0] == "add":
            (tmp_path / "code.py").write_text("1\n")
            command = ["add", "code.py"]
        subprocess.run([*git, *command], check=True)
    clean = identity.collect(planned, planned.plan())
    assert len(clean["git.commit"]["value"]) == 40
    assert clean["git.dirty_patch_sha256"]["value"] is None
    (tmp_path / "code.py").write_text("2\n")
    dirty = identity.collect(planned, planned.plan())
    assert len(dirty["git.dirty_patch_sha256"]["value"]) == 64
    assert set(identity.changes(clean, dirty)) == {"git.dirty_patch_sha256"}


def test_without_git_nothing_fails(planned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    fields = identity.collect(planned, planned.plan())
    assert fields["git.commit"]["value"] is None


def test_lock_and_image(planned: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = tmp_path / "env.lock"
    lock.write_text("not-there==1.0 \\\n    --hash=sha256:0\n")
    monkeypatch.setenv("FTLAB_LOCK", str(lock))
    monkeypatch.setenv("FTLAB_IMAGE_DIGEST", "sha256:22")
    fields = identity.collect(planned, planned.plan())
    assert fields["lock.sha256"]["value"] == hashlib.sha256(lock.read_bytes()).hexdigest()
    assert fields["lock.sha256"]["reason"] == "FTLAB_LOCK"
    assert fields["lock.changed"]["value"] == {"not-there": "locked 1.0, missing"}
    assert "torch" in fields["lock.extra"]["value"]
    assert fields["image.digest"] == {"value": "sha256:22", "class": "bits"}
    monkeypatch.setattr(identity.pins, "find", lambda: None)
    monkeypatch.delenv("FTLAB_IMAGE_DIGEST")
    fields = identity.collect(planned, planned.plan())
    assert fields["lock.sha256"] == {"value": None, "class": "bits", "reason": "no lock is known"}
    assert "not in an image" in fields["image.digest"]["reason"]


def test_where_a_cache_lies_is_no_fact(planned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/cache/triton")
    monkeypatch.setenv("TORCH_HOME", "/t")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    fields = identity.collect(planned, planned.plan())
    assert {n for n in fields if n.startswith("environment.T")} >= {"environment.TRITON_INTERPRET"}
    assert "environment.TRITON_CACHE_DIR" not in fields
    assert "environment.TORCH_HOME" not in fields


def test_changes_name_before_now_and_class() -> None:
    before = {"a": {"value": 1, "class": "bits"}, "b": {"value": 1, "class": "none"}}
    now = {"a": {"value": 2, "class": "bits"}, "c": {"value": 3, "class": "numerics"}}
    assert identity.changes(before, now) == {
        "a": {"before": 1, "now": 2, "class": "bits"},
        "b": {"before": 1, "now": None, "class": "none"},
        "c": {"before": None, "now": 3, "class": "numerics"},
    }
