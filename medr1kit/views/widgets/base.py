"""What every widget here is: a panel that lives in a notebook, and reads as plain HTML where no Python runs.

A panel is built of three things that can be tested apart. Pure functions turn values into HTML
(:mod:`medr1kit.views.html`). Handlers are plain methods: what a click does can be called by its name. And what the
controls show is said once, in :meth:`Panel.state`, from which :meth:`Panel.fill` brings them into line; they are made
only when a notebook shows the panel, so that a panel costs nothing before and ipywidgets is not needed for its static
form.

What a cell shows is a bundle: the live view, and beside it the same content as HTML and as text, for readers without
Python. With ``MEDR1KIT_STATIC=1`` in the environment there is no live view; notebooks are committed that way.

>>> class Hello(Panel):
...     name = "world"
...
...     def build(self):
...         return stack(choose("name", ["world", "moon"], self.greet, hook="name"), shows("greeting"))
...
...     def greet(self, name):
...         self.name = name
...         self.fill()
...
...     def state(self):
...         return {"name": self.name, "greeting": f"hello {self.name}"}
...
...     def summary(self):
...         return "a greeting"
...
...     def static(self):
...         return f"<p>hello {self.name}</p>"
>>> hello = Hello()
>>> hello.root.children[0].value = "moon"
>>> hello.root.children[1].value[-17:]
'>hello moon</div>'
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from medr1kit.views.html import escape, page
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from ipywidgets import Box, DOMWidget

VIEW = "application/vnd.jupyter.widget-view+json"
"""The mime type under which a notebook looks for a live view."""
ALL = "all"
"""What every filter can be set to: it lets everything pass."""

_SHOWN: dict[str, tuple[str, WeakSet[Panel]]] = {}  # cell -> which run of it, and the panels that it showed


class Panel:
    """A widget with a static fallback.

    Subclasses write ``build()``, which makes the controls and returns the box that holds them; :meth:`state`, what
    these show; ``static()``, what the panel shows now as HTML with its style, without scripts; and ``summary()``, what
    it is about, as one or a few lines of text. They call :meth:`fill` after each change of what they show.

    Attributes:
        title: what the panel is for; it stands above the controls. Empty: nothing stands there.
        legend: its signs, colours and words, explained, as HTML.
    """

    title = legend = ""
    _root: Box | None = None
    _filling = False

    @property
    def root(self) -> Box:
        """The box that holds the controls; built when first asked for."""
        if self._root is None:
            from medr1kit.views.widgets.keys import Keys

            box, told = self.build().add_class("mk-panel"), shows("told")
            told.layout.order = "-1"  # above the controls, where a reader looks
            head = [shows("headline")] if self.title else []
            for one in head:
                one.layout.order = "-2"
            box.children = (*head, *box.children, told, Keys())
            self._root = box
            self.fill()
        return self._root

    @property
    def controls(self) -> dict[str, DOMWidget]:
        """The controls by their hooks; none before they are made."""
        within = () if self._root is None else _within(self._root)
        return {name[3:]: one for one in within for name in one._dom_classes if name.startswith("mk-")}

    def state(self) -> dict[str, Any]:
        """Return what the controls show: hook -> value, or several traits by their name; for a place, its HTML."""
        return {}

    def headline(self) -> str:
        """Return what the panel is for and how to read it, without style; static forms begin with it."""
        if not self.title:
            return ""
        return f'<h4 data-mk="title">{escape(self.title)}</h4><p data-mk="legend"><small>{self.legend}</small></p>'

    def change(self, **values: Any) -> None:
        """Set attributes by their names, and show them."""
        vars(self).update(values)
        self.fill()

    def heard(self, handler: Callable[..., Any]) -> Callable[..., None]:
        """Return a handler for a control: one sentence instead of a traceback, and deaf while the panel is filled.

        A control that is told a value, or new limits (:meth:`filling`), calls its handler as if a reader had moved it.
        """

        def hear(*value: Any) -> None:
            if self._filling:
                return
            said = ""
            try:
                handler(*value)
            except (DataError, OSError) as error:
                said = page(f'<p class="mk-warn" role="alert" data-mk="told">{escape(error, 600)}</p>', "message")
                self.fill()  # the control goes back
            if self._root is not None:
                self.controls["told"].value = said

        return hear

    def fill(self) -> None:
        """Bring the controls, and what they show, into line with the state; nothing before they are made."""
        if not (controls := self.controls):
            return
        from ipywidgets import HTML

        with self.filling():
            state = self.state() | ({"headline": self.headline()} if self.title else {})
            for hook, shown in state.items():
                control = controls[hook]
                traits = dict(shown) if isinstance(shown, dict) else {"value": shown}
                if isinstance(control, HTML):
                    traits["value"] = page(shown, hook)
                if "options" in traits:
                    control.options = _pairs(traits.pop("options"))  # first: a value is looked up in them
                with control.hold_trait_notifications():  # a value is judged by the limits that come with it
                    for name, value in traits.items():
                        setattr(control, name, value)

    @contextmanager
    def filling(self) -> Iterator[None]:
        """While this lasts, what the controls are told is not taken for what a reader did."""
        self._filling = True
        try:
            yield
        finally:
            self._filling = False

    def close(self) -> None:
        """Remove the controls with their styles and layouts; ipywidgets keeps each of them until it is closed."""
        if self._root is not None:
            close(*_within(self._root), self._root)
            self._root = None

    def __repr__(self) -> str:
        return self.summary()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = {"text/plain": self.summary(), "text/html": self.static()}
        if os.environ.get("MEDR1KIT_STATIC", "") not in ("", "0"):
            return bundle
        _replace_in_cell(self)
        return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.root.model_id}} | bundle


def _within(box: DOMWidget) -> Iterator[DOMWidget]:
    """Every control in a box, and in the boxes within it."""
    for child in getattr(box, "children", ()):
        yield child
        yield from _within(child)


def close(*controls: DOMWidget) -> None:
    """Remove controls, each with its style and layout."""
    for control in controls:
        control.close()
        for part in (getattr(control, "style", None), getattr(control, "layout", None)):
            if part is not None:
                part.close()


def _replace_in_cell(panel: Panel) -> None:
    """Close what an earlier run of the same cell showed: its views are gone, and it would hold its tables for ever."""
    cell, run = _cell()
    if not cell:
        return
    before, shown = _SHOWN.get(cell, ("", WeakSet()))
    if before != run:
        elsewhere = {one for other, (_, some) in _SHOWN.items() if other != cell for one in some}
        for one in {*shown} - elsewhere - {panel}:
            one.close()
        shown = WeakSet()
    shown.add(panel)
    _SHOWN[cell] = (run, shown)


def _cell() -> tuple[str, str]:
    """The cell that is being run and which run of it this is; empty where a front end does not name its cells."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    parent = getattr(shell, "get_parent", dict)() or {}
    return parent.get("metadata", {}).get("cellId", ""), parent.get("header", {}).get("msg_id", "")


# --- controls: each with a name that is read aloud, a class to find it by, and a handler that takes the new value -----


def choose(
    label: str, options: Sequence, handler: Callable[[Any], Any], *, hook: str, width: str = "auto"
) -> DOMWidget:
    """Return a drop-down list.

    Args:
        label: the text beside it.
        options: values, or pairs of text and value.
        handler: called with the new value.
        hook: it gets the class ``mk-<hook>``.
        width: in CSS; as wide as its longest option by default.
    """
    from ipywidgets import Dropdown

    control = Dropdown(options=_pairs(options), description=label, layout={"width": width, "max_width": "100%"})
    return _wired(control, handler, hook)


def _pairs(options: Sequence) -> list[tuple[str, Any]]:
    return [option if isinstance(option, tuple) else (str(option), option) for option in options]


def write(label: str, handler: Callable[[str], Any], *, hook: str, value: str = "", lines: int = 1) -> DOMWidget:
    """Return a field for text, of one line or several; arguments as in :func:`choose`."""
    from ipywidgets import Text, Textarea

    if lines == 1:
        return _wired(Text(value, description=label, layout={"width": "18em"}), handler, hook)
    return _wired(Textarea(value, description=label, rows=lines, layout={"width": "auto"}), handler, hook)


def number(label: str, handler: Callable[[int], Any], *, hook: str, low: int, high: int, value: int) -> DOMWidget:
    """Return a field for a whole number; the arrow keys up and down change it. Arguments as in :func:`choose`."""
    from ipywidgets import BoundedIntText

    field = BoundedIntText(value, min=low, max=high, description=label, layout={"width": "10em"})
    return _wired(field, handler, hook)


def slide(label: str, handler: Callable[[int], Any], *, hook: str, low: int, high: int, value: int) -> DOMWidget:
    """Return a slider for a whole number; the arrow keys move it. Arguments as in :func:`choose`."""
    from ipywidgets import IntSlider

    return _wired(IntSlider(value, low, high, description=label), handler, hook)


def tick(label: str, handler: Callable[[bool], Any], *, hook: str) -> DOMWidget:
    """Return a box to tick; arguments as in :func:`choose`."""
    from ipywidgets import Checkbox

    return _wired(Checkbox(False, description=label, indent=False, layout={"width": "auto"}), handler, hook)


def press(label: str, handler: Callable[[], Any], *, hook: str, tip: str = "") -> DOMWidget:
    """Return a button; ``handler`` is called without arguments. Text only: icons would come from the network."""
    from ipywidgets import Button

    button = Button(description=label, tooltip=tip or label, layout={"width": "auto"})
    button.on_click(lambda _: handler())
    return button.add_class(f"mk-{hook}")


def steps(what: str, back: Callable[[], Any], on: Callable[[], Any], hooks: Sequence[str] = ("previous", "next")):
    """Return two buttons: to the one before, and to the next one.

    Args:
        what: the word for one of what is gone through; empty where that is plain.
        back, on: called without arguments.
        hooks: of the two.
    """
    before = press(f"◀ {what or 'previous'}", back, hook=hooks[0], tip=f"previous {what}".strip())
    return before, press(f"{what or 'next'} ▶", on, hook=hooks[1], tip=f"next {what}".strip())


def shows(hook: str) -> DOMWidget:
    """Return a place for HTML with the class ``mk-<hook>``; what is put in must be escaped already."""
    from ipywidgets import HTML

    return HTML(layout={"width": "auto"}).add_class(f"mk-{hook}")


def row(*controls: DOMWidget) -> Box:
    """Return controls side by side, in several lines where they do not fit."""
    from ipywidgets import HBox

    return HBox(list(controls), layout={"flex_flow": "row wrap"})


def stack(*controls: DOMWidget) -> Box:
    """Return controls one below the other."""
    from ipywidgets import VBox

    return VBox(list(controls))


def _wired(control: DOMWidget, handler: Callable[[Any], Any], hook: str) -> DOMWidget:
    control.style.description_width = "initial"
    control.observe(lambda change: handler(change["new"]), "value")
    return control.add_class(f"mk-{hook}")
