"""A process in which kernels are interpreted: it loads torch and triton once, and forks per file.

Reads one JSON list of pytest's arguments a line; answers each with the exit status of its fork.
Output of a fork goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time

FORK_TIMEOUT = 560  # seconds for one file's tests


def serve() -> None:
    """Load what every test file needs, then run one fork after another."""
    import numpy  # noqa: F401  # loaded for the forks
    import pytest
    import torch  # noqa: F401
    import triton.language  # noqa: F401

    answers = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            os.close(answers)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            status = int(pytest.main(arguments))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        os.write(answers, f"{_status(child)}\n".encode())


def _status(child: int) -> int:
    """Exit status of a fork, negative for a signal; one that takes too long is killed."""
    deadline = time.monotonic() + FORK_TIMEOUT
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, 9)
        time.sleep(0.02)


if __name__ == "__main__":
    serve()
