/* How charts are drawn: SVG elements, scales, frames with a grid. */

function node(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function path(points) {
  return "M" + points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
}

function label(x, y, text, attributes = {}) {
  return node("text", { x, y, ...attributes }, text);
}

function canvas(width, height) {
  const size = { viewBox: `0 0 ${width} ${height}`, width, height };
  return node("svg", { ...size, "aria-hidden": "true" });
}

/** Keep a chart as wide as its place. `draw(width)` gives the svg. */
function mount(host, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (!host.clientWidth || host.clientWidth === width) return;
    width = host.clientWidth;
    host.replaceChildren(draw(width));
  }).observe(host);
}

function scale(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** Round numbers from low to high, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);

  const found = [];
  let k = Math.ceil(low / step - 1e-9);
  while (k * step <= high + 1e-9 * step) {
    found.push(k * step);
    k++;
  }
  return found;
}

/** The axis of epochs, marked at whole ones. */
function epochAxis(epochs, count) {
  const low = Math.min(1, epochs - 1);
  const whole = ticks(low, epochs, count).filter(Number.isInteger);
  return { low, high: epochs, ticks: whole, format: String, name: "epoch" };
}

/** Lowest and highest accuracy drawn, and whether some are lower: bad trials and first epochs
 *  would flatten all the others. */
function accuracyRange() {
  const values = trials.flatMap((trial) => trial.curve).sort((a, b) => a - b);
  if (!values.length) return [0, 1, false];

  const [lowest, high] = [values[0], lastOf(values)];
  const fifth = values[Math.floor(values.length / 5)];
  const spread = high - fifth;
  const low = high - lowest > 2 * spread ? fifth - 0.2 * spread : lowest;
  const room = 0.06 * (high - low || 0.02);
  return [Math.max(low - room, 0), Math.min(high + room, 1), lowest < low - room];
}

const [LOW, HIGH, LOWER] = accuracyRange();

function accuracyAxis(count) {
  const digits = HIGH - LOW < 0.05 ? 1 : 0;
  return { low: LOW, high: HIGH, lower: LOWER, count, format: (v) => percent(v, digits) };
}

/** Draw a frame with a grid; give its two scales.
 *  Args: box: left, right, top, bottom in pixels; x, y: low, high, count or ticks, format. */
function frame(svg, box, x, y) {
  const toX = scale(x.low, x.high, box.left, box.right);
  const toY = scale(y.low, y.high, box.bottom, box.top);
  const end = { "text-anchor": "end" };
  for (const value of ticks(y.low, y.high, y.count)) {
    const at = toY(value);
    svg.append(node("line", { class: "rule", x1: box.left, x2: box.right, y1: at, y2: at }));
    svg.append(label(box.left - 8, at + 4, y.format(value), end));
  }
  for (const value of x.ticks || ticks(x.low, x.high, x.count)) {
    svg.append(label(toX(value), box.bottom + 18, x.format(value), { "text-anchor": "middle" }));
  }

  const base = { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom };
  svg.append(node("line", { class: "axis", ...base }));
  if (x.name) svg.append(label(box.right, box.bottom + 36, x.name, end));
  if (y.lower) {
    const words = "lower ones lie on this line";
    svg.append(label(box.left, box.bottom + 36, words, { class: "low" }));
  }
  return [toX, toY];
}

let clips = 0;

/** A group that shows nothing outside of the box. */
function clipped(svg, { left, right, top, bottom }) {
  const id = `clip-${++clips}`;
  const [x, y] = [left - 6, top - 6];
  const shape = node("rect", { x, y, width: right - left + 12, height: bottom - top + 6 });
  const group = node("g", { "clip-path": `url(#${id})` });
  svg.append(node("clipPath", { id }, shape), group);
  return group;
}

/** How a trial's line or dot is coloured. */
const styleOf = (i) => (i === winner ? "won" : trials[i].kind);

/** Many lines are drawn thinner. */
const crowd = trials.length > 150 ? "many" : "";
