/* Parameters: each trial as a line through its value of each parameter and down to its accuracy.
 * A range kept on an axis filters every chart and the table of trials. */

function drawParallel(host) {
  const axes = [...report.axes.map(placeAxis), resultAxis()];
  const setRange = filterBy(host, axes);
  const good = new Set(ranked.slice(0, Math.ceil(trials.length / 4)));
  const lineStyle = (i) => (good.has(i) ? "good" : "");

  let rows = [];
  let toX = null;
  mount(host, (width) => {
    const wide = width > 620;
    const [left, right, tall] = [wide ? 160 : 12, width - 14, wide ? 54 : 68];
    toX = scale(0, 1, left, right);
    rows = axes.map((_, k) => (wide ? 20 : 34) + tall * k);
    const svg = canvas(width, lastOf(rows) + 40);
    // The ends of the axes are for screen readers too; the rest of the drawing is not.
    svg.removeAttribute("aria-hidden");
    const still = node("g", { "aria-hidden": "true" });
    const lines = node("g", { "aria-hidden": "true", class: `parallel ${crowd}` });
    const over = node("g", { "aria-hidden": "true" });
    const words = node("g", { "aria-hidden": "true" });

    const lineOf = (i) => path(axes.map(({ at }, k) => [toX(at[i]), rows[k]]));
    const drawn = new Map();
    for (const i of winnerLast) {
      const style = i === winner ? "won" : lineStyle(i);
      const line = node("path", { class: `line ${style}`, d: lineOf(i) });
      lines.append(line);
      drawn.set(i, line);
    }
    axes.forEach((axis, k) => {
      drawAxis(still, words, axis, { y: rows[k], left, right, wide }, toX);
    });
    const controls = axes.map((axis, k) => rangeControl(axis, k, rows[k], toX, setRange));
    svg.append(still, lines, words, over, ...controls.map((one) => one.group));

    link("parallel", {
      filter: () => {
        drawn.forEach((line, i) => line.classList.toggle("out", !kept[i]));
        controls.forEach((one) => one.update());
      },
      choice: () => {
        over.replaceChildren();
        if (chosen !== null) over.append(node("path", { class: "chosen", d: lineOf(chosen) }));
      },
    });
    return svg;
  });

  const name =
    `Chart: ${axes.length - 1} parameters and the accuracy of ${trials.length} trials. ` +
    "Arrow keys go through the trials, the best first; Tab goes to the ends of each axis.";
  exploreTrials(host, name, bestFirst, (x, y) => nearestLine(axes, rows, toX, x, y));
}

function resultAxis() {
  const accuracies = trials.map((trial) => trial.accuracy ?? 0);
  const axis = numberAxis("validation accuracy", accuracies, LOW, HIGH, (v) => percent(v, 1));
  if (LOWER) axis.marks = [[0, "lower"], ...axis.marks];
  return axis;
}

/** Filter the trials by a range on each axis; give the function that sets one.
 *  It adds `range`, [low, high] in places from 0 to 1, to each axis. */
function filterBy(host, axes) {
  let waiting = false;
  for (const axis of axes) axis.range = [0, 1];

  function filter() {
    const inside = ({ at, range: [low, high] }, i) => at[i] >= low - 1e-9 && at[i] <= high + 1e-9;
    applyFilter((i) => axes.every((axis) => inside(axis, i)));
    const count = kept.filter(Boolean).length;
    const words = axes.filter(isNarrowed).map(rangeWords);
    byId("shown").textContent = words.length
      ? `${many(count)} of ${many(trials.length)} trials kept: ${words.join("; ")}`
      : `All ${many(trials.length)} trials are kept.`;
    byId("all").hidden = !words.length;
  }

  // At most once a frame, however often the pointer moves.
  function setRange(k, low, high) {
    axes[k].range = [clamp(low, 0, 1), clamp(high, 0, 1)];
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      filter();
    });
  }

  byId("all").addEventListener("click", () => {
    axes.forEach((_, k) => setRange(k, 0, 1));
    host.focus();
  });
  filter();
  return setRange;
}

const isNarrowed = ({ range: [low, high] }) => low !== 0 || high !== 1;

function rangeWords({ name, word, range: [low, high] }) {
  const ends = new Set([word(low, false), word(high, true)]);
  return `${name} ${[...ends].join(" to ")}`;
}

function drawAxis(still, words, { name, marks }, { y, left, right, wide }, toX) {
  still.append(node("line", { class: "axis", x1: left, x2: right, y1: y, y2: y }));
  words.append(label(0, y + (wide ? 4 : -15), name, { class: "halo name" }));
  for (const [place, text] of roomy(marks, toX)) {
    const x = toX(place);
    const half = 3.3 * text.length;
    const middle = clamp(x, left + half, right + 12 - half);
    still.append(node("line", { class: "axis", x1: x, x2: x, y1: y, y2: y + 5 }));
    words.append(label(middle, y + 19, text, { class: "halo", "text-anchor": "middle" }));
  }
}

/** The trial whose line is nearest beside the pointer, if one is near. */
function nearestLine(axes, rows, toX, x, y) {
  const k = clamp(rows.findIndex((row) => row > y) - 1, 0, rows.length - 2);
  const share = clamp((y - rows[k]) / (rows[k + 1] - rows[k]), 0, 1);
  let best = null;
  let distance = 24;
  for (const i of everyone) {
    const [above, below] = [axes[k].at[i], axes[k + 1].at[i]];
    const here = Math.abs(toX(above + share * (below - above)) - x);
    if (kept[i] && here < distance) [best, distance] = [i, here];
  }
  return best;
}
