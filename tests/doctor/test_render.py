"""What people read: worst first, three fixes, where each runs, the answer to --for, the counts."""

from __future__ import annotations

from ftlab_doctor import fixplan, render
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, warn


def _named(*findings: Finding) -> list[Finding]:
    return [f.named(f"check.{i}", 1.0, "host") for i, f in enumerate(findings)]


FOUND = _named(
    warn("slow", fix="export A=1", blocks=("speed",)),
    fail("docker cannot", fix=Fix("sudo x", "root", "host"), blocks=("docker",)),
    fail("no driver", fix=[Fix("sudo apt install driver && sudo reboot", "reboot", "host"), "second"]),
    warn("other", fix="export B=1"),
    ok("fine"),
    skip("no question"),
)  # fmt: skip


def test_what_stops_training_stands_first_and_three_fixes_are_shown() -> None:
    text = render.human(FOUND, "a machine")
    heads = [line for line in text.splitlines() if line.startswith(("✗", "!"))]
    assert heads == ["✗ no driver", "✗ docker cannot", "! slow", "! other"]
    assert text.count("→") == render.MOST_FIXES
    assert "[root, reboot]" in text
    assert "2 failed · 2 warnings · 1 passed · 1 not asked here" in text
    assert "fine" not in text
    assert "fine" in render.human(FOUND, "a machine", verbose=True)


def test_a_fix_for_elsewhere_says_where() -> None:
    (found,) = _named(fail("x", fix=Fix("wsl --update", "root", "windows")))
    assert "→ wsl --update   [in Windows, root]" in render.human([found], "")


def test_the_answer_to_for_stands_before_the_counts() -> None:
    answer = Finding("", "ok", "run.yaml can run here: on cuda:0")
    lines = render.human(FOUND, "", answer=answer).splitlines()
    assert lines.index("✓ run.yaml can run here: on cuda:0") == len(lines) - 4


def test_no_colour_unless_asked() -> None:
    assert "\x1b" not in render.human(FOUND, "")
    assert "\x1b[31;1m" in render.human(FOUND, "", colour=True)


def test_the_plan_runs_what_can_be_run_here_and_comments_out_the_rest() -> None:
    lines = fixplan.script(FOUND).splitlines()
    assert "export A=1" in lines
    assert "sudo x" in lines
    assert "#$ sudo apt install driver && sudo reboot" in lines  # a reboot is for a person
    assert "#$ second" in lines  # only the first way is taken
    assert fixplan.script([]).endswith("# Nothing needs mending.\n")
    elsewhere = fixplan.script(_named(fail("x", fix=Fix("docker run FOLDER", "none", "host"))), "container")  # fmt: skip
    assert "#$ docker run FOLDER" in elsewhere
