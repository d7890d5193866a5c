"""What follows from the data at a glance (SFT or DPO), and what the hub finds for some words."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from ftlab.data import formats
from ftlab.errors import ConfigError, TryLater
from ftlab.schema import DataSection
from ftlab_tui.new import children, sources
from ftlab_tui.new.draft import Draft

SEARCH = """
import json, sys
from huggingface_hub import HfApi
for m in HfApi().list_models(search=sys.argv[1], filter="text-generation", limit=20,
                             expand=["gated", "downloads", "tags", "safetensors"]):
    licence = next((t[8:] for t in m.tags or () if t.startswith("license:")), "licence unknown")
    print(json.dumps([m.id, ", ".join(filter(None, [licence, m.gated and "gated",
          f"{m.downloads or 0:,} downloads"]))]))
"""


def method(draft: Draft) -> str:
    """Set method.kind to what the first rows ask for; the reason, "" when nothing is known."""
    rows = sources.first_rows(draft.get("data.source"))
    if not rows:
        return ""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    section = DataSection(
        source="x", format=draft.get("data.format"), columns=draft.get("data.columns")
    )
    for kind in ("sft", "dpo"):
        try:
            found = formats.detect(columns, rows, section, kind)
        except ConfigError:
            continue
        break
    else:
        return ""
    before = draft.get("method.kind")
    if kind == "dpo" and before == "sft":
        draft.set("method.kind", "dpo")
        draft.drop_inactive()
        return f"DPO is on: {found.reason}"
    if kind == "sft" and before == "dpo":
        draft.unset("method.kind")
        if draft.get("data.format") == "preference":
            draft.unset("data.format")
        draft.drop_inactive()
        return f"DPO is off: {found.reason}; it needs columns chosen and rejected"
    return ""


async def search(words: str) -> list[tuple[str, str]]:
    """(id, licence and more) of models on the hub, by a child that may use its client.

    Raises:
        TryLater: no network, or the hub did not answer.
    """
    with tempfile.TemporaryDirectory(prefix="ftui-search-") as folder:
        out = Path(folder) / "out"
        code, said = await children.run(["-c", SEARCH, words], Path(folder), out)
        if code:
            raise TryLater(f"the hub cannot be searched now: {said}")
        lines = out.read_text(encoding="utf-8").splitlines()
    return [(str(name), str(about)) for name, about in map(json.loads, lines)]
