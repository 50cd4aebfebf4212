"""The progress bar: one at a time, named, silent in CI."""

import re

import datasets
import pytest

from medr1kit import progress as module
from medr1kit.data.load import load_vqa
from medr1kit.progress import no_bars_of_datasets, part_of_work, progress
from medr1kit.results.perturbations import rotate_options


@pytest.fixture
def at_a_terminal(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("MEDR1KIT_STATIC", raising=False)


def shown(capsys):
    """The names of the bars on standard error, and the last state of each."""
    lines = re.split(r"[\r\n]", capsys.readouterr().err)
    found = [re.match(r"(.+?): +(\d+)%", line) for line in lines]
    return {match[1]: int(match[2]) for match in found if match}


def test_a_bar_names_the_work_and_ends_at_all_of_it(at_a_terminal, capsys):
    assert list(progress(range(3), "count", unit="row", delay=0)) == [0, 1, 2]
    assert shown(capsys) == {"count": 100}


def test_what_is_done_in_a_blink_shows_no_bar(at_a_terminal, capsys):
    list(progress(range(3), "count", unit="row"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name, value", [("CI", "1"), ("CI", "true"), ("MEDR1KIT_STATIC", "1")])
def test_there_is_no_bar_in_ci_or_in_static_notebooks(at_a_terminal, monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    assert progress(range(3), "count", unit="row", delay=0).disable
    assert capsys.readouterr().err == ""


def test_a_program_without_a_terminal_goes_on(at_a_terminal, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    assert list(progress(range(3), "count", unit="row", delay=0)) == [0, 1, 2]


def test_a_part_of_the_work_gives_the_bar_its_second_name_until_it_ends(at_a_terminal, capsys):
    with part_of_work("blank images"):
        list(progress(range(3), "predict", unit="row", delay=0))
    with pytest.raises(ValueError), part_of_work("broken"):
        raise ValueError
    list(progress(range(3), "letters", unit="row", delay=0))
    assert shown(capsys) == {"predict: blank images": 100, "letters": 100}


def test_the_bars_of_datasets_stay_away_and_come_back():
    datasets.enable_progress_bars()
    with pytest.raises(ValueError), no_bars_of_datasets():
        assert datasets.are_progress_bars_disabled()
        raise ValueError
    assert not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    with no_bars_of_datasets():
        pass
    assert datasets.are_progress_bars_disabled(), "who had switched them off finds them off"
    datasets.enable_progress_bars()


@pytest.fixture
def every_bar(at_a_terminal, monkeypatch, capsys):
    """As if everything took long: bars without a delay."""
    keep = module.progress.__kwdefaults__
    monkeypatch.setattr(module.progress, "__kwdefaults__", keep | {"delay": 0})
    datasets.enable_progress_bars()
    return lambda: shown(capsys)


def test_drawing_phantoms_shows_how_far_it_is(every_bar):
    load_vqa("phantoms", n=4)
    assert every_bar() == {"drawing phantoms": 100, "storing phantoms": 100}


def test_rotating_a_selection_shows_no_bar_of_datasets(every_bar):
    some = load_vqa("phantoms", n=4).select([0, 2])
    every_bar()
    rotate_options(some, 1)
    assert every_bar() == {}


def test_the_probes_say_which_question_they_are_asking(every_bar, monkeypatch):
    probes = pytest.importorskip("medr1kit.models.probes")
    import pandas as pd

    def predict(model, processor, dataset, **settings):
        list(progress(range(2), "predict", unit="question"))
        return pd.DataFrame()

    monkeypatch.setattr(probes, "predict", predict)
    monkeypatch.setattr(probes, "position_table", lambda frame: frame)
    data = load_vqa("phantoms", n=4)
    every_bar()
    probes.position_bias(None, None, data, format="no-think", rotations=2)
    assert every_bar() == {"predict: rotation 1 of 2": 100, "predict: rotation 2 of 2": 100}
