/* ROC curves, each class against the rest: whole, and the upper left corner. The three classes
 * with the lowest AUROC stand out. */

const NAMED_CLASSES = 3;

function drawRoc(host) {
  const known = report.roc.map((_, k) => k).filter((k) => report.roc[k].length);
  const worst = [...known].sort((a, b) => report.auroc[a] - report.auroc[b]);
  const named = worst.slice(0, NAMED_CLASSES);
  const namedLast = [...known].sort((a, b) => named.includes(a) - named.includes(b));
  const lowest = Math.min(0.9, ...known.map((k) => rateAt(report.roc[k], 0.02)));
  const floor = Math.floor(10 * lowest) / 10;

  let shapes = [];
  let over = [];
  mount(host, (width) => {
    const beside = width > 620;
    const side = beside ? (width - 60) / 2 : width;
    const height = clamp(side - 56, 200, 360);
    const corner = beside ? [side + 60, 0] : [0, height + 66];
    const svg = canvas(width, corner[1] + height + 62);
    const axis = { high: 1, count: 5, format: (v) => percent(v, 0) };
    const views = [
      { at: [0, 0], x: axis, y: { ...axis, low: 0 } },
      { at: corner, x: { ...axis, high: 0.1 }, y: { ...axis, low: floor } },
    ];
    shapes = [];
    for (const view of views) {
      const [x0, y0] = view.at;
      const [left, right, top] = [x0 + 44, x0 + side - 10, y0 + 12];
      const box = { left, right, top, bottom: top + height };
      const x = { ...view.x, low: 0, name: "false positives" };
      const [toX, toY] = frame(svg, box, x, view.y);
      const group = clipped(svg, box);
      for (const one of namedLast) {
        const line = report.roc[one].map(([px, py]) => [toX(px), toY(py)]);
        const style = named.includes(one) ? `series-${named.indexOf(one)}` : "line";
        group.append(node("path", { class: style, d: path(line) }));
        shapes.push({ one, line, box, group });
      }
      nameClasses(svg, box, named, known.length > named.length);
    }
    over = [];
    return svg;
  });

  const name =
    `Chart: ROC curves of ${known.length} classes. ` +
    "Arrow keys go through them, the lowest AUROC first.";
  const nearest = (x, y) => nearestCurve(shapes, x, y);
  explore(host, name, () => worst, nearest, (one) => {
    over.forEach((mark) => mark.remove());
    const same = shapes.filter((shape) => shape.one === one);
    over = same.map(({ line, group }) => {
      return group.appendChild(node("path", { class: "chosen", d: path(line) }));
    });
    sayClass(host, one);
  });
}

function sayClass(host, one) {
  if (one === null) {
    say(host);
    return;
  }
  const found = percent(rateAt(report.roc[one], 0.01), 1);
  say(
    host,
    bold(`${report.classes[one]}: AUROC ${report.auroc[one].toFixed(4)}`),
    `; ${found} of its images are found at 1% false positives`,
  );
}

/** Names of the classes that stand out, in the lower right corner. */
function nameClasses(svg, box, named, thereAreMore) {
  const x = box.right - 4;
  named.forEach((one, row) => {
    const y = box.bottom - 12 - 17 * (named.length - 1 - row);
    const words = `${report.classes[one]} ${report.auroc[one].toFixed(4)}`;
    svg.append(label(x, y, words, { class: `halo tint-${row}`, "text-anchor": "end" }));
  });
  if (thereAreMore) {
    const y = box.bottom - 16 - 17 * named.length;
    svg.append(label(x, y, "lowest AUROC:", { class: "halo", "text-anchor": "end" }));
  }
}

/** The true positive rate of a curve at a false positive rate. */
function rateAt(curve, falseRate) {
  return curve.reduce((best, [px, py]) => (px <= falseRate ? Math.max(best, py) : best), 0);
}

function nearestCurve(shapes, x, y) {
  let best = null;
  let distance = 30;
  for (const { one, line, box } of shapes) {
    if (x < box.left - 10 || x > box.right + 10) continue;
    if (y < box.top - 10 || y > box.bottom + 10) continue;
    for (let k = 1; k < line.length; k++) {
      const here = distanceToSegment(x, y, line[k - 1], line[k]);
      if (here < distance) [best, distance] = [one, here];
    }
  }
  return best;
}

function distanceToSegment(x, y, [x1, y1], [x2, y2]) {
  const square = (x2 - x1) ** 2 + (y2 - y1) ** 2;
  const along = (x - x1) * (x2 - x1) + (y - y1) * (y2 - y1);
  const share = square ? clamp(along / square, 0, 1) : 0;
  return Math.hypot(x1 + share * (x2 - x1) - x, y1 + share * (y2 - y1) - y);
}
