// --- start: each part of the page that is there --------------------------------------------------------------------

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
