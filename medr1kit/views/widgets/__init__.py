"""Widgets for looking at answers, rewards, runs, transfer and data; each has a form for readers without Python.

:mod:`~medr1kit.views.html` escapes and lays out, :mod:`~medr1kit.views.pictures` fetches images by id,
:mod:`~medr1kit.views.widgets.base` is the panel that every widget is, and one module a widget does the rest. Modules
are imported by name, so that one widget does not load the others.
"""
