'use strict';
// The page's own script. It sorts, chooses, and puts ready HTML (made and escaped by medr1kit) where it belongs;
// whatever else it shows goes through textContent. It fetches nothing.
const read = name => JSON.parse(document.getElementById('mk-' + name)?.textContent ?? 'null');
const find = (hook, within = document) => within.querySelector(`[data-mk="${hook}"]`);
const say = (element, text) => { element.textContent = text; };
const make = (tag, text = '', className = '') =>
  Object.assign(document.createElement(tag), {textContent: text, className});
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

// A table as CSV, written as medr1kit/views/csv.py writes it: no cell is a formula to a spreadsheet.
const blank = '\\x00-\\x20\\x7f-\\xa0\\u1680\\u180e\\u2000-\\u200f\\u2028\\u2029\\u202f\\u205f\\u2060\\u3000\\ufeff';
const sign = '[=+\\-@\\ufe62\\ufe63\\ufe66\\ufe6b\\uff0b\\uff0d\\uff1d\\uff20]';
const begins = new RegExp(`^(?='*[\\t\\r\\n]|[${blank};']*${sign})`);
const follows = new RegExp(`;(?=[ \\t\\xa0;']*${sign})`, 'g');
function csv(lines) {
  const cell = text => {
    const safe = text.replaceAll('\0', '[U+0000]').replace(/\p{Surrogate}/gu, half => '\\u' + half.charCodeAt().toString(16));
    return '"' + safe.replace(follows, ";'").replace(begins, "'").replaceAll('"', '""') + '"';
  };
  return '\ufeff' + lines.map(line => line.map(cell).join(',') + '\r\n').join('');
}
function download(text, name) {
  const href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  Object.assign(make('a'), {href, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(href), 60000);
}
