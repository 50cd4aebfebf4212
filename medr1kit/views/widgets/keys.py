"""The keys of a panel belong to the panel, also in JupyterLab.

A notebook has shortcuts of its own: outside a text field "arrow down" goes to the next cell and "m" turns the cell into
Markdown. For a drop-down list, where a reader presses just these keys, that is a trap: the list stays as it is, and the
panel is gone. JupyterLab leaves alone what carries ``data-lm-suppress-shortcuts``, an attribute that ipywidgets cannot
set (ipywidgets issue 3912); a few lines of JavaScript can.
"""

from __future__ import annotations

from anywidget import AnyWidget

_ESM = """
export default {
  render({ el }) {
    el.style.display = 'none';
    const guard = event => {
      if (event.target.tagName === 'SELECT') event.target.setAttribute('data-lm-suppress-shortcuts', 'true');
    };
    let panel = null;
    const find = () => {
      panel = el.closest('.mk-panel');
      if (panel) panel.addEventListener('focusin', guard); else waiting = requestAnimationFrame(find);
    };
    let waiting = requestAnimationFrame(find);  // the element stands in its panel only after it was made
    return () => { cancelAnimationFrame(waiting); if (panel) panel.removeEventListener('focusin', guard); };
  },
};
"""


class Keys(AnyWidget):
    """An unseen control that keeps the notebook's shortcuts away from the drop-down lists of the panel it stands in."""

    _esm = _ESM
