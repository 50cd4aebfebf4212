// --- transfer maps ----------------------------------------------------------------------------------------------------

const ARROWS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};

function startMaps(root, maps, reader) {
  const [which, draw, panel, examples] = ['map', 'draw', 'cell', 'examples'].map(name => find(name, root));
  let wanted = '';
  for (const cell of root.querySelectorAll('table[data-mk="map"] td')) {
    const button = make('button', cell.textContent, 'cell');
    button.dataset.cell = cell.title;
    button.setAttribute('aria-label', `${cell.title}: ${cell.textContent}`);
    button.style.color = cell.style.color;
    button.onclick = () => open(wanted = cell.title);
    cell.replaceChildren(button);
  }
  const drawn = () => root.querySelector(`[data-map="${which.value}"]`);
  async function open(name) {
    const map = which.value, {by, cells} = maps[map], cell = (await unpack(cells))[name];
    if (map !== which.value) return;
    for (const button of root.querySelectorAll('button.cell')) {
      button.setAttribute('aria-pressed', String(button.dataset.cell === name && drawn().contains(button)));
    }
    fill(panel, cell?.html ?? '<p>No model was trained and tested so.</p>');
    examples.hidden = !cell || !reader || cell.who.includes(-1) || !cell.who.length;
    if (examples.hidden) return;
    for (const button of examples.querySelectorAll('button')) {
      const kind = button.dataset.mk, some = {shown: cell.who, kind, [by]: cell.test}, n = reader.count(some);
      say(button, `${kind} (${n})`);
      button.disabled = !n;
      button.hidden = cell.who.length < 2 && kind !== 'all';
      button.onclick = () => reader.open(some);
    }
  }
  const show = () => {
    for (const map of root.querySelectorAll('[data-map]')) map.hidden = map.dataset.map !== which.value;
    for (const one of root.querySelectorAll('[data-draw]')) one.hidden = one.dataset.draw !== draw.value;
    const cells = [...drawn().querySelectorAll('button.cell')];
    const one = cells.find(button => button.dataset.cell === wanted) ?? cells[0];
    if (one) open(one.dataset.cell);
  };
  root.addEventListener('keydown', event => {
    const cell = event.target.closest('button.cell')?.parentElement, [down, across] = ARROWS[event.key] ?? [];
    if (!cell || down === undefined) return;
    const rows = [...cell.closest('tbody').rows], row = rows[cell.parentElement.rowIndex - 1 + down];
    row?.cells[cell.cellIndex + across]?.querySelector('button')?.focus();
    event.preventDefault();
  });
  which.onchange = draw.onchange = show;
  show();
}
