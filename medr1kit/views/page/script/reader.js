// --- reader: of a report's answers, and of the errors on a worksheet --------------------------------------------------
// One item at a time, with fields to fill in for it. In a report an item is a question, and one chooses whose answers are
// shown; on a worksheet it is one answer, the reader gives a name, and all items are put on paper.

function startReader(root, ready, packed) {
  const {names, right, malformed, letters, rows, keys} = ready, n = packed.length, numbers = [...keys.keys()];
  const part = name => find(name, root);
  const [kind, search, number, asked, answered] = ['kind', 'search', 'number', 'question', 'answers'].map(part);
  const places = ['first', 'second', 'third'].map(part).filter(Boolean);
  const filters = ready.filters.map(part), fields = ready.fields.map(name => root.querySelector(`[name=${name}]`));
  const who = fields.find(field => field.name === 'reader');
  const store = document.body.dataset.store;
  let notes = {}, selection = [ready.opens], position = 0, turn = 0, choice = 0;
  try { notes = JSON.parse(localStorage.getItem(store)) ?? {}; } catch { /* private window, or nothing kept */ }
  for (const key in notes) if (typeof notes[key] === 'string') notes[key] = {note: notes[key]};  // of an earlier report

  const keyOf = (field, q = selection[position]) => field === who ? '' : keys[q];
  const noted = (field, q) => notes[keyOf(field, q)]?.[field.name] ?? '';
  const state = () => {
    const shown = places.map(place => Number(place.value)).filter(k => k >= 0);
    const by = Object.fromEntries(filters.map(filter => [filter.dataset.mk, filter.value]));
    return {shown: shown.length ? shown : ready.shown, kind: kind.value, ...by};
  };
  function isKind(what, shown, q) {
    const verdicts = shown.map(k => right[k][q]), first = verdicts[0], last = verdicts.at(-1);
    switch (what) {
      case 'all': return true;
      case 'malformed': return shown.some(k => malformed[k][q] === '1');
      case 'disagree': return !verdicts.includes('-') && shown.some(k => letters[k][q] !== letters[shown[0]][q]);
      case 'fixed': return first === '0' && last === '1';
      case 'broken': return first === '1' && last === '0';
      case 'with a note': return keys[q] in notes;
      case 'without a note': return !(keys[q] in notes);
      default: return verdicts.every(verdict => verdict === (what.endsWith('right') ? '1' : '0'));
    }
  }
  const matching = ({shown, kind = 'all', ...by}) => numbers.filter(q => isKind(kind, shown, q) &&
    Object.entries(by).every(([column, value]) => value === 'all' || rows[column][q] === value));
  async function contains(q, text, shown) {
    const {words, texts, places} = await unpack(packed[q]), own = shown.map(k => texts[places[k]] ?? '');
    return [...words, ...own].some(one => one.toLowerCase().includes(text.toLowerCase()));
  }
  function setKinds() {
    const wanted = ready.kinds[state().shown.length > 1 ? 'paired' : 'single'], before = kind.value;
    if ([...kind.options].map(option => option.value).join() === wanted.join()) return;
    kind.replaceChildren(...wanted.map(name => new Option(name)));
    kind.value = wanted.includes(before) ? before : 'all';
  }
  function count() {
    const {shown} = state(), words = [...kind.options].map(option => option.value).filter(word => !/^all$|note$/.test(word));
    const counts = words.map(word => `${word} ${matching({shown, kind: word}).length}`);
    const done = `${matching({shown, kind: 'with a note'}).length} of ${n} annotated`;
    say(part('status'), `${selection.length} of ${n} ${ready.unit} · ${who ? done : `in all: ${counts.join(', ')}`}`);
  }
  async function choose() {
    setKinds();
    const mine = ++choice, now = state();
    let left = matching(now);
    if (search.value) {
      const held = await Promise.all(left.map(q => contains(q, search.value, now.shown)));
      left = left.filter((_, place) => held[place]);
    }
    if (mine !== choice) return;
    const here = selection[position];
    selection = left;
    count();
    await go(left.indexOf(here));
  }
  function draw(question, answers, q, held, shown) {
    fill(question, held.html);
    [...question.querySelectorAll('[data-mk="options"] li')].forEach((item, place) => {
      const by = shown.filter(k => letters[k][q] === String.fromCharCode(65 + place)).map(k => names[k]);
      if (by.length) item.append(' ', make('small', '← ' + by.join(', ')));
    });
    const some = who ? shown.filter(k => held.places[k] >= 0) : shown;
    answers.replaceChildren(...some.map(k => {
      const cell = make('div', '', 'mk-cell'), body = make('div'), head = make('h4', names[k]);
      if (!names[k].includes(ready.formats[k])) head.append(' ', make('small', ready.formats[k]));
      fill(body, held.shown[held.places[k]] ?? '<p><em>not answered</em></p>');
      cell.append(head, body);
      return cell;
    }));
  }
  async function go(place) {
    position = Math.min(Math.max(0, place), Math.max(0, selection.length - 1));
    const mine = ++turn, last = selection.length - 1, q = selection[position];
    Object.assign(number, {max: Math.max(1, last + 1), value: position + 1});
    part('previous').disabled = position === 0;
    part('next').disabled = position >= last;
    for (const field of fields) Object.assign(field, {disabled: keyOf(field) === undefined, value: noted(field)});
    if (last < 0) {
      asked.replaceChildren(make('p', `No ${ready.unit.slice(0, -1)} is left; loosen the filters.`));
      return answered.replaceChildren();
    }
    const held = await unpack(packed[q]);
    if (mine === turn) draw(asked, answered, q, held, state().shown);
  }
  async function save() {
    const {shown} = state(), wanted = who ? numbers : selection;  // no annotation is lost to a filter
    if (!wanted.length) return say(part('said'), 'no question is left to save; loosen the filters');
    const lines = [[...ready.heads, ...shown.flatMap(k => ready.told.map(what => `${names[k]} ${what}`)), ...ready.fields]];
    for (const q of wanted) {
      const {line, told, places} = await unpack(packed[q]);
      const own = shown.flatMap(k => ready.told.map((_, i) => told[places[k]]?.[i] ?? ''));
      lines.push([...line, ...own, ...fields.map(field => noted(field, q))]);
    }
    const name = who ? `worksheet-${who.value.replace(/\W+/g, '-') || 'reader'}.csv` : 'selection.csv';
    download(csv(lines), name);
    say(part('said'), `saved ${wanted.length} ${ready.unit} to ${name}, where your browser keeps downloads`);
  }
  async function putOnPaper() {
    const paper = await Promise.all(numbers.map(async q => {
      const item = make('article'), places = [make('div'), make('div', '', 'mk-cells')];
      draw(...places, q, await unpack(packed[q]), ready.shown);
      item.append(...places, make('p'));
      return item;
    }));
    part('paper').replaceChildren(...paper);
    window.addEventListener('beforeprint', () => paper.forEach((item, q) => {
      say(item.lastChild, fields.map(field => `${field.name}: ${noted(field, q) || '________'}`).join(' · '));
    }));
  }

  places.forEach((place, k) => { place.value = String(ready.shown[k] ?? -1); });
  for (const control of [...places, kind, ...filters, search]) control.oninput = choose;
  part('previous').onclick = () => go(position - 1);
  part('next').onclick = () => go(position + 1);
  number.onchange = () => go(Math.trunc(number.value) - 1);
  part('save').onclick = save;
  for (const field of fields) {
    field.oninput = () => {
      const note = {...notes[keyOf(field)], [field.name]: field.value};
      notes[keyOf(field)] = note;
      if (!Object.values(note).some(text => text.trim())) delete notes[keyOf(field)];
      count();
      try { localStorage.setItem(store, JSON.stringify(notes)); } catch {
        say(part('said'), 'This browser keeps no notes; save them as CSV before the page is closed.');
      }
    };
  }
  window.addEventListener('storage', event => {  // the same page in another tab: neither is to undo the other's notes
    if (event.key === store && event.newValue) notes = JSON.parse(event.newValue);
  });
  document.addEventListener('keydown', event => {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    const typing = event.target.closest?.('input,select,textarea,[tabindex]:not(img),button.cell');
    if (by && !typing && !event.ctrlKey && !event.altKey && !event.metaKey) go(position + by);
  });
  choose();
  if (who) putOnPaper();
  return {
    count: wanted => matching(wanted).length,
    open: wanted => {
      places.forEach((place, k) => { place.value = String(wanted.shown[k] ?? -1); });
      setKinds();
      kind.value = wanted.kind;
      for (const filter of filters) filter.value = wanted[filter.dataset.mk] ?? 'all';
      search.value = '';
      selection = [];
      choose();
      root.scrollIntoView();
      part('next').focus({preventScroll: true});
    },
  };
}
