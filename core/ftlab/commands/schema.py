"""Print the JSON Schema of a config, or with --docs every setting as a Markdown page."""

from __future__ import annotations

import argparse

from ftlab.commands import common


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--docs", action="store_true", help="a Markdown page instead")


def main(args: argparse.Namespace) -> int:
    """Print the schema."""
    if args.docs:
        from ftlab import docs

        print(docs.settings_page(), end="")
    else:
        from ftlab import jsonschema

        common.put_json(jsonschema.schema())
    return 0
