// --- training ---------------------------------------------------------------------------------------------------------

function startSteps(root, run) {
  const slider = find('step', root), group = find('group', root), table = find('step-numbers', root);
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
    const from = run.sampled.findLast(one => one <= step) ?? run.sampled[0];
    const numbers = await unpack(run.numbers), found = group && await unpack(run.groups[run.sampled.indexOf(from)]);
    if (mine !== turn) return;
    const folded = table.querySelector('details:not([open])');
    fill(table, numbers[place]);
    table.querySelector('details')?.toggleAttribute('open', !folded);
    if (!group) return;
    say(find('group-from', root), from === step ? '' : `Completions of step ${step} are not in this page; these are of step ${from}.`);
    if (from === shownStep) return;
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
