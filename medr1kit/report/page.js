'use strict';
// The page's own script. It sorts, chooses, and puts ready HTML (made and escaped by medr1kit) where it belongs;
// whatever else it shows goes through textContent. It fetches nothing.
const read = name => JSON.parse(document.getElementById('mk-' + name)?.textContent ?? 'null');
const find = (hook, within = document) => within.querySelector(`[data-mk="${hook}"]`);
const say = (element, text) => { element.textContent = text; };
const make = (tag, text = '', className = '') => {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
};
const images = read('images') ?? [];

function fill(place, html) {
  place.innerHTML = html;
  for (const span of place.querySelectorAll('[data-image]')) span.innerHTML = images[span.dataset.image];
}

const opened = new Map();  // packed text -> promise of what it holds
function unpack(packed) {
  if (!opened.has(packed)) {
    const bytes = Uint8Array.from(atob(packed), letter => letter.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    opened.set(packed, new Response(plain).json());
  }
  return opened.get(packed);
}

// --- scores: tables that sort and filter ------------------------------------------------------------------------------

const NUMBER = /^\[?([+−-]?[\d,]*\.?\d+)/;
function worth(cell) {
  const text = cell.textContent.trim(), number = NUMBER.exec(text);
  return number ? Number(number[1].replaceAll(',', '').replace('−', '-')) : text === '–' ? null : text;
}
function compare(one, other) {
  if (typeof one === 'number' && typeof other === 'number') return one - other;
  return String(one).localeCompare(String(other), 'en', {numeric: true});
}
function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells], head = heads[column];
  const down = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
  for (const other of heads) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', down === 1 ? 'ascending' : 'descending');
  const rows = [...table.tBodies[0].rows].map(row => [worth(row.cells[column]), row]);
  rows.sort(([one], [other]) => {
    if (one === null || other === null) return (one === null) - (other === null);  // a dash stays last
    return down * compare(one, other);
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}
function startScores(root) {
  for (const table of root.querySelectorAll('table')) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make('button', head.textContent);
      button.type = 'button';
      button.onclick = () => sort(table, column);
      head.replaceChildren(button);
    });
    for (const row of table.tBodies[0].rows) {
      for (const cell of row.cells) if (NUMBER.test(cell.textContent)) cell.classList.add('n');
    }
  }
  const which = find('tested', root), words = find('filter', root);
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const part of root.querySelectorAll('[data-table]')) {
      part.hidden = part.dataset.table !== which.value;
      let left = 0;
      const rows = part.querySelector('tbody').rows;
      for (const row of rows) {
        const text = [...row.cells].map(cell => cell.textContent).join(' ').toLowerCase();
        row.hidden = !wanted.every(word => text.includes(word));
        left += !row.hidden;
      }
      if (!part.hidden) say(find('filtered', root), `${left} of ${rows.length} rows`);
    }
  };
  which.onchange = words.oninput = show;
  show();
}

// --- transfer maps ----------------------------------------------------------------------------------------------------

const ARROWS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};

function startMaps(root, maps, reader) {
  const which = find('map', root), draw = find('draw', root), panel = find('cell', root);
  const examples = find('examples', root);
  let chosen = null;
  for (const cell of root.querySelectorAll('table[data-mk="map"] td')) {
    const button = make('button', cell.textContent, 'cell');
    button.type = 'button';
    button.dataset.cell = cell.title;
    button.setAttribute('aria-label', `${cell.title}: ${cell.textContent}`);
    button.setAttribute('aria-pressed', 'false');
    button.style.color = cell.style.color;
    button.onclick = () => open(cell.title);
    cell.replaceChildren(button);
  }
  const drawn = () => root.querySelector(`[data-map="${which.value}"]`);
  async function open(name) {
    const map = which.value, {by, cells} = maps[map];
    const cell = (await unpack(cells))[name];
    if (map !== which.value) return;
    chosen = cell ? {...cell, by} : null;
    for (const button of root.querySelectorAll('button.cell')) {
      button.setAttribute('aria-pressed', String(button.dataset.cell === name && drawn().contains(button)));
    }
    fill(panel, cell?.html ?? '<p>No model was trained and tested so.</p>');
    examples.hidden = !cell || !reader || cell.who.includes(-1) || !cell.who.length;
    if (examples.hidden) return;
    for (const button of examples.querySelectorAll('button')) {
      const kind = button.dataset.mk;
      const n = reader.count({shown: cell.who, kind, [by]: cell.test});
      say(button, `${kind} (${n})`);
      button.disabled = !n;
      button.hidden = cell.who.length < 2 && kind !== 'all';
    }
  }
  for (const button of examples.querySelectorAll('button')) {
    button.onclick = () => reader.open({shown: chosen.who, kind: button.dataset.mk, [chosen.by]: chosen.test});
  }
  const show = () => {
    for (const map of root.querySelectorAll('[data-map]')) map.hidden = map.dataset.map !== which.value;
    for (const one of root.querySelectorAll('[data-draw]')) one.hidden = one.dataset.draw !== draw.value;
    const first = drawn().querySelector('button.cell');
    const same = [...drawn().querySelectorAll('button.cell')].find(button => button.dataset.cell === panel.dataset.cell);
    if (first) open((same ?? first).dataset.cell);
  };
  root.addEventListener('click', event => {
    const name = event.target.closest('button.cell')?.dataset.cell;
    if (name) panel.dataset.cell = name;
  });
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

// --- reader -----------------------------------------------------------------------------------------------------------

const FORMULA = /^'*[=+\-@\t\r\n]/;
const written = text => text.replaceAll('\0', '[U+0000]').replace(/\p{Surrogate}/gu,
  half => '\\u' + half.charCodeAt(0).toString(16));
const guard = text => {
  const safe = written(text);
  return '"' + (FORMULA.test(safe) ? "'" + safe : safe).replaceAll('"', '""') + '"';
};

function startReader(root, ready, packed) {
  const {names, right, malformed, letters, rows} = ready, n = packed.length;
  const places = ['first', 'second', 'third'].map(label => find(label, root)).filter(Boolean);
  const [kind, modality, task, search] = ['kind', 'modality', 'task', 'search'].map(name => find(name, root));
  const number = find('number', root), note = find('note', root), [back, on] = [find('previous', root), find('next', root)];
  const store = document.body.dataset.store;
  let notes = {}, selection = [], position = 0, turn = 0, choice = 0;
  try { notes = JSON.parse(localStorage.getItem(store)) ?? {}; } catch { /* private window, or nothing kept */ }

  const state = () => ({
    shown: places.map(place => Number(place.value)).filter(k => k >= 0),
    kind: kind.value, modality: modality.value, task: task.value,
  });
  function isKind(what, shown, q) {
    const verdicts = shown.map(k => right[k][q]), first = verdicts[0], last = verdicts.at(-1);
    switch (what) {
      case 'all': return true;
      case 'malformed': return shown.some(k => malformed[k][q] === '1');
      case 'disagree': return !verdicts.includes('-') && shown.some(k => letters[k][q] !== letters[shown[0]][q]);
      case 'fixed': return first === '0' && last === '1';
      case 'broken': return first === '1' && last === '0';
      case 'with a note': return rows.id[q] in notes;
      default: return verdicts.every(verdict => verdict === (what.endsWith('right') ? '1' : '0'));
    }
  }
  function matching({shown, kind = 'all', modality = 'all', task = 'all'}) {
    const left = [];
    for (let q = 0; q < n; q++) {
      if (modality !== 'all' && rows.modality[q] !== modality) continue;
      if (task !== 'all' && rows.task[q] !== task) continue;
      if (isKind(kind, shown, q)) left.push(q);
    }
    return left;
  }
  async function containing(text, numbers, shown) {
    const wanted = text.toLowerCase(), left = [];
    for (const q of numbers) {
      const {question, options, texts, places} = await unpack(packed[q]);
      const own = shown.map(k => places[k]).filter(place => place >= 0).map(place => texts[place]);
      if ([question, ...options, ...own].some(one => one.toLowerCase().includes(wanted))) left.push(q);
    }
    return left;
  }
  function setKinds() {
    const wanted = ready.kinds[state().shown.length > 1 ? 'paired' : 'single'], before = kind.value;
    if (kind.options.length === wanted.length && [...kind.options].every((o, i) => o.value === wanted[i])) return;
    kind.replaceChildren(...wanted.map(name => new Option(name, name)));
    kind.value = wanted.includes(before) ? before : 'all';
  }
  async function choose() {
    setKinds();
    const mine = ++choice, now = state();
    let left = matching(now);
    if (search.value) left = await containing(search.value, left, now.shown);
    if (mine !== choice) return;
    const here = selection[position];
    selection = left;
    position = Math.max(0, left.indexOf(here));
    const words = (now.shown.length > 1 ? ready.kinds.paired : ready.kinds.single).slice(1, -1);
    const counts = words.map(word => `${word} ${matching({shown: now.shown, kind: word}).length}`);
    say(find('status', root), `${left.length} of ${n} questions · in all: ${counts.join(', ')}`);
    await show();
  }
  async function show() {
    const mine = ++turn, some = selection.length > 0;
    number.max = Math.max(1, selection.length);
    number.value = position + 1;
    back.disabled = !some || position === 0;
    on.disabled = !some || position === selection.length - 1;
    note.disabled = !some;
    note.value = some ? notes[rows.id[selection[position]]] ?? '' : '';
    const question = find('question', root), answers = find('answers', root);
    if (!some) {
      question.replaceChildren(make('p', 'No question is left; loosen the filters.'));
      answers.replaceChildren();
      return;
    }
    const q = selection[position], held = await unpack(packed[q]), {shown} = state();
    if (mine !== turn) return;
    fill(question, held.html);
    [...question.querySelectorAll('[data-mk="options"] li')].forEach((item, place) => {
      const by = shown.filter(k => letters[k][q] === String.fromCharCode(65 + place)).map(k => names[k]);
      if (by.length) item.append(' ', make('small', '← ' + by.join(', ')));
    });
    answers.replaceChildren(...shown.map(k => {
      const cell = make('div', '', 'mk-cell'), body = make('div');
      const head = make('h4', names[k] + (names[k].includes(ready.formats[k]) ? '' : ' '));
      if (!names[k].includes(ready.formats[k])) head.append(make('small', ready.formats[k]));
      fill(body, held.places[k] < 0 ? '<p><em>not answered</em></p>' : held.shown[held.places[k]]);
      cell.dataset.answerer = k;
      cell.append(head, body);
      return cell;
    }));
  }
  function go(place) {
    position = Math.min(Math.max(0, place), Math.max(0, selection.length - 1));
    return show();
  }
  async function table() {
    const {shown} = state();
    const heads = ['id', 'image_id', 'modality', 'task', 'question', 'options', 'gold'];
    for (const k of shown) heads.push(...['predicted', 'correct', 'well_formed', 'completion'].map(what => `${names[k]} ${what}`));
    const lines = [[...heads, 'note']];
    for (const q of selection) {
      const held = await unpack(packed[q]);
      const options = held.options.map((text, i) => `${String.fromCharCode(65 + i)}) ${text}`).join(' | ');
      const line = [rows.id[q], rows.image_id[q], rows.modality[q], rows.task[q], held.question, options, rows.answer[q]];
      for (const k of shown) {
        const answered = held.places[k] >= 0;
        line.push(answered ? letters[k][q] : '', {'1': 'True', '0': 'False', '-': ''}[right[k][q]], held.formed[k],
          answered ? held.texts[held.places[k]] : '');
      }
      lines.push([...line, notes[rows.id[q]] ?? '']);
    }
    return '\ufeff' + lines.map(line => line.map(cell => guard(cell ?? '')).join(',') + '\r\n').join('');
  }
  async function save() {
    const said = find('said', root);
    if (!selection.length) return say(said, 'no question is left to save; loosen the filters');
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([await table()], {type: 'text/csv'}));
    link.download = 'selection.csv';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    say(said, `saved ${selection.length} questions to selection.csv, where your browser keeps downloads`);
  }

  places.forEach((place, k) => { place.value = String(ready.shown[k] ?? -1); });
  for (const control of [...places, kind, modality, task]) control.onchange = choose;
  search.oninput = choose;
  back.onclick = () => go(position - 1);
  on.onclick = () => go(position + 1);
  number.onchange = () => go(Math.trunc(number.value) - 1);
  find('save', root).onclick = save;
  note.oninput = () => {
    const id = rows.id[selection[position]];
    if (note.value.trim()) notes[id] = note.value; else delete notes[id];
    try { localStorage.setItem(store, JSON.stringify(notes)); } catch {
      say(find('said', root), 'This browser keeps no notes; save them as CSV before the page is closed.');
    }
  };
  window.addEventListener('storage', event => {  // the same page in another tab: neither is to undo the other's notes
    if (event.key === store && event.newValue) notes = JSON.parse(event.newValue);
  });
  document.addEventListener('keydown', event => {
    const typing = event.target.closest?.('input,select,textarea,[tabindex],button.cell');
    if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === 'ArrowRight') go(position + 1);
    if (event.key === 'ArrowLeft') go(position - 1);
  });
  choose();
  return {
    count: wanted => matching(wanted).length,
    open: wanted => {
      places.forEach((place, k) => { place.value = String(wanted.shown[k] ?? -1); });
      setKinds();
      kind.value = wanted.kind;
      modality.value = wanted.modality ?? 'all';
      task.value = wanted.task ?? 'all';
      search.value = '';
      position = 0;
      selection = [];
      choose();
      root.scrollIntoView();
      on.focus({preventScroll: true});
    },
  };
}

// --- training ---------------------------------------------------------------------------------------------------------

function startSteps(root, run) {
  const slider = find('step', root), group = find('group', root);
  const marks = [...root.querySelectorAll('img.mk-curve')].map(picture => {
    const frame = make('div', '', 'curve'), mark = make('i');
    picture.replaceWith(frame);
    frame.append(picture, mark);
    return mark;
  });
  let groups = [], shownStep = null, turn = 0;
  const showGroup = () => { if (groups.length) fill(find('group-shown', root), groups[group.value].html); };
  async function show() {
    const mine = ++turn, place = Number(slider.value), step = run.steps[place];
    say(find('step-shown', root), step);
    slider.setAttribute('aria-valuetext', `step ${step}`);
    for (const mark of marks) mark.style.left = run.places[place] + '%';
    const numbers = await unpack(run.numbers);
    if (mine !== turn) return;
    const unfolded = find('step-numbers', root).querySelector('details')?.open ?? true;
    fill(find('step-numbers', root), numbers[place]);
    const details = find('step-numbers', root).querySelector('details');
    if (details) details.open = unfolded;
    if (!group) return;
    const earlier = run.sampled.filter(one => one <= step), from = earlier.length ? earlier.at(-1) : run.sampled[0];
    say(find('group-from', root), from === step ? '' : `Completions of step ${step} are not in this page; these are of step ${from}.`);
    if (from === shownStep) return;
    const found = await unpack(run.groups[run.sampled.indexOf(from)]);
    if (mine !== turn) return;
    [groups, shownStep] = [found, from];
    group.replaceChildren(...groups.map((one, i) => new Option(one.name, i)));
    showGroup();
  }
  const move = by => { slider.value = Number(slider.value) + by; show(); };
  slider.oninput = show;
  find('step-back', root).onclick = () => move(-1);
  find('step-on', root).onclick = () => move(1);
  if (group) {
    const turnTo = by => { group.value = String((Number(group.value) + by + groups.length) % groups.length); showGroup(); };
    group.onchange = showGroup;
    find('group-back', root).onclick = () => turnTo(-1);
    find('group-on', root).onclick = () => turnTo(1);
  }
  show();
}

function start() {
  if (typeof DecompressionStream === 'undefined') {
    say(document.getElementById('trouble'), 'This browser is too old to open the answers; any of 2023 or later can.');
    return;
  }
  const part = name => document.getElementById(name);
  if (part('scores')) startScores(part('scores'));
  const reader = part('reader') ? startReader(part('reader'), read('reader'), read('questions')) : null;
  if (part('maps')) startMaps(part('maps'), read('maps'), reader);
  if (part('run')) startSteps(part('run'), read('run'));
}
start();
