"""A lock as a CycloneDX 1.5 list of components, the same bytes for the same lock.

python container/sbom.py env.lock > sbom.json
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^(?=[A-Za-z0-9])", re.MULTILINE)
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def main(lock: str) -> int:
    """Print the list."""
    print(json.dumps(document(Path(lock)), indent=2))
    return 0


def document(lock: Path) -> dict[str, Any]:
    """The list of one lock; its serial number is made of the lock's hash."""
    data = lock.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.UUID(digest[:32])}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "file",
                "name": lock.name,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        },
        "components": [_component(b) for b in _BLOCK.split(data.decode()) if _PIN.match(b)],
    }


def _component(block: str) -> dict[str, Any]:
    match = _PIN.match(block)
    assert match
    name, version = re.sub(r"[-_.]+", "-", match[1]).lower(), match[2]
    purl = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        # Any file of these hashes is this component: wheels of several platforms, and the source.
        "properties": [
            {"name": "ftlab:file:sha256", "value": value} for value in _HASH.findall(block)
        ],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
