"""Draw all pictures, from the checkout's folder: ``python -m scripts.draw_ideas``; into another: add its name."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.draw_ideas import evidence, reading, training

HERE = Path(__file__).parent.parent.parent / "docs" / "pictures" / "ideas"
PICTURES = {
    "prompt": reading.prompt,
    "step": training.step,
    "formats": reading.formats,
    "shared_prefix": reading.shared_prefix,
    "blind_floor": evidence.blind_floor,
    "transfer_map": evidence.transfer_map,
    "leak": evidence.leak,
}
"""What draws each of them, by the name of its file."""

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")
