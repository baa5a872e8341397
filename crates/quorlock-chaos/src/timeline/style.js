// Colours and patterns of the states, and the placement of labels. Included before page.js.
const STATES = [
  ["waiting", ""], ["holding", ""], ["hit, but votes", "touched"], ["on probation", "probation"], ["slow", "slow"], ["clock off", "clock"],
  ["rejects writes", "rejects-writes"], ["unreachable", "unreachable"], ["paused", "paused"], ["down", "down"], ["not in the roster", "left"], ["address moved", "moved"],
  ["data loss", "data-loss"],
  ["lost", "lost"], ["two at once, excused", "expected"], ["two at once", "bad"],
];
const WAITING = 0, HOLDING = 1, PROBATION = 3, SLOW = 4, DATA_LOSS = 12, LOST = 13, EXPECTED_OVERLAP = 14, OVERLAP = 15;
// Neighbours also differ in lightness, for colour-blind readers.
const HUES = [[212, 0], [158, -8], [276, 3], [188, -3], [305, -9], [92, -5], [240, 3], [45, -4], [130, -12], [330, 3]];
const hue = (process) => { const [angle, lighter] = HUES[process % HUES.length]; return `hsl(${angle} 52% calc(var(--light) + ${lighter}%))`; };

// Hatched patterns, so that states differ by more than colour.
const hatch = (id, angle, background, line) =>
  `<pattern id="${id}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(${angle})"><rect width="6" height="6" fill="${background}"/><path d="M0 0V6" stroke="${line}" stroke-width="3"/></pattern>`;
const PATTERNS = `<defs>${hatch("unreachable", 45, "var(--unreachable)", "color-mix(in srgb, var(--unreachable), black 18%)")}${hatch("paused", 0, "var(--paused)", "color-mix(in srgb, var(--paused), black 16%)")}${hatch("probation", -45, "color-mix(in srgb, var(--probation), var(--card) 45%)", "var(--probation)")}${hatch("left", 0, "var(--left)", "color-mix(in srgb, var(--left), black 16%)")}${hatch("moved", 135, "var(--moved)", "color-mix(in srgb, var(--moved), black 16%)")}${hatch("clock", 90, "var(--clock)", "color-mix(in srgb, var(--clock), black 16%)")}${hatch("bad", 45, "var(--bad)", "color-mix(in srgb, var(--bad), var(--card) 40%)")}${hatch("expected", -45, "var(--expected)", "color-mix(in srgb, var(--expected), var(--card) 40%)")}${hatch("lost", 45, "color-mix(in srgb, var(--bad), var(--card) 55%)", "color-mix(in srgb, var(--bad), var(--card) 25%)")}</defs>`;

const formatDuration = (us) => (us >= 1e6 ? (us / 1e6).toFixed(2) + " s" : us >= 1e3 ? (us / 1e3).toFixed(1) + " ms" : us + " µs");
const escapeHtml = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const fitText = (text, px, charPx) => (text.length * charPx <= px ? text : px < 7 * charPx ? "" : text.slice(0, Math.floor(px / charPx) - 1) + "…");

function fillOf(state) {
  const name = STATES[state][1];
  if (["unreachable", "paused", "probation", "left", "moved", "clock", "lost", "expected", "bad"].includes(name)) return `url(#${name})`;
  return `var(--${name})`;
}

// The first part of a box that no other box covers and that has room for the whole label; else the widest such part.
function freePart([left, end], covered, wanted) {
  let parts = [[left, end]];
  for (const [from, to] of covered) parts = parts.flatMap(([a, b]) => (to <= a || from >= b ? [[a, b]] : [[a, from], [to, b]].filter(([a, b]) => b - a > 12)));
  return parts.find(([a, b]) => b - a >= wanted) || parts.reduce((best, part) => (part[1] - part[0] > best[1] - best[0] ? part : best), [0, 0]);
}
