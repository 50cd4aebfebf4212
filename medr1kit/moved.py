"""Old names of modules that notebooks of version 0.1.0 imported; they work for one more release, with a warning."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

MOVED = {
    "medr1kit.phantoms": "medr1kit.data.phantoms",
    "medr1kit.predict": "medr1kit.models.predict",
    "medr1kit.rationales": "medr1kit.results.rationales",
    "medr1kit.stats": "medr1kit.results.stats",
    "medr1kit.tiny": "medr1kit.models.tiny",
    "medr1kit.tiny.targets": "medr1kit.data.phantoms.questions",
}


class _Forward(ModuleType):
    """Stands under the old name, and hands on what the module has when it is asked for it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # imports ask for its path, others for its file: it has none
            raise AttributeError(name)
        new = MOVED[self.__name__]
        warnings.warn(f"{self.__name__} is now {new}; the old name goes with 0.3", FutureWarning, stacklevel=2)
        return getattr(import_module(new), name)


def forward() -> None:
    """Let imports of the old names find the new modules."""
    for old in MOVED:
        parent, _, name = old.rpartition(".")
        sys.modules.setdefault(old, _Forward(old))
        if name != "predict":  # the public function stands there
            setattr(sys.modules[parent], name, sys.modules[old])
