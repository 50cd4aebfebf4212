"""A study: a grid of trainings and tests from one small YAML file, resumable, on one machine or a cluster.

One training tells a story, a grid tells whether to believe it. A *cell* of the grid is one training (modality or task,
method, format, seed) and its test on questions that are the same for all cells; the untrained base is a cell, too.

    settings.py  what the YAML file may say
    grid.py      the file -> cells, each with the definition that decides its result
    checks.py    what is refused before the first cell: settings, data, too small a disk
    folder.py    what is on disk: states, locks
    cell.py      a cell is run: trained, then tested, by one process or several
    questions.py what its model is asked: one set of questions, or several in ways of their own
    workers.py   many cells: workers on one queue, here or as jobs of a cluster
    status.py    how far a study is
    commands.py  ``medr1kit study run | status | tables``
    results.py   all predictions in one table, and the tables to record
    parts.py     ... of a study of several parts, recorded part by part
    comparisons.py  differences stated beforehand, tested as one family
"""

from __future__ import annotations


def study(argv: list[str]) -> None:
    """Run a grid of trainings and tests from a YAML file, say how far it is, and write its tables."""
    from medr1kit.study.commands import command

    command(argv)
