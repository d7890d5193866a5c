"""Reading bundles: every byte is checked, nothing leaves the folder, and the run is the same."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab import manifest
from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab.reproduce import bundle, unbundle, verdict
from ftlab.reproduce.unbundle import BundleDamaged
from ftlab.run import Run

MakeRun = Callable[..., Run]
ADAPTER = "export/adapter/adapter_model.safetensors"
Held = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    return make_run("a")


@pytest.fixture
def path(run: Run, tmp_path: Path) -> Path:
    return bundle.write(run, tmp_path / "a.tar").path


def read(path: Path) -> Held:
    with tarfile.open(path, "r:") as tar:
        return [(m, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]


def write(path: Path, held: Held, *, listed: bool = False) -> None:
    """Write members as they are; with `listed`, bundle.json tells the truth about them."""
    if listed:
        head = json.loads(held[0][1])
        head["files"] = [
            {"name": m.name, "bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()}
            for m, d in held[1:]
        ]
        held = [(held[0][0], json.dumps(head).encode()), *held[1:]]
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in held:
            member.size = len(data) if member.type == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(data))


def change_list(path: Path, **values: Any) -> None:
    held = read(path)
    head = {**json.loads(held[0][1]), **values}
    write(path, [(held[0][0], json.dumps(head).encode()), *held[1:]])


def test_it_gives_the_verdicts_of_the_run(
    run: Run, path: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    there, made = unbundle.unpack(path, tmp_path / "there")
    assert (there.id, made) == ("a", True)
    assert unbundle.came_in_one(there)
    assert not unbundle.came_in_one(run)
    assert there.liveness() == "done"
    others = [make_run("b"), make_run("c", losses={3: 9.0}), make_run("d", weights=b"x")]
    words = []
    for other in others:
        direct, bundled = verdict.judge(run, other), verdict.judge(there, other)
        assert direct.to_json() == bundled.to_json()
        words.append(bundled.word)
    assert words == ["BITWISE", "NOT REPRODUCED", "NOT REPRODUCED"]


def test_a_bundle_of_the_unpacked_run_is_the_same(path: Path, tmp_path: Path) -> None:
    there, _ = unbundle.unpack(path, tmp_path / "there")
    assert bundle.write(there, tmp_path / "again.tar").path.read_bytes() == path.read_bytes()


def test_a_bundle_without_weights_is_judged_alike(
    run: Run, make_run: MakeRun, tmp_path: Path
) -> None:
    path = bundle.write(run, tmp_path / "a.tar", weights=False).path
    there, _ = unbundle.unpack(path, tmp_path / "there")
    assert not (there.path / ADAPTER).exists()
    assert verdict.judge(there, make_run("b")).word == "BITWISE"


def test_a_run_that_is_there_is_used(run: Run, path: Path, tmp_path: Path) -> None:
    assert unbundle.unpack(path, run.path.parent) == (run, False)
    there, _ = unbundle.unpack(path, tmp_path / "there")
    assert unbundle.unpack(path, tmp_path / "there") == (there, False)
    assert os.listdir(tmp_path / "there") == ["a"]


def test_another_run_of_that_name_stays(
    path: Path, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "there"
    (root / "a").mkdir(parents=True)
    there, made = unbundle.unpack(path, root)
    assert made
    assert there.id.startswith("a.")
    assert unbundle.unpack(path, root) == (there, False)
    there.manifest_path.write_text("{}")
    with pytest.raises(ConfigError, match="are other runs"):
        unbundle.unpack(path, root)
    assert os.listdir(root / "a") == []
    assert not list(root.glob(".new-*"))


def test_cut_anywhere_it_is_refused(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    assert len(data) % tarfile.RECORDSIZE == 0
    ends = {*range(0, len(data), 997), *range(len(data) - 3000, len(data) - 1, 500), len(data) - 1}
    whole = sum(512 + -(-len(d) // 512) * 512 for _, d in read(path))
    refused = 0
    for end in sorted(ends):
        path.write_bytes(data[:end])
        if end >= whole + 1024:
            continue  # of the padding, which holds nothing
        with pytest.raises(BundleDamaged, match=r"truncated|damaged|no bundle"):
            unbundle.unpack(path, tmp_path / "there")
        refused += 1
    assert refused > 20
    assert os.listdir(tmp_path / "there") == []


def test_any_byte_that_changed_is_noticed(path: Path, tmp_path: Path) -> None:
    """Where it is neither noticed nor padding, the run that came out would be another one."""
    data = path.read_bytes()
    for number, place in enumerate(range(3, len(data), 641)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        root = tmp_path / f"there{number}"
        try:
            made, _ = unbundle.unpack(path, root)
        except BundleDamaged:
            assert os.listdir(root) == []
            continue
        assert bundle.write(made, tmp_path / "again.tar").path.read_bytes() == data


@pytest.mark.parametrize("name", ["ledger.bin", ADAPTER])
def test_a_changed_file_with_a_matching_list_is_still_refused(
    path: Path, tmp_path: Path, name: str
) -> None:
    held = [(m, d[:-1] + b"?" if m.name == name else d) for m, d in read(path)]
    write(path, held, listed=True)
    with pytest.raises(BundleDamaged, match=f"{name} is not what its manifest sealed"):
        unbundle.unpack(path, tmp_path / "there")


@pytest.mark.parametrize(
    "name",
    ["../outside", "/tmp/outside", "export/../../outside", "export", "export/.hidden", "lock",
     "control/0001-stop.json", "launch.json", "export/a/", "export//a", "bundle.json",
     "export/a\n"],
)  # fmt: skip
def test_no_name_leads_elsewhere(path: Path, tmp_path: Path, name: str) -> None:
    held = read(path)
    write(path, [*held, (tarfile.TarInfo(name), b"x")], listed=True)
    with pytest.raises(BundleDamaged, match="is no file of a bundle"):
        unbundle.unpack(path, tmp_path / "there")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_no_member_is_a_link(path: Path, tmp_path: Path, kind: bytes) -> None:
    held = read(path)
    for member, _ in held:
        if member.name == "config.yaml":
            member.type, member.linkname = kind, "/etc/passwd"
    write(path, held)
    with pytest.raises(BundleDamaged, match=r"config\.yaml is no ordinary file"):
        unbundle.unpack(path, tmp_path / "there")


def test_what_the_list_does_not_name_is_refused(path: Path, tmp_path: Path) -> None:
    held = read(path)
    write(path, [*held, (tarfile.TarInfo("extra"), b"x")])
    with pytest.raises(BundleDamaged, match="more follows than its list names"):
        unbundle.unpack(path, tmp_path / "there")
    write(path, [held[0], held[2], held[1], *held[3:]])
    with pytest.raises(BundleDamaged, match=r"stands where .* belongs"):
        unbundle.unpack(path, tmp_path / "there")
    write(path, held[:-1])
    with pytest.raises(BundleDamaged, match=r"truncated: status\.json is missing"):
        unbundle.unpack(path, tmp_path / "there")
    write(path, [m for m in held if m[0].name != "plan.json"], listed=True)
    with pytest.raises(BundleDamaged, match=r"its list lacks plan\.json"):
        unbundle.unpack(path, tmp_path / "there")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"version": 99}, "written by a newer ftlab"),
        ({"version": "x"}, "cannot be used"),
        ({"format": "tar"}, "format 'tar'"),
        ({"run": "../up"}, r"run '\.\./up'"),
        ({"run": 7}, "run 7"),
        ({"files": [{"name": "plan.json", "bytes": -1, "sha256": "0" * 64}]}, "size or sha256"),
        ({"files": [{"name": "plan.json", "bytes": 1, "sha256": "../x"}]}, "size or sha256"),
        ({"files": [{"name": 3, "bytes": 1, "sha256": "0" * 64}]}, "cannot be used"),
        ({"files": None}, "cannot be used"),
    ],
)
def test_a_list_that_cannot_be_meant(
    path: Path, tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    change_list(path, **values)
    with pytest.raises(BundleDamaged, match=reason):
        unbundle.unpack(path, tmp_path / "there")


def test_a_name_listed_twice(path: Path, tmp_path: Path) -> None:
    files = json.loads(read(path)[0][1])["files"]
    change_list(path, files=[*files, files[0]])
    with pytest.raises(BundleDamaged, match="names a file twice"):
        unbundle.unpack(path, tmp_path / "there")


@pytest.mark.parametrize(
    ("name", "data"), [("status.json", b"{}"), ("plan.json", b"{}"), ("manifest.json", b"[]")]
)
def test_a_run_that_is_none(path: Path, tmp_path: Path, name: str, data: bytes) -> None:
    write(path, [(m, data if m.name == name else d) for m, d in read(path)], listed=True)
    with pytest.raises(BundleDamaged, match="holds no run that is done"):
        unbundle.unpack(path, tmp_path / "there")
    assert os.listdir(tmp_path / "there") == []


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x1f\x8b" + b"x" * 999, b"x" * 20480])
def test_another_file_is_no_bundle(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(BundleDamaged, match="is no bundle: `ftrun bundle RUN` writes one"):
        unbundle.unpack(path, tmp_path / "there")


def test_a_folder_that_cannot_be_written_is_said_first(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnfit, match="is a file, not a folder"):
        unbundle.unpack(path, tmp_path / "file")


def test_a_full_disk_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unbundle, "_take", take)
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        unbundle.unpack(path, tmp_path / "there")
    assert os.listdir(tmp_path / "there") == []


def test_hashes_of_the_unpacked_files_are_those_of_the_run(
    run: Run, path: Path, tmp_path: Path
) -> None:
    there, _ = unbundle.unpack(path, tmp_path / "there")
    for name in ("config.yaml", "plan.json", "manifest.json", "ledger.bin", ADAPTER):
        assert manifest.file_sha256(there.path / name) == manifest.file_sha256(run.path / name)
