"""Facts go to JSON and come back exactly; versions may differ."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ftlab import facts
from ftlab.facts import DataFacts, Facts, Gpu, Machine, ModelFacts

FULL = Facts(
    machine=Machine(
        platform="Linux", cpu="x", cpu_count=2, threads=1, cpu_bf16=False, memory_bytes=8,
        memory_free_bytes=4, disk_free_bytes=2, driver="535", cuda="12.1",
        gpus=(Gpu(0, "T4", (7, 5), 16, 15, ecc=True), Gpu(1, "H100", (9, 0), 80, 79)),
        versions={"torch": "2.4.1"},
    ),
    model=ModelFacts(
        name="m", path="/m", revision="", architecture="LlamaForCausalLM", family="llama",
        spec={"ropes": [{"dim": 4}], "windows": [None, 3]}, parameters=10,
        linear_shapes={"q_proj": (4, 4, 2)}, embedding_parameters=4, stored_dtype="bf16",
        stored_bytes=20, quantization="", max_positions=128, has_chat_template=True,
        hashes={"config": "ab"},
    ),
    data=DataFacts(
        source="d", format="alpaca", format_reason="because", store="/s", sha256="cd", rows=3,
        skipped={"empty": 1}, percentiles={"50": 7}, histogram=((8, 1), (16, 2)), over={"8": 2},
    ),
)  # fmt: skip


def test_round_trip_through_json_text() -> None:
    text = json.dumps(facts.to_json(FULL))
    assert facts.from_json(Facts, json.loads(text)) == FULL


def test_eval_data_and_none_round_trip() -> None:
    value = facts.to_json(FULL)
    assert value["eval_data"] is None
    value["eval_data"] = value["data"]
    assert facts.from_json(Facts, value).eval_data == FULL.data


def test_a_newer_version_with_unknown_keys_is_read() -> None:
    value = facts.to_json(FULL)
    value["future"] = 1
    value["machine"]["future"] = {"a": [1]}
    assert facts.from_json(Facts, value) == FULL


def test_an_older_version_with_missing_keys_takes_defaults() -> None:
    value = facts.to_json(FULL)
    del value["machine"]["gpus"], value["data"]["histogram"], value["eval_data"]
    read = facts.from_json(Facts, value)
    assert read.machine.gpus == ()
    assert read.data.histogram == ()


def test_an_optional_tuple_is_rebuilt_as_a_tuple() -> None:
    assert facts.from_json(_Optional, {"span": [1, 2]}).span == (1, 2)
    assert facts.from_json(_Optional, {"span": None}).span is None


@dataclass(frozen=True)
class _Optional:
    span: tuple[int, int] | None
