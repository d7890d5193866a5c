"""Fit marks of models."""

from __future__ import annotations

import dataclasses
from types import ModuleType

from ftlab_tui.new import fits


def test_marks_follow_the_machine(core: ModuleType) -> None:
    cpu = core.fake_facts().machine
    marks = fits.marks(core.LLAMA_8B, cpu)
    room = fits.room(cpu)
    assert set(marks.need) == {"LoRA", "full"}
    assert marks.mark("full", room) == "no"
    assert marks.mark("QLoRA", room) == "-"
    gpu = core.fake_facts(gpus=("4090",)).machine
    marks = fits.marks(core.LLAMA_8B, gpu)
    shown = [marks.mark(way, fits.room(gpu)) for way in ("QLoRA", "LoRA", "full")]
    assert shown[0] == "yes"
    assert shown[2] == "no"
    assert fits.room(None) is None
    assert dataclasses.replace(marks).mark("LoRA", None) == "-"


def test_an_unknown_architecture_is_refused_by_name() -> None:
    assert "Weird" in fits.marks({"architectures": ["WeirdForCausalLM"]}, None).refused
