"""The README's pictures of the widgets can be taken anew."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent.parent


def test_a_picture_is_taken_anew_with_the_size_of_the_one_that_is_kept(chromium, tmp_path):
    script = ROOT / "docs" / "pictures" / "widgets.py"
    draw = "from pathlib import Path; import runpy, sys; draw = runpy.run_path(sys.argv[1])['draw']; "
    draw += "draw(Path(sys.argv[2]), ('inspect',), ('light',))"
    subprocess.run([sys.executable, "-c", draw, script, tmp_path], check=True)  # Playwright runs once a process
    with Image.open(tmp_path / "inspect.png") as taken, Image.open(script.with_name("inspect.png")) as kept:
        assert taken.width == kept.width and abs(taken.height - kept.height) < 60
