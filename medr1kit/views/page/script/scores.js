// --- scores: tables that sort and filter ------------------------------------------------------------------------------

const NUMBER = /^\[?([+−-]?[\d,]*\.?\d+)/;
function worth(cell) {
  const text = cell.textContent.trim(), number = NUMBER.exec(text);
  return number ? Number(number[1].replaceAll(',', '').replace('−', '-')) : text === '–' ? null : text;
}
function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells], head = heads[column];
  const down = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
  for (const other of heads) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', down === 1 ? 'ascending' : 'descending');
  const rows = [...table.tBodies[0].rows].map(row => [worth(row.cells[column]), row]);
  rows.sort(([one], [other]) => {
    if (one === null || other === null) return (one === null) - (other === null);  // a dash stays last
    if (typeof one === 'number' && typeof other === 'number') return down * (one - other);
    return down * String(one).localeCompare(String(other), 'en', {numeric: true});
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}
function startScores(root) {
  for (const table of root.querySelectorAll('table')) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make('button', head.textContent);
      button.onclick = () => sort(table, column);
      head.replaceChildren(button);
    });
    for (const cell of table.querySelectorAll('td')) if (NUMBER.test(cell.textContent)) cell.classList.add('n');
  }
  const which = find('tested', root), words = find('filter', root);
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const part of root.querySelectorAll('[data-table]')) {
      part.hidden = part.dataset.table !== which.value;
      const rows = [...part.querySelector('tbody').rows];
      for (const row of rows) {
        const text = [...row.cells].map(cell => cell.textContent).join(' ').toLowerCase();
        row.hidden = !wanted.every(word => text.includes(word));
      }
      const left = rows.filter(row => !row.hidden).length;
      if (!part.hidden) say(find('filtered', root), `${left} of ${rows.length} rows`);
    }
  };
  which.onchange = words.oninput = show;
  show();
}
