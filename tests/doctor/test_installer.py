"""pip commands land in the environment that was looked at."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab_doctor import installer
from ftlab_doctor.finding import Fix
from ftlab_doctor.host import Host

VENV = {"executable": "/v/bin/python", "prefix": "/v", "base_prefix": "/usr"}
OTHER = {"path": "/usr/bin/pip", "interpreter": "/usr/bin/python3"}


@pytest.mark.parametrize(
    ("python", "more", "wanted"),
    [
        (VENV | {"pip": {"path": "/v/bin/pip", "interpreter": ""}}, {}, "pip"),
        (VENV | {"pip": {"path": "/shims/pip", "interpreter": "/v/bin/python"}}, {}, "pip"),
        (VENV | {"pip": OTHER}, {"packages": [{"name": "pip", "version": "25", "location": "/v"}]}, "/v/bin/python -m pip"),
        (VENV | {"pip": OTHER, "venv": "home = /usr/bin\nuv = 0.5.1\n"}, {}, "uv pip --python /v/bin/python"),
        (VENV | {"pip": OTHER, "venv": "home = /usr/bin\n"}, {"programs": {"uv": "/bin/uv"}}, "uv pip --python /v/bin/python"),
        (VENV | {"pip": OTHER, "venv": "home = /usr/bin\n"}, {}, "pip --python /v/bin/python"),
        (VENV | {"pip": False}, {}, "/v/bin/python -m pip"),
        ({"executable": "/usr/bin/python3", "prefix": "/usr", "base_prefix": "/usr", "pip": OTHER}, {}, "pip"),
        ({}, {}, "pip"),
    ],
)  # fmt: skip
def test_what_stands_for_pip(python: dict[str, Any], more: dict[str, Any], wanted: str) -> None:
    assert installer.pip(Host({"python": python, **more})) == wanted


def test_uv_takes_its_own_words() -> None:
    host = Host({"python": VENV | {"pip": OTHER, "venv": "uv = 0.5.1\n"}})
    fix = Fix("pip uninstall -y a && pip install --no-cache-dir --force-reinstall 'b<2'", "none", "host")  # fmt: skip
    where = "--python /v/bin/python"
    assert installer.adapt(host, fix) == fix._replace(
        cmd=f"uv pip uninstall {where} a && uv pip install {where} --no-cache --force-reinstall 'b<2'"
    )
    assert installer.example(host) == f"uv pip install {where} ..."


@pytest.mark.parametrize("command", ["sudo apt install python3-pip", "unset PIP_USER", "see pip install docs"])  # fmt: skip
def test_other_commands_stay(command: str) -> None:
    host = Host({"python": VENV | {"pip": OTHER, "venv": "uv = 0.5.1\n"}})
    assert installer.adapt(host, Fix(command)) == Fix(command)
