"""The batches of a run: decided once, kept in its data/ folder, and the same at every resume."""

from __future__ import annotations

from pathlib import Path

from ftlab.atomic import clear_errors
from ftlab.data.batches import BatchIndex, IndexDamaged, build, build_eval
from ftlab.data.tokens import TokenStore
from ftlab.errors import EnvironmentUnfit
from ftlab.facts import DataFacts
from ftlab.plan import Plan


def open_store(facts: DataFacts) -> TokenStore:
    """The token store that the plan was made for.

    Raises:
        EnvironmentUnfit: the store holds other tokens than planned.
    """
    store = TokenStore.open(facts.store)
    if store.sha256 != facts.sha256:
        raise EnvironmentUnfit(
            f"the tokens of {facts.source} in {facts.store} are not those that were planned "
            f"(sha256 {store.sha256[:12]}, planned {facts.sha256[:12]}); plan the run again"
        )
    return store


def training_batches(plan: Plan, folder: Path) -> BatchIndex:
    """The batches in `folder`, decided and saved there first where they are missing or damaged.

    Deciding again gives the same batches; a resume compares their hash with its checkpoint's.

    Raises:
        EnvironmentUnfit: the folder cannot be written, or the store changed.
    """
    store = open_store(plan.facts.data)
    try:
        return BatchIndex.open(folder, store)
    except IndexDamaged:
        pass
    config = plan.config
    index = build(
        store,
        seed=config.train.seed,
        epochs=config.train.epochs,
        max_steps=config.train.max_steps,
        batch_size=config.train.batch_size,
        micro_batch_size=int(config.train.micro_batch_size),
        max_length=int(config.model.max_length),
        overlong=config.data.overlong,
        packing=bool(config.data.packing),
        ranks=plan.world_size,
    )
    with clear_errors(folder):
        index.save(folder)
    return index


def evaluation_batches(plan: Plan) -> BatchIndex | None:
    """The fixed evaluation batches, or None without evaluation data."""
    if plan.facts.eval_data is None:
        return None
    config = plan.config
    return build_eval(
        open_store(plan.facts.eval_data),
        batch_size=config.train.batch_size,
        micro_batch_size=int(config.train.micro_batch_size),
        max_length=int(config.model.max_length),
        overlong=config.data.overlong,
        packing=bool(config.data.packing),
    )
