"""A sheet to draw on: shapes and texts, written down as SVG.

Lengths are pixels, y runs downwards. Colours are classes, so that one file suits a light and a dark page: those of the
panels' style sheet, and the first of the figures' palette. Nothing is told by colour alone. A text stays text, in
whatever sans-serif font the reader has, so there is room around it: its lines are broken by whoever draws.
"""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from PIL import Image

import medr1kit
from medr1kit.views.look import COLOURS, LIMIT, colour_of, ink_on

WIDTH = 900
MONO = 0.62
"""Width of a letter of a monospaced font, of its size; the widest of the usual ones."""


def _style(name: str) -> str:
    """The classes of a sheet: the panels' colours by day and by night, and the palette."""
    css = (Path(medr1kit.__file__).parent / "views" / "style.css").read_text(encoding="utf-8")
    by_day, by_night = (dict(re.findall(r"--mk-own-(\w+):(#\w+)", css.split("@media")[part])) for part in (0, 1))
    rules = []
    for colours in (by_day, by_night):
        fg, soft, bg, tint, line = (colours[key] for key in ("fg", "soft", "bg", "tint", "line"))
        rules.append(
            f".ink{{fill:{fg}}}.soft{{fill:{soft}}}.card{{fill:{bg};stroke:{line}}}"
            f".box{{fill:{tint};stroke:{line}}}.rule{{stroke:{soft};fill:none}}.strong{{stroke:{fg};fill:none}}"
        )
    palette = "".join(
        f".pale{i}{{fill:{colour};fill-opacity:.2;stroke:{colour}}}.full{i}{{fill:{colour}}}"
        f".line{i}{{stroke:{colour};fill:none;stroke-width:2}}"
        for i, colour in enumerate(COLOURS[:4])
    )
    palette += ".black{fill:#000}.white{fill:#fff}.black-lines{stroke:#000}.white-lines{stroke:#fff}"
    palette += ".black-lines,.white-lines{fill:none;stroke-opacity:.5}"
    text = "text{font-family:sans-serif;white-space:pre}.mono{font-family:ui-monospace,monospace}.bold{font-weight:600}"
    style = f"{text}{rules[0]}{palette}@media (prefers-color-scheme:dark){{{rules[1]}}}"
    return re.sub(r"(^|[}{])(?=[.t])", rf"\1#{name} ", style)  # of this picture only, where a page holds several


class Sheet:
    """A picture under way.

    Args:
        name: of its file, without the ending.
        height: of the sheet; it is 900 wide.
        title: what it is about, also its headline.
        about: what it shows, for those who cannot see it.
    """

    def __init__(self, name: str, height: float, title: str, about: str) -> None:
        self.name, self.height, self.title, self.about = name, height, title, about
        self._parts: list[str] = []
        self._pictures: dict[str, str] = {}
        self.text(28, 40, title, size=20, bold=True)

    def text(
        self, x: float, y: float, words: str, *, size: float = 14, tone: str = "ink", anchor: str = "start",
        mono: bool = False, bold: bool = False,
    ) -> None:  # fmt: skip
        """Write a text, a line a line of it; ``y`` is where the first one stands."""
        classes = " ".join([tone, *(["mono"] if mono else []), *(["bold"] if bold else [])])
        at = "" if anchor == "start" else f' text-anchor="{anchor}"'
        for i, line in enumerate(words.split("\n") if words else ()):
            place = f'x="{x:g}" y="{y + 1.35 * size * i:g}" font-size="{size:g}"{at} class="{classes}"'
            self._parts.append(f"<text {place}>{escape(line)}</text>")

    def box(self, x: float, y: float, width: float, height: float, tone: str = "box", round: float = 4) -> None:
        """Draw a rectangle."""
        at = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self._parts.append(f'<rect {at} rx="{round:g}" class="{tone}"/>')

    def token(self, x: float, y: float, words: str, tone: str = "box", size: float = 12, height: float = 24) -> float:
        """Draw a token in its box and return where the next one may begin."""
        width = MONO * size * len(words) + 8
        self.box(x, y, width, height, tone)
        self.text(x + width / 2, y + height / 2 + 0.36 * size, words, size=size, anchor="middle", mono=True)
        return x + width + 4

    def cell(self, x: float, y: float, side: float, points: float, chance: bool, framed: bool, mark: str) -> None:
        """Draw a cell of a map: its gain in points on the figures' scale, hatched where it may be chance."""
        colour = colour_of(0.5 + points / (2 * LIMIT), "difference")
        ink = "black" if ink_on(colour) == "#000000" else "white"
        at = f'x="{x + 1:g}" y="{y + 1:g}" width="{side - 2:g}" height="{side - 2:g}"'
        self._parts.append(f'<rect {at} fill="#{"".join(f"{round(255 * part):02x}" for part in colour)}"/>')
        if chance:
            self.hatch(x + 1, y + 1, side - 2, side - 2, f"{ink}-lines", step=9)
        self.text(x + side / 2, y + side / 2 + 5, f"{points:+.0f}", tone=ink, anchor="middle")
        self.text(x + 8, y + 17, mark, size=12, tone=ink, bold=True)
        if framed:
            frame = f"M{x + 4:g} {y + 4:g}h{side - 8:g}v{side - 8:g}h{8 - side:g}z"
            self.path(frame, f"{ink}-lines", ' stroke-width="2.5" style="stroke-opacity:1"')

    def path(self, d: str, tone: str = "rule", more: str = "") -> None:
        """Draw a path in SVG's letters."""
        self._parts.append(f'<path d="{d}" class="{tone}"{more}/>')

    def arrow(self, *points: tuple[float, float], tone: str = "strong") -> None:
        """Draw an arrow along some points."""
        (x0, y0), (x1, y1) = points[-2:]
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        sides = [(x1 - 9 * dx + turn * 4.5 * dy, y1 - 9 * dy - turn * 4.5 * dx) for turn in (1, -1)]
        line = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        head = " L".join(f"{x:.1f} {y:.1f}" for x, y in (sides[0], (x1, y1), sides[1]))
        self.path(f"M{line}M{head}", tone, ' stroke-width="1.6" stroke-linejoin="round"')

    def hatch(self, x: float, y: float, width: float, height: float, tone: str = "rule", step: int = 6) -> None:
        """Draw slanted lines over a rectangle."""
        lines = []
        for start in range(step, int(width + height), step):  # where a line meets the lower edge, or would
            right, left = min(start, width), max(0, start - height)
            lines.append(f"M{x + left:g} {y + start - left:g}L{x + right:g} {y + start - right:g}")
        self.path("".join(lines), tone)

    def picture(
        self, image: Image.Image, x: float, y: float, side: float, part: tuple[int, int, int, int] | None = None
    ) -> None:
        """Show a square picture, or a part of it (left, top, width, height in its own pixels); it is stored once."""
        packed = BytesIO()
        few = image.convert("RGB").quantize(64, dither=Image.Dither.NONE)
        few.save(packed, "PNG", optimize=True)
        stored = base64.b64encode(packed.getvalue()).decode()
        size = f'width="{image.width}" height="{image.height}"'
        name = f"{self.name}-{[*self._pictures, stored].index(stored)}"
        self._pictures[stored] = f'<image id="{name}" {size} href="data:image/png;base64,{stored}"/>'
        view = " ".join(map(str, part or (0, 0, image.width, image.height)))
        self._parts.append(
            f'<svg x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" viewBox="{view}"><use href="#{name}"/></svg>'
        )

    def svg(self) -> str:
        """Return the picture as the text of its file."""
        named = f'role="img" aria-labelledby="{self.name}-title {self.name}-about"'
        size = f'width="{WIDTH}" height="{self.height:g}" viewBox="0 0 {WIDTH} {self.height:g}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" id={quoteattr(self.name)} {size} {named}>',
                f'<title id="{self.name}-title">{escape(self.title)}</title>',
                f'<desc id="{self.name}-about">{escape(self.about)}</desc>',
                f"<style>{_style(self.name)}</style>",
                f"<defs>{''.join(self._pictures.values())}</defs>",
                f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.height - 1:g}" rx="10" class="card"/>',
                *self._parts,
                "</svg>\n",
            ]
        )
