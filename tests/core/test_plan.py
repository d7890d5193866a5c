"""resolve: every auto replaced with a reason, every reason to refuse at once, always the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ftlab import child, config, plan, rules
from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab.facts import Facts
from ftlab.plan import MEMORY_TERMS, Plan

Resolve = Callable[..., Plan]
DPO = ["method.kind=dpo"]
PAIRS = {"preference": True, "format": "preference"}
EVAL = ["data.eval_fraction=0.05"]
# Their "auto" is a value: the model's own scaling, and a template for chats but not for texts.
NAMED_AUTO = {"model.rope_scaling", "data.chat_template"}
UNUSED = {"launch.network"}  # without a container


@pytest.mark.parametrize("gpus", [(), ("t4",), ("v100",), ("a100",), ("4090",), ("h100",)])
@pytest.mark.parametrize(
    ("overrides", "data"),
    [
        ([], {}),
        (["adapter.kind=none"], {}),
        (DPO, PAIRS),
        (EVAL, {}),
        (["model.precision=nf4"], {}),
        ([], {"format": "text"}),
    ],
)
def test_every_auto_is_replaced_and_explained(
    resolve: Resolve, gpus: tuple[str, ...], overrides: list[str], data: dict[str, Any]
) -> None:
    made = resolve(overrides, gpus=gpus, data=data, evaluation={} if overrides == EVAL else None)
    for section, values in made.config.to_dict().items():
        for name, value in values.items():
            path = f"{section}.{name}"
            silent = NAMED_AUTO | UNUSED | set(rules.inactive(made.config))
            assert value != "auto" or path in silent, path
    assert all(decision.reason for decision in made.decisions.values())
    for name in ("compute_dtype", "device", "attention", "engine", "token_budget", "loss_scaling"):
        assert name in made.decisions
    for path, decision in made.decisions.items():
        if "." in path:
            section, name = path.split(".")
            assert getattr(getattr(made.config, section), name) == decision.value, path
    assert config.parse(config.dump(made.config)) == made.config
    assert tuple(made.memory) == MEMORY_TERMS
    assert made.total == sum(made.memory.values()) > 0
    assert made.seconds is not None
    assert 0 < made.seconds[0] < made.seconds[1]


def test_types_of_what_was_decided(resolve: Resolve) -> None:
    made = resolve()
    assert made.config.memory.checkpointing in ("on", "off")
    assert isinstance(made.config.model.max_length, int)
    assert isinstance(made.config.train.micro_batch_size, int)
    assert isinstance(made.config.optim.learning_rate, float)
    assert isinstance(made.config.data.packing, bool)
    assert made.config.launch.devices == []
    assert made.decided("device") == "cpu"
    assert made.steps == 75


def test_it_goes_to_json_and_back(resolve: Resolve) -> None:
    made = resolve(EVAL, gpus=("h100",), evaluation={})
    assert plan.from_json(json.loads(json.dumps(plan.to_json(made)))) == made


def test_an_older_plan_is_read(resolve: Resolve) -> None:
    value = plan.to_json(resolve())
    for name in ("seconds", "disk_bytes", "warnings", "version", "hash"):
        del value[name]
    value["unknown"] = 1
    read = plan.from_json(value)
    assert read.seconds is None
    assert read.version == 1


def test_it_is_pure(resolve: Resolve) -> None:
    assert resolve() == resolve()
    assert resolve().hash == resolve().hash


def test_all_reasons_at_once(resolve: Resolve) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(
            [
                *DPO,
                "model.max_length=100000",
                "adapter.target_modules=[q_prj]",
                "launch.devices=[3]",
            ],
            machine={"disk_free_bytes": 1000},
        )
    assert [problem.path for problem in caught.value.problems] == [
        "model.max_length", "method.kind", "adapter.target_modules", "launch.devices", "train.keep",
    ]  # fmt: skip


def test_only_the_machine_is_to_blame(resolve: Resolve) -> None:
    with pytest.raises(EnvironmentUnfit) as caught:
        resolve(["launch.devices=[1]"], gpus=("t4",), machine={"disk_free_bytes": 1000})
    assert "there is no GPU 1 (there are [0])" in str(caught.value)
    assert "train.keep" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_full_disk_is_refused_with_numbers(resolve: Resolve) -> None:
    with pytest.raises(EnvironmentUnfit, match=r"2 \+ 1 checkpoints of .* MiB .* are free"):
        resolve(machine={"disk_free_bytes": 50 << 20})


def test_the_plan_needs_no_heavy_module() -> None:
    code = (
        "import sys, ftlab.plan, ftlab.probe, ftlab.config; "
        "heavy = {'torch', 'transformers', 'numpy', 'datasets', 'textual', 'huggingface_hub'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=child.environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_presets_resolve(make_facts: Callable[..., Facts]) -> None:
    from ftlab import presets

    for name in presets.names():
        parsed = config.from_mapping(presets.mapping(name))
        data = {**PAIRS} if name == "dpo" else {}
        made = plan.resolve(parsed, make_facts(gpus=("h100",), data=data, evaluation=data))
        assert made.steps > 0
