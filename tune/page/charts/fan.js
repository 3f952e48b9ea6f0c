/* Every trial: its validation accuracy by epoch. */

function drawFan(host) {
  let points = [];
  mount(host, (width) => {
    const top = 15 * report.rungs.length + 22;
    const box = { left: 44, right: width - 12, top, bottom: top + clamp(0.5 * width, 220, 420) };
    const svg = canvas(width, box.bottom + 42);
    const epochs = epochAxis(report.epochs, clamp(width / 60, 3, 10));
    const [toX, toY] = frame(svg, box, epochs, accuracyAxis(6));
    report.rungs.forEach((rung, row) => drawRung(svg, rung, row, toX(rung.epoch), box, width));

    // What lies below the axis is drawn on it.
    const pointsOf = (i) =>
      trials[i].curve.map((value, k) => [toX(k + 1), Math.min(toY(value), box.bottom)]);
    points = everyone.flatMap((i) => pointsOf(i).map(([x, y]) => [x, y, i]));

    const lines = clipped(svg, box);
    const ends = node("g");
    const over = node("g");
    if (crowd) lines.classList.add(crowd);
    svg.append(ends, over);
    const drawn = new Map();
    for (const i of winnerLast) {
      if (!trials[i].curve.length) continue;
      const whole = trials[i].curve.map((value, k) => [toX(k + 1), toY(value)]);
      const line = node("path", { class: `line ${styleOf(i)}`, d: path(whole) });
      const end = fanEnd(i, ...lastOf(pointsOf(i)));
      lines.append(line);
      ends.append(end);
      drawn.set(i, [line, end]);
    }
    if (winner >= 0) svg.append(winnerLabel(toX, toY, width));

    link("fan", {
      filter: () => {
        drawn.forEach((parts, i) => parts.forEach((one) => one.classList.toggle("out", !kept[i])));
      },
      choice: () => {
        over.replaceChildren();
        if (chosen === null || !trials[chosen].curve.length) return;
        const line = pointsOf(chosen);
        const [cx, cy] = lastOf(line);
        over.append(node("path", { class: "chosen", d: path(line) }));
        over.append(node("circle", { class: "ring", cx, cy, r: 4.5 }));
      },
    });
    return svg;
  });

  const name =
    `Chart: validation accuracy by epoch of ${trials.length} trials. ` +
    "Arrow keys go through them, the best first.";
  exploreTrials(host, name, bestFirst, (x, y) => nearestPoint(points, x, y));
}

function drawRung(svg, rung, row, x, box, width) {
  const y = 16 + 15 * row;
  const late = x > width / 2;
  svg.append(node("line", { class: "rung", x1: x, x2: x, y1: y - 9, y2: box.bottom }));
  const words = `rung at ${rung.epoch}: ${many(rung.on)} of ${many(rung.came)} went on`;
  const style = { class: "halo", "text-anchor": late ? "end" : "start" };
  svg.append(label(x + (late ? -5 : 5), y, words, style));
}

/** What ends a trial's line: a cross if it failed, else a dot. */
function fanEnd(i, x, y) {
  if (trials[i].kind === "failed") {
    return node("path", { class: "cross", d: `M${x - 4},${y - 4}l8,8m0,-8l-8,8` });
  }
  let radius = crowd ? 1.2 : 2.2;
  if (i === winner) radius = 4;
  return node("circle", { class: `dot ${styleOf(i)}`, cx: x, cy: y, r: radius });
}

function winnerLabel(toX, toY, width) {
  const { n, curve, accuracy } = trials[winner];
  const [x, y] = [toX(curve.length), toY(lastOf(curve))];
  const style = { class: "halo text-won", "text-anchor": x > width / 2 ? "end" : "start" };
  return label(x, y - 10, `trial ${n}: ${percent(accuracy)}`, style);
}
