"""The keys of a panel belong to the panel, also in JupyterLab; and what else takes JavaScript in it.

A notebook has shortcuts of its own: outside a text field "arrow down" goes to the next cell and "m" turns the cell into
Markdown. For a drop-down list, where a reader presses just these keys, that is a trap: the list stays as it is, and the
panel is gone. JupyterLab leaves alone what carries ``data-lm-suppress-shortcuts``, an attribute that ipywidgets cannot
set (ipywidgets issue 3912); a few lines of JavaScript can.

In a panel with the class ``mk-keyed`` a button with ``mk-key-b`` is pressed by the key B, one with ``mk-key-enter`` by
Enter, wherever in the panel the focus is, text fields left out. Then the panel has the focus: the button may be gone.
"""

from __future__ import annotations

from anywidget import AnyWidget

from medr1kit.views.html import ZOOM

_ESM = (
    ZOOM
    + """
const BUTTON = 'button[class*="mk-key-"]';
function start(panel) {
  const guard = event => {
    if (event.target.tagName === 'SELECT') event.target.setAttribute('data-lm-suppress-shortcuts', 'true');
  };
  const pressed = event => {
    const own = event.key === 'Enter' && event.target.closest(`button:not(${BUTTON})`);
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || own) return;
    if (event.target.closest('input, select, textarea')) return;
    const button = panel.querySelector(`button.mk-key-${CSS.escape(event.key.toLowerCase())}:enabled`);
    if (!button) return;
    event.preventDefault();
    button.click();
  };
  const clicked = event => { if (event.target.closest(BUTTON)) panel.focus({preventScroll: true}); };
  const stop = enlarging(panel), heard = {focusin: guard};
  if (panel.matches('.mk-keyed')) {
    panel.tabIndex = -1;
    panel.setAttribute('data-lm-suppress-shortcuts', 'true');
    Object.assign(heard, {keydown: pressed, click: clicked});
  }
  for (const [name, handler] of Object.entries(heard)) panel.addEventListener(name, handler);
  return () => {
    stop();
    for (const [name, handler] of Object.entries(heard)) panel.removeEventListener(name, handler);
  };
}
export default {
  render({ el }) {
    el.style.display = 'none';
    let stop = () => {};
    const find = () => {
      const panel = el.closest('.mk-panel');
      if (panel) stop = start(panel); else waiting = requestAnimationFrame(find);
    };
    let waiting = requestAnimationFrame(find);  // the element stands in its panel only after it was made
    return () => { cancelAnimationFrame(waiting); stop(); };
  },
};
"""
)


class Keys(AnyWidget):
    """An unseen control that keeps the notebook's shortcuts away from the panel it stands in, and hears its keys."""

    _esm = _ESM
