"""Widgets for looking at answers, rewards, runs, transfer and data; each has a form for readers without Python.

:mod:`~medr1kit.widgets.html` escapes and lays out, :mod:`~medr1kit.widgets.pictures` fetches images by id,
:mod:`~medr1kit.widgets.base` is the panel that every widget is, and one module a widget does the rest. Modules are
imported by name, so that one widget does not load the others.
"""
