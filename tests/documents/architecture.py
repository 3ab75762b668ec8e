"""docs/architecture.md: its modules, their order, the layers and the refusals are those of the code."""

import re

from markdown import ROOT
from reference import compare, rows

MAP = "docs/architecture.md"


def check(codes):
    """Compares the map with the code; `codes` are all refusals that a gateway counts."""
    text = (ROOT / MAP).read_text()
    lib, gateway = ((ROOT / "src" / file).read_text() for file in ("lib.rs", "gateway/mod.rs"))
    faults = []
    orders = re.findall(r"^`.*←.*$", text.replace("←\n", "← "), re.MULTILINE)
    for order, source in zip(orders, (lib, gateway), strict=True):
        if order not in source and order.replace("←", "<-") not in source:
            faults.append(f"{MAP}: another order than that of the code: {order}")
    modules = {f"src/{path.name}" for path in (ROOT / "src").iterdir() if path.is_dir()}
    faults += compare(MAP, rows(text, "| module |"), modules)
    steps = text[text.index("| step |"):].split("\n\n")[0]
    refused = set(re.findall(r"`([a-z_]+)`", steps)) | {"internal"}  # a panic at any step
    return faults + compare(f"{MAP}, refusals of the steps", refused, codes)
