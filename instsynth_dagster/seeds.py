"""Seeds from content: equal content gets an equal seed, in any order, batch or worker."""

from __future__ import annotations

import hashlib
import json


def content_seed(*parts: str | int | float) -> int:
    """First 63 bits of sha256 over the parts, joined as JSON so that ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
