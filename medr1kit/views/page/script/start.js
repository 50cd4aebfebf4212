// --- start: each part of the page that is there --------------------------------------------------------------------

const part = name => document.getElementById(name);
if (typeof DecompressionStream === 'undefined') {
  say(part('trouble'), 'This browser is too old to open the answers; any of 2023 or later can.');
} else {
  if (part('scores')) startScores(part('scores'));
  const reader = part('reader') ? startReader(part('reader'), read('reader'), read('questions')) : null;
  if (part('maps')) startMaps(part('maps'), read('maps'), reader);
  if (part('run')) startSteps(part('run'), read('run'));
}
enlarging(document.body);
