"""Which GPUs, how many processes, and what is refused with what to do instead."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab.plan import Plan, render

Resolve = Callable[..., Plan]
TWO = ["launch.devices=2"]
CPU = ["launch.devices=[]", "launch.processes=2"]


def test_a_count_takes_the_first_of_one_kind(resolve: Resolve) -> None:
    made = resolve(TWO, gpus=("t4", "h100", "h100"))
    assert made.config.launch.devices == [1, 2]
    assert made.world_size == 2
    assert made.decided("device") == "cuda:0"
    assert "each of 2 processes sees one NVIDIA H100" in made.decisions["device"].reason


def test_one_is_an_ordinary_run(resolve: Resolve) -> None:
    one = resolve(["launch.devices=1"], gpus=("h100", "h100"))
    auto = resolve(gpus=("h100", "h100"))
    assert one.config.launch.devices == [0] == auto.config.launch.devices
    assert one.world_size == auto.world_size == 1
    assert "world_size" not in one.decisions
    assert one.hash == auto.hash


def test_several_are_part_of_the_result(resolve: Resolve) -> None:
    two = resolve(TWO, gpus=("h100", "h100"))
    named = resolve(["launch.devices=[1, 0]"], gpus=("h100", "h100"))
    assert two.hash == named.hash  # which ones changes nothing
    assert two.hash != resolve(gpus=("h100", "h100")).hash


@pytest.mark.parametrize(
    ("overrides", "gpus", "words"),
    [
        (TWO, ("h100",), "2 GPUs were asked for (there are 1 x NVIDIA H100"),
        (TWO, ("t4", "h100"), "there are 1 x Tesla T4, 1 x NVIDIA H100"),
        (TWO, (), "launch.devices: [] with launch.processes trains on the CPU"),
        (["launch.devices=[0, 7]"], ("h100", "h100"), "there is no GPU 7 (there are [0, 1]"),
        (["launch.devices=[0, 1]"], ("t4", "h100"), "unlike GPUs would come to unlike weights"),
    ],
)
def test_devices_that_are_not_there(
    resolve: Resolve, overrides: list[str], gpus: tuple[str, ...], words: str
) -> None:
    with pytest.raises(EnvironmentUnfit) as caught:
        resolve(overrides, gpus=gpus)
    assert words in str(caught.value)


def test_a_step_with_too_few_micro_batches(resolve: Resolve) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(
            ["launch.devices=4", "train.batch_size=8", "train.micro_batch_size=4",
             "data.packing=false"],
            gpus=("h100",) * 4,
        )  # fmt: skip
    said = str(caught.value)
    assert "makes 2 micro-batch(es) of 4, and 4 processes need one each" in said
    assert "lower it to 2, raise train.batch_size to 16, or train on 2" in said


def test_the_automatic_micro_batch_leaves_one_for_each(resolve: Resolve) -> None:
    batch = ["train.batch_size=8", "data.packing=false"]
    for ranks in (2, 8):
        made = resolve([*batch, f"launch.devices={ranks}"], gpus=("h100",) * 8)
        assert -(-8 // int(made.config.train.micro_batch_size)) >= ranks


def test_the_plan_says_what_each_needs_and_what_is_sent(resolve: Resolve) -> None:
    one, two = resolve(gpus=("h100", "h100")), resolve(TWO, gpus=("h100", "h100"))
    assert two.memory["context"] > one.memory["context"]
    text = render(two, 100)
    assert "on each of GPUs 0, 1" in text
    assert "gradients sent by each of 2 processes" in text
    assert "each of" not in render(one, 100).replace("micro-batch", "")
    assert one.seconds is not None
    assert two.seconds is not None
    assert two.seconds[1] < one.seconds[1]


def test_processes_divide_the_machine(resolve: Resolve) -> None:
    one, two = resolve(["launch.devices=[]"]), resolve(CPU)
    assert two.world_size == 2
    assert "for each of 2 processes" in two.decisions["memory.budget"].reason
    budgets = [int(made.config.memory.budget.removesuffix("MiB")) for made in (one, two)]
    assert budgets[1] == pytest.approx(budgets[0] / 2, abs=1)
    assert "on each of 2 processes on the CPU" in " ".join(render(two, 100).split())
