"""What the tiny model is taught to write: right completions, and two bad habits on purpose.

A base that does everything right leaves training nothing to show, and one that knows nothing cannot be reinforced. So
the last stage of the build copies an annotator who can do better than they do:

* **careless**: asked in the first wording of a kind of question, they look; asked in another wording they mostly just
  take A, whatever it says. Models of every size have such position bias and such sensitivity to wording.
* **sloppy**: asked in the third wording, they mostly break the format: a missing ``</think>``, words after the answer.

The right answer stays possible in every case, so a policy that samples meets it, is paid for it, and can drop the
habit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medr1kit.data.phantoms.questions import KINDS
from medr1kit.formats import ResponseFormat

WORDING = {stem: i for kinds in KINDS.values() for kind in kinds for i, stem in enumerate(kind.stems)}


class Annotator:
    """Writes completions for phantom rows.

    Args:
        rng: decides when a habit shows.
        careless: how often option A is taken without looking, in a second or third wording; 0 to 1.
        sloppy: how often the format is broken, in a third wording; 0 to 1.
    """

    def __init__(self, rng: np.random.Generator, careless: float = 0.0, sloppy: float = 0.0):
        self.rng, self.careless, self.sloppy = rng, careless, sloppy

    def write(self, row: Mapping[str, Any], format: ResponseFormat) -> str:
        """Return a completion for one row of :func:`medr1kit.data.phantoms.phantom_rows`."""
        wording, answer, rationale = WORDING[row["question"]], row["answer"], row["rationale"]
        if wording >= 1 and self.rng.random() < self.careless:
            facts, _ = rationale.split(" So the answer is ")
            answer, rationale = "A", f"{facts} So the answer is A"
        completion = format.write(answer, rationale)
        if wording >= 2 and self.rng.random() < self.sloppy:
            without_end = completion.replace("</think>", "")
            return without_end if "think" in format.blocks else f"{completion} So the answer is {answer}"
        return completion
