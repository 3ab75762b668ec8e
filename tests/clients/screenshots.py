#!/usr/bin/env python3
"""Writes screenshots of the status page in each state, light, dark and on a small screen.

    tests/clients/.venv/bin/python tests/clients/screenshots.py FOLDER [STATE ..]
"""

import sys
import tempfile
from pathlib import Path

from browser import LOOKS, browser
from status_stage import STATES


def main(folder, names):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as look, tempfile.TemporaryDirectory() as place:
        for name in names or STATES:
            with STATES[name](Path(place) / name) as stage:
                for variant in LOOKS:
                    with look(stage.admin, variant) as page:
                        file = folder / f"{name}-{variant}.png"
                        page.screenshot(path=file, full_page=True)
                        print(file, flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
