"""Every error a user can meet, and the exit code each one ends with.

    FtlabError              1  failed
    ├── ConfigError         2  the config or the command line is wrong (all problems at once)
    │   └── DataError       2  the data cannot be read as configured (file and line named)
    ├── EnvironmentUnfit    3  this machine, model or directory cannot run what was asked
    │   └── RunBusy         3  another live process owns the run
    ├── VerdictNegative     4  a comparison was made and the answer is no
    ├── TryLater            75 a passing fault (network, lock): the same command may work later
    └── Interrupted         130 stopped by a signal or a request, after a save

A message quotes what came, what was allowed, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FtlabError(Exception):
    """Base of every error that is shown without a traceback."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a config: where it is, what is wrong, what to do."""

    path: str  # dotted setting path such as "optim.learning_rate"; "" for the whole config
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


class ConfigError(FtlabError):
    """The config or command line is wrong. Carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataError(ConfigError):
    """A data source cannot be read as configured; the message names file, line and column."""


class EnvironmentUnfit(FtlabError):
    """The config is well formed, but this machine, model or directory cannot run it."""

    exit_code = 3


class RunBusy(EnvironmentUnfit):
    """Another live process owns the run directory."""


class VerdictNegative(FtlabError):
    """A comparison was made and its answer is no."""

    exit_code = 4


class TryLater(FtlabError):
    """A passing fault: the same command may work later."""

    exit_code = 75


class Interrupted(FtlabError):
    """Stopped by a signal or a request, after a checkpoint was written."""

    exit_code = 130
