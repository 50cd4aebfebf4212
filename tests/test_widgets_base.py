"""The panel: lazy, static on demand, and deaf to what it does to its own controls."""

import subprocess
import sys

import ipywidgets
import pytest
from widget_fakes import check_safe, control

from medr1kit.views.widgets import base
from medr1kit.views.widgets.base import VIEW, Panel
from medr1kit.vqa import DataError


class Counter(Panel):
    """A field and what was heard of it."""

    def __init__(self):
        self.built, self.got = 0, []

    def build(self):
        self.built += 1
        self.field = base.number("n", self.heard(self.got.append), hook="n", low=0, high=9, value=5)
        self.button = base.press("go", lambda: self.got.append("pressed"), hook="go")
        return base.stack(base.row(self.field, self.button))

    def static(self):
        return "<p>static</p>"

    def summary(self):
        return "a counter"


def from_browser(widget, **state):
    """What a browser sends when a reader moves a control."""
    widget._handle_msg({"content": {"data": {"method": "update", "state": state, "buffer_paths": []}}, "buffers": []})


@pytest.fixture(autouse=True)
def live(monkeypatch):
    monkeypatch.delenv("MEDR1KIT_STATIC", raising=False)


def test_controls_are_built_once_and_only_when_shown():
    panel = Counter()
    assert (repr(panel), panel.static(), panel.built) == ("a counter", "<p>static</p>", 0)
    assert panel.root is panel.root
    assert panel.built == 1


def test_a_cell_shows_the_view_and_beside_it_html_and_text():
    panel = Counter()
    bundle = panel._repr_mimebundle_()
    assert bundle["text/html"] == "<p>static</p>" and bundle["text/plain"] == "a counter"
    assert bundle[VIEW]["model_id"] == panel.root.model_id
    assert ipywidgets.VBox().get_view_spec().keys() == bundle[VIEW].keys()


def test_static_mode_shows_no_view_and_builds_nothing(monkeypatch):
    monkeypatch.setenv("MEDR1KIT_STATIC", "1")
    panel = Counter()
    assert panel._repr_mimebundle_() == {"text/html": "<p>static</p>", "text/plain": "a counter"}
    assert panel.built == 0


def test_a_static_cell_needs_no_ipywidgets():
    code = (
        "import os, sys; os.environ['MEDR1KIT_STATIC'] = '1'\n"
        "from medr1kit.views.widgets.lab import reward_lab\n"
        "reward_lab()._repr_mimebundle_()\n"
        "assert not {'ipywidgets', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_what_a_reader_does_is_heard_and_what_the_panel_does_is_not():
    panel = Counter()
    assert panel.root
    from_browser(panel.field, value=7)
    with panel.filling():
        panel.field.value = 3
    from_browser(panel.field, value=4)
    panel.button.click()
    assert panel.got == [7, 4, "pressed"]


def test_a_panel_hears_again_after_an_error():
    panel = Counter()
    with pytest.raises(ValueError), panel.filling():
        raise ValueError
    panel.heard(panel.got.append)(1)
    assert panel.got == [1]


def test_closing_a_panel_frees_its_controls():
    panel = Counter()
    before = len(ipywidgets.widgets.widget._instances)
    panel.root.model_id  # noqa: B018
    assert len(ipywidgets.widgets.widget._instances) > before
    comms = [panel.field.comm, panel.button.comm]
    panel.close()
    assert panel.field.comm is None and panel.button.comm is None and all(comms)
    panel.close()


def test_controls_can_be_found_and_named():
    for one in (
        base.choose("c", ["x", ("Y", 2)], print, hook="c"),
        base.write("c", print, hook="c"),
        base.write("c", print, hook="c", lines=3),
        base.slide("c", print, hook="c", low=1, high=3, value=2),
    ):
        assert one.description == "c" and "mk-c" in one._dom_classes
    assert base.press("c", print, hook="c").icon == "", "icons come from the network"


def registered():
    return len(ipywidgets.widgets.widget._instances)


def test_closing_leaves_no_control_no_style_and_no_layout():
    before = registered()
    for _ in range(3):
        panel = Counter()
        assert panel.root.model_id
        assert registered() > before
        panel.close()
    assert registered() == before


def test_a_cell_that_is_run_again_closes_what_it_showed_before(monkeypatch):
    now = ["cell a", "run 1"]
    monkeypatch.setattr(base, "_cell", lambda: tuple(now))
    monkeypatch.setattr(base, "_SHOWN", {})
    before = registered()
    one, other = Counter(), Counter()
    one._repr_mimebundle_(), other._repr_mimebundle_()
    size = (registered() - before) // 2
    for run in range(2, 6):
        now[1] = f"run {run}"
        Counter()._repr_mimebundle_()
    assert registered() - before == size, "two panels of one run stay; those of earlier runs go"
    now[0] = "cell b"
    kept = Counter()
    kept._repr_mimebundle_()
    now[:] = "cell a", "run 6"
    kept._repr_mimebundle_()
    now[1] = "run 7"
    Counter()._repr_mimebundle_()
    assert kept.field.comm is not None, "another cell still shows it"
    now[1] = "run 8"
    again = Counter()
    again._repr_mimebundle_()
    now[1] = "run 9"
    field = again.field
    again._repr_mimebundle_()
    assert again.field is field and field.comm is not None, "the same panel shown again stays"
    kept.close(), again.close()
    assert registered() == before


def test_where_cells_have_no_name_nothing_is_closed():
    assert base._cell() == ("", "")
    one, other = Counter(), Counter()
    one._repr_mimebundle_(), other._repr_mimebundle_()
    assert one.field.comm is not None and not base._SHOWN


def test_a_handler_says_what_is_wrong_in_one_sentence_and_takes_it_back():
    panel = Counter()
    told = control(panel, "told")
    hear = panel.heard(lambda value: 1 / value if value else panel.refuse())

    def refuse():
        raise DataError("no <b>such</b> step")

    panel.refuse = refuse
    hear(0)
    assert check_safe(told.value).texts["told"] == ["no <b>such</b> step"]
    hear(1)
    assert told.value == ""


class Stepper(Panel):
    """A number within limits that may move together, and what it is."""

    def __init__(self):
        self.at, self.last = 1, 3

    def build(self):
        return base.stack(
            base.slide("at", self.heard(self.go), hook="at", low=1, high=1, value=1),
            base.choose("name", ["–"], print, hook="name"),
            base.shows("said"),
        )

    def go(self, at):
        if at == 2:
            raise DataError("2 cannot be shown")
        self.at = at
        self.fill()

    def state(self):
        names = [f"number {number}" for number in range(1, self.last + 1)]
        limits = {"min": 1, "max": self.last, "value": self.at}
        return {"at": limits, "name": {"options": names, "value": names[self.at - 1]}, "said": f"<b>{self.at}</b>"}


def test_controls_show_the_state_whichever_way_their_limits_move():
    panel = Stepper()
    panel.fill()  # nothing is there yet
    assert (control(panel, "at").max, control(panel, "name").value) == (3, "number 1")
    for panel.last, at in ((9, 8), (4, 4), (7, 1)):
        panel.go(at)
        shown = control(panel, "at"), control(panel, "name")
        assert (shown[0].value, shown[0].max, shown[1].value) == (at, panel.last, f"number {at}")
        assert len(shown[1].options) == panel.last and check_safe(control(panel, "said").value).texts["said"] == [
            str(at)
        ]


def test_a_control_that_is_refused_goes_back():
    panel = Stepper()
    from_browser(control(panel, "at"), value=3)
    from_browser(control(panel, "at"), value=2)
    assert "2 cannot be shown" in control(panel, "told").value and control(panel, "at").value == 3
    from_browser(control(panel, "at"), value=1)
    assert control(panel, "told").value == "" and panel.at == 1


def test_a_panel_that_was_closed_can_be_shown_again():
    panel = Stepper()
    panel.go(3)
    panel.root, panel.close()
    assert panel.controls == {} and control(panel, "at").value == 3
    panel.close()
