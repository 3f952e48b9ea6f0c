/* Best so far: the best validation accuracy by time, and the end of each trial. */

function drawTime(host) {
  let points = [];
  const timed = everyone.filter((i) => trials[i].end !== null);
  const last = Math.max(...timed.map((i) => trials[i].end));
  const [unit, unitName] = timeUnit(last);
  mount(host, (width) => {
    const height = clamp(0.34 * width, 180, 300);
    const box = { left: 44, right: width - 12, top: 22, bottom: 22 + height };
    const svg = canvas(width, box.bottom + 42);
    const name = width < 480 ? unitName : `${unitName} since the search began`;
    const count = clamp(width / 80, 3, 10);
    const time = { low: 0, high: last / unit, count, format: short, name };
    const [toUnit, toY] = frame(svg, box, time, accuracyAxis(5));
    const toX = (seconds) => toUnit(seconds / unit);

    const group = clipped(svg, box);
    points = [];
    const dots = new Map();
    for (const i of timed.filter((one) => trials[one].curve.length)) {
      const cx = toX(trials[i].end);
      const cy = Math.min(toY(trials[i].accuracy), box.bottom);
      const dot = node("circle", { class: `dot ${styleOf(i)}`, cx, cy, r: crowd ? 1.6 : 3 });
      points.push([cx, cy, i]);
      dots.set(i, dot);
      svg.append(dot);
    }
    group.append(node("path", { class: "series-0", d: path(bestLine(toX, toY, box.right)) }));
    const best = lastOf(report.steps);
    const words = `${percent(best.accuracy)}, trial ${best.number}`;
    const style = { class: "halo text-won", "text-anchor": "end" };
    svg.append(label(box.right, toY(best.accuracy) - 9, words, style));
    const over = node("g");
    svg.append(over);

    link("time", {
      filter: () => dots.forEach((dot, i) => dot.classList.toggle("out", !kept[i])),
      choice: () => {
        over.replaceChildren();
        const dot = dots.get(chosen);
        if (!dot) return;
        const [cx, cy] = [dot.getAttribute("cx"), dot.getAttribute("cy")];
        over.append(node("circle", { class: "ring", cx, cy, r: 5 }));
      },
    });
    return svg;
  });

  const about =
    "Chart: best validation accuracy by time. Arrow keys go through the trials as they ended.";
  const ended = [...timed].sort((a, b) => trials[a].end - trials[b].end);
  const order = () => ended.filter((i) => kept[i]);
  exploreTrials(host, about, order, (x, y) => nearestPoint(points, x, y));
}

/** Seconds in the unit that suits a search of so many seconds, and its name. */
function timeUnit(seconds) {
  if (seconds > 3 * 3600) return [3600, "hours"];
  if (seconds > 180) return [60, "minutes"];
  return [1, "seconds"];
}

/** A staircase: level until the next improvement, and on to the right edge. */
function bestLine(toX, toY, right) {
  const line = [];
  report.steps.forEach(({ seconds, accuracy }, k) => {
    if (k) line.push([toX(seconds), toY(report.steps[k - 1].accuracy)]);
    line.push([toX(seconds), toY(accuracy)]);
  });
  line.push([right, toY(lastOf(report.steps).accuracy)]);
  return line;
}
