"""The dynamic loader's order, on small made-up hosts."""

from __future__ import annotations

from typing import Any

from ftlab_doctor import loader
from ftlab_doctor.host import Host

SITE = "/venv/lib/python3.11/site-packages"
TORCH, CUDA = f"{SITE}/torch/lib", f"{SITE}/nvidia/cuda_runtime/lib"


def _host(elf: dict[str, Any], dirs: dict[str, Any], **facts: Any) -> Host:
    base: dict[str, Any] = {"packages": [{"name": "torch", "version": "2", "location": SITE}]}
    return Host({**base, "elf": elf, "libraries": {"dirs": dirs}, **facts})


def _cache(*lines: str) -> dict[str, Any]:
    return {"ldconfig": {"rc": 0, "out": "\n".join(lines), "err": ""}}


def test_rpath_comes_before_the_variable_and_runpath_after_it() -> None:
    needing = {"needed": ["libcudart.so.12"]}
    dirs = {CUDA: {"libcudart.so.12": "libcudart.so.12"}, "/opt": {"libcudart.so.12": "libcudart.so.12.0"}}  # fmt: skip
    for kind, way in (("rpath", "rpath"), ("runpath", "LD_LIBRARY_PATH")):
        elf = {f"{TORCH}/libc10.so": {**needing, kind: [CUDA]}}
        found = loader.torch_loads(_host(elf, dirs, env={"LD_LIBRARY_PATH": "/opt"}))["libcudart.so.12"]  # fmt: skip
        assert found.way == way
    assert found.real == "/opt/libcudart.so.12.0"


def test_the_rpath_of_who_loads_serves_what_is_loaded() -> None:
    """DT_RPATH is inherited, DT_RUNPATH is not."""
    second = {f"{TORCH}/liba.so": {"needed": ["libcudart.so.12"]}}
    dirs = {TORCH: {"liba.so": "liba.so"}, CUDA: {"libcudart.so.12": "libcudart.so.12"}}
    first = {f"{TORCH}/libc10.so": {"needed": ["liba.so"], "rpath": [TORCH, CUDA]}}
    assert loader.torch_loads(_host(first | second, dirs))["libcudart.so.12"].way == "rpath"
    first = {f"{TORCH}/libc10.so": {"needed": ["liba.so"], "runpath": [TORCH, CUDA]}}
    assert loader.torch_loads(_host(first | second, dirs))["libcudart.so.12"].path == ""


def test_the_cache_and_then_the_default_folders() -> None:
    lines = ("libx.so.1 (libc6) => /lib32/libx.so.1", "libx.so.1 (libc6,x86-64) => /opt/libx.so.1", "libx.so.1 (libc6,x86-64) => /late/libx.so.1")  # fmt: skip
    host = _host({}, {"/usr/lib": {"liby.so": "liby.so.2"}}, commands=_cache(*lines))
    assert loader.cache(host)["libx.so.1"] in ("/opt/libx.so.1", "/lib32/libx.so.1")
    assert loader.find(host, "liby.so").real == "/usr/lib/liby.so.2"
    assert loader.find(host, "liby.so").way == "default"
    assert loader.find(host, "nowhere.so") == loader.Loaded("nowhere.so", "", "", "", "")


def test_a_circle_of_needs_ends() -> None:
    elf = {f"{TORCH}/libc10.so": {"needed": ["liba.so"], "rpath": [TORCH]}, f"{TORCH}/liba.so": {"needed": ["libc10.so"]}}  # fmt: skip
    dirs = {TORCH: {"liba.so": "liba.so", "libc10.so": "libc10.so"}}
    assert set(loader.torch_loads(_host(elf, dirs))) == {"libc10.so", "liba.so"}


def test_an_empty_part_of_the_variable_is_the_working_folder() -> None:
    assert loader.search_path(Host({"env": {"LD_LIBRARY_PATH": "/a::/b"}})) == ["/a", ".", "/b"]
    assert loader.version_in("/x/libcudnn.so.8.9.2") == "8.9.2"
    assert loader.version_in("/x/libcudnn.so") == ""
