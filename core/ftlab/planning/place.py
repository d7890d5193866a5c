"""Decisions about the place the trainer runs in: the network of its container."""

from __future__ import annotations

import posixpath

from ftlab.planning.draft import Draft


def decide_network(draft: Draft) -> None:
    """Replace `launch.network: auto`; a trainer without a container keeps it, unused.

    Tokens are in the store by now and a local model on the disk, so only a model of the hub, whose
    weights the trainer itself fetches, needs a network.
    """
    if draft.config.launch.where != "docker" or not draft.is_auto("launch.network"):
        return
    model = draft.facts.model
    if posixpath.isabs(model.path):
        draft.decide("launch.network", "none", "model and data lie on this machine")
    else:
        draft.decide("launch.network", "bridge", f"the weights of {model.name} come from the hub")
