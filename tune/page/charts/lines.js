/* The winner's training: loss and accuracy by epoch. */

function drawTraining() {
  if (!byId("loss-plot")) return;
  const loss = { name: "training", values: report.history.map((row) => row.train_loss) };
  const lossWords = (value, digits) => value.toFixed(Math.max(digits, 2));
  drawLines(byId("loss-plot"), "Chart: training loss by epoch.", [loss], lossWords);

  const series = [{ name: "training", values: report.history.map((row) => row.train_accuracy) }];
  if (winner >= 0) {
    series.push({ name: "validation, of its trial", values: trials[winner].curve });
  }
  drawLines(byId("accuracy-plot"), "Chart: accuracy by epoch.", series, percent);
}

/** Draw lines by epoch, each with its name at its end.
 *  Args: about: what the chart shows; series: {name, values}; format(value, digits): a value in
 *  words. */
function drawLines(host, about, series, format) {
  const ends = series.map(
    ({ name, values }) => ` ${name}: ${format(lastOf(values), 2)} in the end.`,
  );
  host.setAttribute("role", "img");
  host.setAttribute("aria-label", about + ends.join(""));

  const all = series.flatMap(({ values }) => values);
  const epochs = Math.max(...series.map(({ values }) => values.length));
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const room = 0.08 * (most - least || 0.02);
  const digits = most - least < 0.05 ? 1 : 0;
  const height = { low: least - room, high: most + room, count: 5 };
  const y = { ...height, format: (value) => format(value, digits) };
  mount(host, (width) => {
    const box = { left: 44, right: width - 12, top: 24, bottom: 214 };
    const svg = canvas(width, 256);
    const x = epochAxis(epochs, clamp(width / 60, 3, 8));
    const [toX, toY] = frame(svg, box, x, y);
    series.forEach(({ values }, k) => {
      const line = values.map((value, epoch) => [toX(epoch + 1), toY(value)]);
      svg.append(node("path", { class: `series-${k}`, d: path(line) }));
      for (const [cx, cy] of line) {
        svg.append(node("circle", { class: `tint-${k}`, cx, cy, r: 2.5 }));
      }
    });

    const upper = Math.max(...series.map(({ values }) => lastOf(values)));
    series.forEach((one, k) => {
      const under = series.length > 1 && lastOf(one.values) < upper;
      const words = `${one.name} ${format(lastOf(one.values), 2)}`;
      const at = nameHeight(one.values, words, under, toX, toY);
      const style = { class: `halo tint-${k}`, "text-anchor": "end" };
      svg.append(label(toX(one.values.length), at, words, style));
    });
    return svg;
  });
}

/** The height of a line's name: clear of the line, as far back as the words reach. */
function nameHeight(values, words, under, toX, toY) {
  const end = toX(values.length);
  const heights = [];
  values.forEach((value, epoch) => {
    if (toX(epoch + 2) > end - 7 * words.length) heights.push(toY(value));
  });
  return under ? Math.max(...heights) + 18 : Math.min(...heights) - 10;
}
