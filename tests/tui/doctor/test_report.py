"""A doctor's report as findings."""

from __future__ import annotations

import json

import pytest

from ftlab.errors import FtlabError
from ftlab_tui.doctor import report

ROWS = [
    {"id": "disk-free", "status": "ok", "title": "Disk"},
    {"id": "driver-missing", "status": "fail", "title": "No driver", "observed": "none",
     "fix": [{"cmd": "reinstall it", "needs": "root", "where": "host"}], "blocks": ["train"],
     "evidence": [{"file": "/proc/driver", "value": "absent"}]},
    {"id": "shm-small", "status": "warn", "title": "Little shared memory"},
]  # fmt: skip


def test_the_worst_comes_first() -> None:
    found = report.read(json.dumps({"findings": ROWS}))
    assert [item.status for item in found] == ["fail", "warn", "ok"]
    assert found[0].fixes == (("reinstall it", "root host"),)
    assert found[0].evidence == ("/proc/driver: absent",)
    assert report.summary(found) == "1 fail, 1 warn, 1 ok"


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(FtlabError, match="no report"):
        report.read("Segmentation fault")
