"""The plan of a run, made again: same settings, same model and data by their hashes, here.

Standard library only; the probe runs in a child.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

from ftlab import config as configs
from ftlab import identity
from ftlab.errors import ConfigError, EnvironmentUnfit, Problem
from ftlab.facts import Facts
from ftlab.plan import Plan, resolve
from ftlab.planning.identity import BY_CONTENT, HARMLESS
from ftlab.reproduce.noise import Variant
from ftlab.reproduce.verdict import Verdict, before_the_run
from ftlab.run import Run
from ftlab.schema import Auto, LaunchSection, RunConfig

Collect = Callable[[RunConfig], Facts]
# Choices that say where things lie or what else is written, never what is trained.
MAY_DIFFER = HARMLESS | BY_CONTENT


def config_again(
    original: Run, overrides: Sequence[str] = (), where: str | None = None
) -> RunConfig:
    """The config of `original` with every automatic choice as it was made then.

    Args:
        overrides: `a.b=c`, of settings that name places only: they cannot make it another run.
        where: launch.where; by default as it was.
    Raises:
        ConfigError: an override would make it another run.
    """
    wrong = [o for o in overrides if not _allowed(o.partition("=")[0].strip())]
    if wrong:
        raise ConfigError(
            [Problem(o.partition("=")[0], "this would be another run", _hint()) for o in wrong]
        )
    was = original.plan().config
    where = where or was.launch.where
    launch = was.launch if where == "docker" else LaunchSection()
    launch = dataclasses.replace(
        launch, devices=_devices(was), processes=was.launch.processes,
        where=where,  # type: ignore[arg-type]
    )  # fmt: skip
    asked = dataclasses.replace(
        was, launch=launch, memory=dataclasses.replace(was.memory, budget="auto")
    )
    for override in overrides:
        asked = _with(asked, override)
    return asked


def _devices(was: RunConfig) -> Auto | int | list[int]:
    """As many GPUs as it had, whichever they are here."""
    devices = was.launch.devices
    if not isinstance(devices, list) or len(devices) == 1:
        return "auto"
    return len(devices) or []


def plan_again(
    original: Run, asked: RunConfig, collect: Collect, variant: Variant | None = None
) -> Plan:
    """The plan for `asked` on this machine, with as many CPU threads as the original had.

    Args:
        variant: another order of sums, to calibrate a noise floor.
    Raises:
        ConfigError, EnvironmentUnfit, TryLater: as probe and plan find them.
    """
    was, change = original.plan(), variant or Variant()
    if change.micro_batch_size is not None:
        asked = _with(asked, f"train.micro_batch_size={change.micro_batch_size}")
    facts = collect(asked)
    if not was.config.launch.devices:
        threads = change.threads or was.facts.machine.threads
        machine = dataclasses.replace(facts.machine, threads=threads)
        facts = dataclasses.replace(facts, machine=machine)
    return resolve(asked, facts)


def hopeless(original: Run, plan: Plan) -> Verdict | None:
    """The verdict INCOMPARABLE where it is plain before a step is made; None to go on."""
    nowhere = Run(original.path / "none")  # nothing of the new run is on the disk yet
    return before_the_run(original, "a run here", identity.collect(nowhere, plan))


def check_foreign(asked: RunConfig, overrides: Sequence[str], where: str | None) -> None:
    """Refuse what would run the code of whoever made a bundle, unless it was asked for here.

    Raises:
        ConfigError: the config trusts the model's own code, or names a container image.
    """
    trust = "model.trust_remote_code"
    said = any(o.partition("=")[0].strip() == trust for o in overrides)
    if asked.model.trust_remote_code and not said:
        raise ConfigError(
            [Problem(trust, "the bundle would run code that comes with its model",
                     f"allow it by --set {trust}=true")]
        )  # fmt: skip
    if asked.launch.where == "docker" and where is None:
        image = asked.launch.image or "the image of ftlab"
        raise ConfigError(
            [Problem("launch.where", f"the bundle was trained in a container of {image}",
                     "--in docker starts that image here, --in local runs without one")]
        )  # fmt: skip


@contextlib.contextmanager
def naming_needs(original: Run) -> Iterator[None]:
    """Say with model or data that cannot be had which ones the original had."""
    try:
        yield
    except ConfigError as error:
        raise type(error)([*error.problems, Problem("", _needs(original))]) from error
    except EnvironmentUnfit as error:
        raise type(error)(f"{error}\n{_needs(original)}") from error


def _needs(original: Run) -> str:
    plan = original.plan()
    model, data = plan.facts.model, plan.facts.data
    weights = model.hashes.get("weights")
    hashed = f" (weights sha256 {weights[:12]})" if weights else ""
    return (
        f"{original.id} was trained from model {plan.config.model.name}{hashed} on data "
        f"{plan.config.data.source} (tokens sha256 {data.sha256[:12]}); where they lie elsewhere "
        "here, say so: --set model.name=DIR --set data.source=FILE"
    )


def _allowed(path: str) -> bool:
    return path in MAY_DIFFER or path.startswith("launch.")


def _hint() -> str:
    return f"only launch.* and {', '.join(sorted(MAY_DIFFER))} may be set"


def _with(asked: RunConfig, override: str) -> RunConfig:
    """One override, parsed and checked as in any config."""
    path = override.partition("=")[0].strip()
    section, _, name = path.partition(".")
    needed = [f"model.name={asked.model.name!r}", f"data.source={asked.data.source!r}", override]
    parsed = configs.from_mapping(configs.apply_overrides({}, needed))
    value = getattr(getattr(parsed, section), name)
    part = dataclasses.replace(getattr(asked, section), **{name: value})
    return dataclasses.replace(asked, **{section: part})
