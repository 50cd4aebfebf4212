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
