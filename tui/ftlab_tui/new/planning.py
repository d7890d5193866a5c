"""Keeps a plan beside the draft: facts from a child when model or data change, the rest at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from ftlab import plan as plans
from ftlab.configtext import flow
from ftlab.errors import ConfigError, FtlabError, Problem
from ftlab.facts import Facts
from ftlab.plan import Plan
from ftlab.schema import RunConfig
from ftlab.starter.model import intact, location
from ftlab_tui.new import children
from ftlab_tui.new.draft import SETTINGS, Draft

# Settings that decide what the probe finds; everything else only changes the plan.
PROBED = tuple(
    path
    for path in SETTINGS
    if path == "method.kind"
    or (path.startswith(("data.", "model.")) and path not in ("data.packing", "model.precision"))
)
# Words of `ftlab` on what a token may open: gated, private, or not there at all.
KEPT_BACK = ("is gated", "or is private", "that you may read")


class Planner:
    """Facts and plan of the draft as it stands.

    Attributes:
        facts: of `key`, or None.
        plan: of the draft, or None.
        problems: what model, data or machine say against it, by path.
        failure: what went wrong besides, "" when nothing.
        busy: what is being done, "" when nothing.
        looking: the key of the facts that are being found, "" when none are.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self.facts: Facts | None = None
        self.key = ""
        self.plan: Plan | None = None
        self.problems: dict[str, Problem] = {}
        self.failure = ""
        self.busy = ""
        self.looking = ""
        # Replaced in tests, where no child is wanted.
        self.find: Callable[[RunConfig, Path], Awaitable[Facts]] = children.facts
        self.fetch: Callable[[], Awaitable[None]] = children.fetch_starter

    def stale(self, draft: Draft) -> bool:
        """Whether the facts are of another model or other data."""
        return self.facts is None or self.key != key_of(draft)

    def wants_look(self, draft: Draft) -> bool:
        """Whether model and data are to be read: others, not tried in vain, not being read."""
        key = key_of(draft)
        return self.stale(draft) and key not in (self.looking, self.failed)

    @property
    def failed(self) -> str:
        """The key that was tried in vain, "" when none was."""
        return self.key if self.facts is None else ""

    @property
    def gated(self) -> str:
        """What the hub keeps back without a token or an accepted licence, "" when nothing.

        A private repository looks to the hub's users like one that does not exist.
        """
        said = (self.failure, *(problem.message for problem in self.problems.values()))
        return next((words for words in said if any(part in words for part in KEPT_BACK)), "")

    async def look(self, config: RunConfig, draft: Draft, tell: Callable[[], None]) -> None:
        """Get the facts of model and data; `tell` is called when `busy` changed."""
        key = self.looking = key_of(draft)
        self.facts, self.plan, self.problems, self.failure = None, None, {}, ""
        try:
            if config.model.name == str(location()) and not intact(location()):
                self.busy = "fetching the bundled model (98 MB, once) ..."
                tell()
                await self.fetch()
            self.busy = "reading model and data ..."
            tell()
            self.facts, self.key = await self.find(config, self.runs_dir), key
        except FtlabError as error:
            self.key = key
            self._take(error)
        finally:
            if self.looking == key:  # else a later look has taken over
                self.busy = self.looking = ""

    def resolve(self, config: RunConfig | None) -> None:
        """The plan of the config with the facts that are known."""
        self.plan = None
        if config is None or self.facts is None:
            return
        self.problems, self.failure = {}, ""
        try:
            self.plan = plans.resolve(config, self.facts)
        except FtlabError as error:
            self._take(error)

    def _take(self, error: FtlabError) -> None:
        if isinstance(error, ConfigError):
            for problem in error.problems:
                self.problems.setdefault(problem.path, problem)
        else:
            self.failure = str(error)


def key_of(draft: Draft) -> str:
    """All that decides the facts, as one text."""
    return "\n".join(flow(draft.get(path)) for path in PROBED)
