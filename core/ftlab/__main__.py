"""`python -m ftlab`: the versions that matter here, and the table of supported models.

With arguments it is `ftrun`, for where the console script is not on the path.
"""

from __future__ import annotations

import sys

from ftlab import versions
from ftlab.commands.common import table


def report() -> str:
    """Versions and families as text. Imports neither torch nor transformers."""
    from ftlab.models.families import FAMILIES

    software = [("ftlab", versions.ours()), ("Python", versions.python())]
    software += [(name, version or "-") for name, version in versions.installed().items()]
    software.append(("CUDA of torch", versions.torch_cuda() or "none (CPU build)"))
    families = [(row.name, row.architecture, row.models) for row in FAMILIES]
    return (
        f"{table(('SOFTWARE', 'VERSION'), software)}\n\n"
        f"{table(('FAMILY', 'ARCHITECTURE', 'MODELS'), families)}\n\n"
        "`ftrun --help` lists the commands."
    )


def main() -> int:
    """Print the report, or carry out the command that was given."""
    if len(sys.argv) > 1:
        from ftlab import cli

        return cli.main()
    print(report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
