"""The image a run is started from: there already, pulled with a bar, or asked to be built."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from ftlab.errors import EnvironmentUnfit
from ftlab.launch.docker_engine import words

DEFAULT = "ftlab"


def name_of(asked: str | None) -> str:
    """The image that is meant: launch.image, else FTLAB_IMAGE, else what `make image` made."""
    return asked or os.environ.get("FTLAB_IMAGE") or DEFAULT


def ensure(client: Any, name: str) -> Any:
    """The image of that name, pulled first where it is of a registry and not here.

    Raises:
        EnvironmentUnfit: it is absent and cannot be pulled; the message says how to build it.
    """
    import docker

    with words(f"looking for the image {name}"):
        try:
            return client.images.get(name)
        except docker.errors.ImageNotFound:
            pass
    if "/" not in name:
        raise EnvironmentUnfit(
            f"there is no image {name} here; build it in a checkout of ftlab with `make image` "
            "(some minutes and 7 GB), or name one of a registry in launch.image"
        )
    try:
        _pull(client, name)
    except docker.errors.APIError as error:
        raise EnvironmentUnfit(
            f"the image {name} is not here and cannot be pulled ({error.explanation or error}); "
            "check its name and `docker login`, or build it with `make image`"
        ) from error
    with words(f"looking for the image {name}"):
        return client.images.get(name)


def digest(image: Any) -> str:
    """What names these bits everywhere: the registry's digest, or the image's own id."""
    known = image.attrs.get("RepoDigests") or []
    return str(known[0]).rpartition("@")[2] if known else str(image.id)


def _pull(client: Any, name: str) -> None:
    repository, colon, tag = name.rpartition(":")
    if "@" in name or not colon or "/" in tag:
        repository, tag = name, "" if "@" in name else "latest"
    lines = client.api.pull(repository, tag=tag or None, stream=True, decode=True)
    show(name, lines, sys.stderr)


def show(name: str, lines: Iterable[Mapping[str, Any]], stream: TextIO) -> None:
    """Follow a pull: one bar over the bytes of every layer; a word at both ends without a terminal.

    Raises:
        EnvironmentUnfit: the stream says that it failed.
    """
    from tqdm import tqdm

    layers: dict[str, tuple[int, int]] = {}
    print(f"pulling {name} ...", file=stream, flush=True)
    with tqdm(
        total=0, unit="B", unit_scale=True, desc="image", file=stream, disable=not stream.isatty()
    ) as bar:
        for line in lines:
            if "error" in line:
                raise EnvironmentUnfit(f"the image {name} cannot be pulled: {line['error']}")
            detail = line.get("progressDetail") or {}
            if line.get("status") == "Downloading" and "current" in detail:
                done = int(detail["current"])
                layers[str(line.get("id"))] = (done, int(detail.get("total") or done))
                bar.total = sum(total for _, total in layers.values())
                bar.n = sum(current for current, _ in layers.values())
                bar.refresh()
    print(f"pulled {name}", file=stream, flush=True)
