"""Old names of modules that notebooks of version 0.1.0 imported; they work for one more release, with a warning."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "medr1kit.phantoms": "medr1kit.data.phantoms",
    "medr1kit.predict": "medr1kit.models.predict",
    "medr1kit.rationales": "medr1kit.results.rationales",
    "medr1kit.stats": "medr1kit.results.stats",
    "medr1kit.tiny": "medr1kit.models.tiny",
    "medr1kit.tiny.targets": "medr1kit.models.tiny.targets",
}


class _Forward(ModuleType):
    """Stands under the old name and hands on what the module has."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # its path above all: with that one the module would be loaded a second time
            raise AttributeError(name)
        return getattr(import_module(MOVED[self.__name__]), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``medr1kit.predict`` is a public function; importing the old module of that name puts this in its place."""
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Finder(MetaPathFinder, Loader):
    """Asked last, for names that nothing else has found."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(f"{spec.name} is now {MOVED[spec.name]}; the old name goes with 0.3", FutureWarning, stacklevel=2)
        return _Forward(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: names are looked up when they are asked for."""


def forward() -> None:
    """Let imports of the old names find the new modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
