// An image enlarges to the window: a click or Enter on it; another, or Esc, closes it. For images that medr1kit wrote.
function enlarging(root) {
  const image = event => event.target.matches?.('img.mk-image[tabindex]') ? event.target : null;
  const open = small => {
    const dialog = document.createElement('dialog'), large = document.createElement('img');
    Object.assign(large, {src: small.src, alt: small.alt});
    dialog.className = 'mk-zoom';
    dialog.setAttribute('aria-label', `${small.alt}, enlarged`);
    dialog.setAttribute('data-lm-suppress-shortcuts', 'true');  // else JupyterLab takes the keys
    dialog.append(large);
    dialog.onclick = () => dialog.close();
    dialog.onkeydown = event => {
      event.stopPropagation();
      if ([' ', 'Enter'].includes(event.key)) { event.preventDefault(); dialog.close(); }
    };
    dialog.onclose = () => { dialog.remove(); small.focus({preventScroll: true}); };
    root.append(dialog);
    dialog.showModal();
  };
  const tell = event => { if (image(event)) Object.assign(image(event), {role: 'button', title: 'enlarge: click, or Enter'}); };
  const heard = {
    click: event => { if (image(event)) open(event.target); },
    keydown: event => {
      if (event.key !== 'Enter' || !image(event)) return;
      event.preventDefault();
      event.stopPropagation();
      open(event.target);
    },
    focusin: tell, pointerover: tell,
  };
  for (const [name, handler] of Object.entries(heard)) root.addEventListener(name, handler);
  return () => { for (const [name, handler] of Object.entries(heard)) root.removeEventListener(name, handler); };
}
