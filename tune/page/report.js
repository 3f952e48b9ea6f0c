/* Draws the charts of the report from the JSON in the page, and links them: one trial chosen, one filter, for all of them. */
"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const trials = D.trials;
  const everyone = trials.map((_, i) => i);
  const winner = trials.findIndex((trial) => trial.n === D.winner);
  const percent = (value, digits = 2) => (value === null ? "–" : `${(100 * value).toFixed(digits)}%`);
  const short = (value) => String(Number(value.toPrecision(3)));
  const many = (count) => count.toLocaleString("en");
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const byId = (id) => document.getElementById(id);

  // ---- what is chosen and what is kept

  const kept = everyone.map(() => true);
  let chosen = null;
  const whenChosen = [];
  const whenKept = [];

  function choose(trial) {
    if (trial === chosen) return;
    chosen = trial;
    whenChosen.forEach((tell) => tell());
  }

  function say(host, ...parts) {
    const place = host.parentNode.querySelector(".said");
    if (!parts.length) place.textContent = place.dataset.hint;
    else place.replaceChildren(...parts);
  }

  const bold = (text) => Object.assign(document.createElement("b"), { textContent: text });

  function sayTrial(host, trial) {
    if (trial === null) return say(host);
    const { n, curve, outcome, about, accuracy } = trials[trial];
    const epochs = `${curve.length} epoch${curve.length === 1 ? "" : "s"}`;
    return say(host, bold(`Trial ${n}: ${percent(accuracy)}`), ` after ${epochs}; ${outcome}. ${about}`);
  }

  // ---- drawing

  function node(name, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const path = (points) => "M" + points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
  const label = (x, y, text, attributes = {}) => node("text", { x, y, ...attributes }, text);

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
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
    return found;
  }

  /** Lowest and highest accuracy drawn, and whether some are lower: bad trials and first epochs would flatten all the others. */
  function accuracyRange() {
    const values = trials.flatMap((trial) => trial.curve).sort((a, b) => a - b);
    if (!values.length) return [0, 1, false];
    const high = values[values.length - 1];
    const fifth = values[Math.floor(values.length / 5)];
    const low = high - values[0] > 2 * (high - fifth) ? fifth - 0.2 * (high - fifth) : values[0];
    const room = 0.06 * (high - low || 0.02);
    return [Math.max(low - room, 0), Math.min(high + room, 1), values[0] < low - room];
  }

  const [LOW, HIGH, LOWER] = accuracyRange();

  /** Keep a chart as wide as its place. `draw(width)` gives the svg. */
  function mount(host, draw) {
    let width = 0;
    new ResizeObserver(() => {
      if (!host.clientWidth || host.clientWidth === width) return;
      width = host.clientWidth;
      host.replaceChildren(draw(width));
    }).observe(host);
  }

  function canvas(width, height) {
    return node("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  }

  /** Frame with a grid; gives the two scales. Args: box: left, right, top, bottom in pixels; x, y: low, high, count, format. */
  function frame(svg, box, x, y) {
    const toX = scale(x.low, x.high, box.left, box.right);
    const toY = scale(y.low, y.high, box.bottom, box.top);
    for (const value of ticks(y.low, y.high, y.count)) {
      const at = toY(value);
      svg.append(node("line", { class: "rule", x1: box.left, x2: box.right, y1: at, y2: at }));
      svg.append(label(box.left - 8, at + 4, y.format(value), { "text-anchor": "end" }));
    }
    for (const value of x.ticks || ticks(x.low, x.high, x.count)) {
      svg.append(label(toX(value), box.bottom + 18, x.format(value), { "text-anchor": "middle" }));
    }
    svg.append(node("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    if (x.name) svg.append(label(box.right, box.bottom + 36, x.name, { "text-anchor": "end" }));
    if (y.lower) svg.append(label(box.left, box.bottom + 36, "lower ones lie on this line", { class: "low" }));
    return [toX, toY];
  }

  let clips = 0;

  /** A group that shows nothing outside of the box. */
  function clipped(svg, { left, right, top, bottom }) {
    const id = `clip-${++clips}`;
    const shape = node("rect", { x: left - 6, y: top - 6, width: right - left + 12, height: bottom - top + 6 });
    const group = node("g", { "clip-path": `url(#${id})` });
    svg.append(node("clipPath", { id }, shape), group);
    return group;
  }

  const styleOf = (i) => (i === winner ? "won" : trials[i].kind);
  const crowd = trials.length > 150 ? "many" : "";
  const winnerLast = [...everyone.filter((i) => i !== winner), ...(winner < 0 ? [] : [winner])];
  const accuracyAxis = (count) => ({ low: LOW, high: HIGH, lower: LOWER, count, format: (v) => percent(v, HIGH - LOW < 0.05 ? 1 : 0) });

  /** Let pointer and keys go through the things a chart shows. Args: order: of the keys; nearest(x, y): a thing or null. */
  function explore(host, name, order, nearest, pick) {
    let at = null;
    const go = (thing) => {
      at = thing;
      pick(thing);
    };
    host.tabIndex = 0;
    host.setAttribute("role", "group");
    host.setAttribute("aria-label", name);
    host.addEventListener("pointermove", (event) => {
      const place = host.getBoundingClientRect();
      go(nearest(event.clientX - place.left, event.clientY - place.top));
    });
    host.addEventListener("pointerleave", () => go(null));
    host.addEventListener("blur", () => go(null));
    host.addEventListener("keydown", (event) => {
      const things = order();
      const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };
      const here = things.indexOf(at);
      if (event.key === "Escape") go(null);
      else if (!things.length) return;
      else if (event.key === "Home") go(things[0]);
      else if (event.key === "End") go(things[things.length - 1]);
      else if (event.key in steps) go(things[here < 0 ? 0 : clamp(here + steps[event.key], 0, things.length - 1)]);
      else return;
      event.preventDefault();
    });
  }

  const ranked = [...everyone].sort((a, b) => (trials[b].accuracy ?? -1) - (trials[a].accuracy ?? -1));
  const trialOrder = () => ranked.filter((i) => kept[i] && trials[i].curve.length);

  function exploreTrials(host, name, order, nearest) {
    explore(host, name, order, nearest, (trial) => {
      choose(trial);
      sayTrial(host, trial);
    });
  }

  /** The nearest of many points [x, y, thing], if one is near. */
  function nearestPoint(points, x, y, reach = 40) {
    let best = null;
    let distance = reach * reach;
    for (const [px, py, thing] of points) {
      const here = (px - x) ** 2 + (py - y) ** 2;
      if (here < distance && kept[thing]) [best, distance] = [thing, here];
    }
    return best;
  }

  const refresh = { fan: null, time: null, parallel: null };
  for (const what of Object.keys(refresh)) {
    whenChosen.push(() => refresh[what]?.choice());
    whenKept.push(() => refresh[what]?.filter());
  }

  // ---- every trial

  function drawFan(host) {
    let points = [];
    mount(host, (width) => {
      const head = 15 * D.rungs.length + 22;
      const box = { left: 44, right: width - 12, top: head, bottom: head + clamp(0.5 * width, 220, 420) };
      const svg = canvas(width, box.bottom + 42);
      const whole = { low: Math.min(1, D.epochs - 1), high: D.epochs, count: clamp(width / 60, 3, 10), name: "epoch", format: String };
      whole.ticks = ticks(whole.low, whole.high, whole.count).filter(Number.isInteger);
      const [toX, toY] = frame(svg, box, whole, accuracyAxis(6));
      D.rungs.forEach((rung, row) => {
        const [x, y] = [toX(rung.epoch), 16 + 15 * row];
        const late = x > width / 2;
        svg.append(node("line", { class: "rung", x1: x, x2: x, y1: y - 9, y2: box.bottom }));
        const words = `rung at ${rung.epoch}: ${many(rung.on)} of ${many(rung.came)} went on`;
        svg.append(label(x + (late ? -5 : 5), y, words, { class: "halo", "text-anchor": late ? "end" : "start" }));
      });
      const lines = clipped(svg, box);
      const ends = node("g");
      svg.append(ends);
      if (crowd) lines.classList.add(crowd);
      points = [];
      const drawn = new Map();
      for (const i of winnerLast) {
        const line = trials[i].curve.map((value, k) => [toX(k + 1), toY(value)]);
        if (!line.length) continue;
        line.forEach(([x, y]) => points.push([x, Math.min(y, box.bottom), i]));
        const [x, y] = [line[line.length - 1][0], Math.min(line[line.length - 1][1], box.bottom)];
        const one = node("path", { class: `line ${styleOf(i)}`, d: path(line) });
        const cross = { class: "cross", d: `M${x - 4},${y - 4}l8,8m0,-8l-8,8` };
        const dot = { class: `dot ${styleOf(i)}`, cx: x, cy: y, r: i === winner ? 4 : crowd ? 1.2 : 2.2 };
        const end = trials[i].kind === "failed" ? node("path", cross) : node("circle", dot);
        drawn.set(i, [one, end]);
        lines.append(one);
        ends.append(end);
      }
      const over = node("g");
      svg.append(over);
      if (winner >= 0) {
        const { n, curve, accuracy } = trials[winner];
        const [x, y] = [toX(curve.length), toY(curve[curve.length - 1])];
        const words = { class: "halo text-won", "text-anchor": x > width / 2 ? "end" : "start" };
        svg.append(label(x, y - 10, `trial ${n}: ${percent(accuracy)}`, words));
      }
      refresh.fan = {
        filter: () => drawn.forEach((parts, i) => parts.forEach((part) => part.classList.toggle("out", !kept[i]))),
        choice: () => {
          over.replaceChildren();
          if (chosen === null || !trials[chosen].curve.length) return;
          const line = trials[chosen].curve.map((value, k) => [toX(k + 1), Math.min(toY(value), box.bottom)]);
          const [cx, cy] = line[line.length - 1];
          over.append(node("path", { class: "chosen", d: path(line) }), node("circle", { class: "ring", cx, cy, r: 4.5 }));
        },
      };
      refresh.fan.filter();
      return svg;
    });
    const name = `Chart: validation accuracy by epoch of ${trials.length} trials. Arrow keys go through them, the best first.`;
    exploreTrials(host, name, trialOrder, (x, y) => nearestPoint(points, x, y));
  }

  // ---- best so far

  function drawTime(host) {
    let points = [];
    const timed = everyone.filter((i) => trials[i].end !== null);
    const last = Math.max(...timed.map((i) => trials[i].end));
    const [unit, name] = last > 3 * 3600 ? [3600, "hours"] : last > 180 ? [60, "minutes"] : [1, "seconds"];
    mount(host, (width) => {
      const box = { left: 44, right: width - 12, top: 22, bottom: 22 + clamp(0.34 * width, 180, 300) };
      const svg = canvas(width, box.bottom + 42);
      const time = { low: 0, high: last / unit, count: clamp(width / 80, 3, 10), format: short, name: width < 480 ? name : `${name} since the search began` };
      const [toTime, toY] = frame(svg, box, time, accuracyAxis(5));
      const toX = (seconds) => toTime(seconds / unit);
      const group = clipped(svg, box);
      points = [];
      const dots = new Map();
      for (const i of timed.filter((one) => trials[one].curve.length)) {
        const [cx, cy] = [toX(trials[i].end), Math.min(toY(trials[i].accuracy), box.bottom)];
        points.push([cx, cy, i]);
        dots.set(i, node("circle", { class: `dot ${styleOf(i)}`, cx, cy, r: crowd ? 1.6 : 3 }));
        svg.append(dots.get(i));
      }
      const line = [];
      D.steps.forEach(({ seconds, accuracy }, k) => {
        if (k) line.push([toX(seconds), toY(D.steps[k - 1].accuracy)]);
        line.push([toX(seconds), toY(accuracy)]);
      });
      const best = D.steps[D.steps.length - 1];
      line.push([box.right, toY(best.accuracy)]);
      group.append(node("path", { class: "series-0", d: path(line) }));
      const words = `${percent(best.accuracy)}, trial ${best.number}`;
      svg.append(label(box.right, toY(best.accuracy) - 9, words, { class: "halo text-won", "text-anchor": "end" }));
      const over = node("g");
      svg.append(over);
      refresh.time = {
        filter: () => dots.forEach((dot, i) => dot.classList.toggle("out", !kept[i])),
        choice: () => {
          over.replaceChildren();
          const dot = dots.get(chosen);
          if (dot) over.append(node("circle", { class: "ring", cx: dot.getAttribute("cx"), cy: dot.getAttribute("cy"), r: 5 }));
        },
      };
      refresh.time.filter();
      return svg;
    });
    const about = "Chart: best validation accuracy by time. Arrow keys go through the trials as they ended.";
    const order = [...timed].sort((a, b) => trials[a].end - trials[b].end);
    exploreTrials(host, about, () => order.filter((i) => kept[i]), (x, y) => nearestPoint(points, x, y));
  }

  // ---- parameters

  /** An axis of the parallel coordinates: places from 0 to 1, and back to words. */
  function placed(axis, k) {
    const values = trials.map((trial) => trial.at[k]);
    const n = axis.labels.length;
    if (n) {
      const rank = [];
      ranked.forEach((i, place) => (rank[i] = 1 - (place + 0.5) / trials.length));
      return {
        name: axis.name,
        step: 1 / n,
        // Spread within the value by accuracy, so that lines do not hide one another.
        at: values.map((value, i) => (value + 0.25 + 0.5 * rank[i]) / n),
        marks: axis.labels.map((text, i) => [(i + 0.5) / n, text]),
        word: (place, upper) => axis.labels[clamp(upper ? Math.ceil(place * n - 1e-6) - 1 : Math.floor(place * n + 1e-6), 0, n - 1)],
      };
    }
    const bend = axis.log ? Math.log : (value) => value;
    const back = axis.log ? Math.exp : (value) => value;
    return numeric(axis.name, values.map(bend), Math.min(...values.map(bend)), Math.max(...values.map(bend)), (v) => short(back(v)), axis.log);
  }

  function numeric(name, values, low, high, word, log = false) {
    const to = scale(low, high, 0, 1);
    const inner = log ? logTicks(Math.exp(low), Math.exp(high)).map((v) => [to(Math.log(v)), short(v)]) : ticks(low, high, 5).map((v) => [to(v), word(v)]);
    return { name, step: 0.02, at: values.map((v) => clamp(to(v), 0, 1)), marks: inner, word: (place) => word(low + place * (high - low)) };
  }

  function logTicks(low, high) {
    const found = [];
    const factors = high / low > 300 ? [1] : high / low > 20 ? [1, 3] : [1, 2, 3, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      found.push(...factors.map((factor) => factor * 10 ** power).filter((v) => v >= low * 0.999 && v <= high * 1.001));
    }
    return found;
  }

  /** Marks that have room: later ones that would touch an earlier one are left out. */
  function roomy(marks, toX) {
    let end = -Infinity;
    return marks.filter(([place, text]) => {
      const half = 3.7 * text.length;
      if (toX(place) - half < end + 6) return false;
      end = toX(place) + half;
      return true;
    });
  }

  function drawParallel(host) {
    const axes = D.axes.map(placed);
    const accuracies = trials.map((trial) => trial.accuracy ?? 0);
    const last = numeric("validation accuracy", accuracies, LOW, HIGH, (v) => percent(v, 1));
    if (LOWER) last.marks = [[0, "lower"], ...last.marks];
    axes.push(last);
    const ranges = axes.map(() => [0, 1]);
    const good = new Set(ranked.slice(0, Math.ceil(trials.length / 4)));
    let waiting = false;

    function applyFilter() {
      for (const i of everyone) kept[i] = axes.every(({ at }, k) => at[i] >= ranges[k][0] - 1e-9 && at[i] <= ranges[k][1] + 1e-9);
      const said = axes.flatMap(({ name, word }, k) => {
        if (ranges[k][0] === 0 && ranges[k][1] === 1) return [];
        const ends = new Set([word(ranges[k][0], false), word(ranges[k][1], true)]);
        return [`${name} ${[...ends].join(" to ")}`];
      });
      const count = kept.filter(Boolean).length;
      byId("shown").textContent = said.length ? `${many(count)} of ${many(trials.length)} trials kept: ${said.join("; ")}` : `All ${many(trials.length)} trials are kept.`;
      byId("all").hidden = !said.length;
      whenKept.forEach((tell) => tell());
    }

    function setRange(k, low, high) {
      ranges[k] = [clamp(low, 0, 1), clamp(high, 0, 1)];
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        applyFilter();
      });
    }

    byId("all").addEventListener("click", () => {
      axes.forEach((_, k) => setRange(k, 0, 1));
      host.focus();
    });

    let rows = [];
    let toX = null;
    mount(host, (width) => {
      const wide = width > 620;
      const [left, right, tall] = [wide ? 160 : 12, width - 14, wide ? 54 : 68];
      toX = scale(0, 1, left, right);
      rows = axes.map((_, k) => (wide ? 20 : 34) + tall * k);
      const svg = canvas(width, rows[rows.length - 1] + 40);
      svg.removeAttribute("aria-hidden");
      const still = node("g", { "aria-hidden": "true" });
      const group = node("g", { "aria-hidden": "true", class: `parallel ${crowd}` });
      const over = node("g", { "aria-hidden": "true" });
      const drawn = new Map();
      const line = (i) => path(axes.map(({ at }, k) => [toX(at[i]), rows[k]]));
      for (const i of winnerLast) {
        drawn.set(i, node("path", { class: `line ${i === winner ? "won" : good.has(i) ? "good" : ""}`, d: line(i) }));
        group.append(drawn.get(i));
      }
      const words = node("g", { "aria-hidden": "true" });
      const controls = axes.map((axis, k) => control(axis, k, rows[k], toX, ranges, setRange));
      axes.forEach(({ name, marks }, k) => {
        still.append(node("line", { class: "axis", x1: left, x2: right, y1: rows[k], y2: rows[k] }));
        words.append(label(0, rows[k] + (wide ? 4 : -15), name, { class: "halo name" }));
        for (const [place, text] of roomy(marks, toX)) {
          const [half, x] = [3.3 * text.length, toX(place)];
          still.append(node("line", { class: "axis", x1: x, x2: x, y1: rows[k], y2: rows[k] + 5 }));
          words.append(label(clamp(x, left + half, right + 12 - half), rows[k] + 19, text, { class: "halo", "text-anchor": "middle" }));
        }
      });
      svg.append(still, group, words, over, ...controls.map((one) => one.group));
      refresh.parallel = {
        filter: () => {
          drawn.forEach((one, i) => one.classList.toggle("out", !kept[i]));
          controls.forEach((one) => one.update());
        },
        choice: () => over.replaceChildren(...(chosen === null ? [] : [node("path", { class: "chosen", d: line(chosen) })])),
      };
      refresh.parallel.filter();
      return svg;
    });

    /** The trial whose line is nearest beside the pointer. */
    function nearest(x, y) {
      const k = clamp(rows.findIndex((row) => row > y) - 1, 0, rows.length - 2);
      const share = clamp((y - rows[k]) / (rows[k + 1] - rows[k]), 0, 1);
      let [best, distance] = [null, 24];
      for (const i of everyone) {
        const here = Math.abs(toX(axes[k].at[i] + share * (axes[k + 1].at[i] - axes[k].at[i])) - x);
        if (kept[i] && here < distance) [best, distance] = [i, here];
      }
      return best;
    }

    const name = `Chart: ${axes.length - 1} parameters and the accuracy of ${trials.length} trials. Arrow keys go through the trials, the best first; Tab goes to the ends of each axis.`;
    exploreTrials(host, name, trialOrder, nearest);
    applyFilter();
  }

  /** What filters by one axis: a strip to drag along, and its two ends for the keyboard. */
  function control(axis, k, y, toX, ranges, setRange) {
    const [from, to] = [toX(0), toX(1)];
    const toPlace = (event, svg) => clamp((event.clientX - svg.getBoundingClientRect().left - from) / (to - from), 0, 1);
    const band = node("line", { class: "band", y1: y, y2: y });
    const strip = node("rect", { class: "catch", x: from - 8, y: y - 12, width: to - from + 16, height: 24 });
    const ends = [end(0), end(1)];
    const group = node("g", {}, strip, band, ...ends);
    let began = null;
    strip.addEventListener("pointerdown", (event) => {
      began = toPlace(event, group.ownerSVGElement);
      strip.setPointerCapture(event.pointerId);
    });
    strip.addEventListener("pointermove", (event) => {
      if (began === null) return;
      const now = toPlace(event, group.ownerSVGElement);
      if (Math.abs(now - began) * (to - from) > 3) setRange(k, Math.min(began, now), Math.max(began, now));
    });
    strip.addEventListener("pointerup", (event) => {
      if (Math.abs(toPlace(event, group.ownerSVGElement) - began) * (to - from) <= 3) setRange(k, 0, 1);
      began = null;
    });
    strip.addEventListener("pointercancel", () => (began = null));

    function end(side) {
      const made = node(
        "g",
        { class: "handle", role: "slider", tabindex: 0, "aria-label": `${axis.name}, ${side ? "highest" : "lowest"} kept`, "aria-valuemin": 0, "aria-valuemax": 100 },
        node("rect", { class: "ringed", x: -12, y: -12, width: 24, height: 24, rx: 2 }),
        node("rect", { class: "grip", x: side ? 0 : -3, y: -7, width: 3, height: 14 }),
      );
      const move = (place) => {
        const [low, high] = ranges[k];
        if (side) setRange(k, low, Math.max(place, low));
        else setRange(k, Math.min(place, high), high);
      };
      made.addEventListener("keydown", (event) => {
        const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
        if (event.key in steps) move(ranges[k][side] + steps[event.key] * axis.step);
        else if (event.key === "Home") move(side ? ranges[k][0] : 0);
        else if (event.key === "End") move(side ? 1 : ranges[k][1]);
        else if (event.key === "Escape") setRange(k, 0, 1);
        else return;
        event.preventDefault();
        event.stopPropagation();
      });
      made.addEventListener("pointerdown", (event) => made.setPointerCapture(event.pointerId));
      made.addEventListener("pointermove", (event) => {
        if (made.hasPointerCapture(event.pointerId)) move(toPlace(event, group.ownerSVGElement));
      });
      return made;
    }

    const update = () => {
      const [low, high] = ranges[k];
      const all = low === 0 && high === 1;
      band.setAttribute("x1", toX(low));
      band.setAttribute("x2", all ? toX(low) : toX(high));
      ends.forEach((one, side) => {
        one.setAttribute("transform", `translate(${toX(ranges[k][side])},${y})`);
        one.setAttribute("aria-valuenow", Math.round(100 * ranges[k][side]));
        one.setAttribute("aria-valuetext", axis.word(ranges[k][side], side === 1));
      });
    };
    return { group, update };
  }

  // ---- tables

  function linkTable() {
    const rows = new Map([...document.querySelectorAll("tr[data-n]")].map((row) => [Number(row.dataset.n), row]));
    trials.forEach((trial, i) => {
      rows.get(trial.n).addEventListener("pointerenter", () => choose(i));
      rows.get(trial.n).addEventListener("pointerleave", () => choose(null));
    });
    let pointed = null;
    whenChosen.push(() => {
      pointed?.classList.remove("pointed");
      pointed = chosen === null ? null : rows.get(trials[chosen].n);
      pointed?.classList.add("pointed");
    });
    whenKept.push(() => {
      trials.forEach((trial, i) => (rows.get(trial.n).hidden = !kept[i]));
      const count = kept.filter(Boolean).length;
      byId("listed").textContent = count === trials.length ? `${many(count)} trials` : `${many(count)} of ${many(trials.length)} trials; the filter of the parameters leaves out the others`;
    });
    whenKept[whenKept.length - 1]();
  }

  function makeSortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      const numbers = head.classList.contains("n");
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numbers;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sortRows(table.tBodies[0], column, down);
      });
    });
  }

  /** Missing values and rows of sums stay at the end. */
  function sortRows(body, column, down) {
    const key = (row) => row.cells[column].dataset.v ?? null;
    const rows = [...body.rows].filter((row) => !row.classList.contains("sum"));
    const sums = [...body.rows].filter((row) => row.classList.contains("sum"));
    const numbers = rows.some((row) => key(row) !== null);
    const known = numbers ? rows.filter((row) => key(row) !== null) : rows;
    const missing = numbers ? rows.filter((row) => key(row) === null) : [];
    const words = new Intl.Collator(undefined, { numeric: true });
    const order = numbers ? (a, b) => key(a) - key(b) : (a, b) => words.compare(a.cells[column].textContent, b.cells[column].textContent);
    body.append(...known.sort((a, b) => (down ? -order(a, b) : order(a, b))), ...missing, ...sums);
  }

  // ---- the winner

  /** Lines by epoch, each with its name at its end. Args: series: {name, values}. */
  function drawLines(host, about, series, format) {
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", about + series.map(({ name, values }) => ` ${name}: ${format(values[values.length - 1], 2)} in the end.`).join(""));
    const all = series.flatMap(({ values }) => values);
    const epochs = Math.max(...series.map(({ values }) => values.length));
    const [least, most] = [Math.min(...all), Math.max(...all)];
    const room = 0.08 * (most - least || 0.02);
    mount(host, (width) => {
      const box = { left: 44, right: width - 12, top: 24, bottom: 214 };
      const svg = canvas(width, 256);
      const x = { low: Math.min(1, epochs - 1), high: epochs, format: String, name: "epoch" };
      x.ticks = ticks(x.low, x.high, clamp(width / 60, 3, 8)).filter(Number.isInteger);
      const [toX, toY] = frame(svg, box, x, { low: least - room, high: most + room, count: 5, format: (v) => format(v, most - least < 0.05 ? 1 : 0) });
      const last = ({ values }) => values[values.length - 1];
      const upper = Math.max(...series.map(last));
      series.forEach((one, k) => {
        const line = one.values.map((value, epoch) => [toX(epoch + 1), toY(value)]);
        svg.append(node("path", { class: `series-${k}`, d: path(line) }));
        line.forEach(([cx, cy]) => svg.append(node("circle", { class: `tint-${k}`, cx, cy, r: 2.5 })));
      });
      series.forEach((one, k) => {
        const x = toX(one.values.length);
        const under = series.length > 1 && last(one) < upper;
        const words = `${one.name} ${format(last(one), 2)}`;
        // Clear of its own line, as far back as the words reach.
        const beside = one.values.map((value, epoch) => [toX(epoch + 2), toY(value)]).filter(([right]) => right > x - 7 * words.length);
        const heights = beside.map(([, height]) => height);
        const at = under ? Math.max(...heights) + 18 : Math.min(...heights) - 10;
        svg.append(label(x, at, words, { class: `halo tint-${k}`, "text-anchor": "end" }));
      });
      return svg;
    });
  }

  function drawWinner() {
    if (!byId("loss-plot")) return;
    const loss = D.history.map((row) => row.train_loss);
    const accuracy = D.history.map((row) => row.train_accuracy);
    drawLines(byId("loss-plot"), "Chart: training loss by epoch.", [{ name: "training", values: loss }], (v, digits) => v.toFixed(Math.max(digits, 2)));
    const series = [{ name: "training", values: accuracy }];
    if (winner >= 0) series.push({ name: "validation, of its trial", values: trials[winner].curve });
    drawLines(byId("accuracy-plot"), "Chart: accuracy by epoch.", series, percent);
  }

  function drawRoc(host) {
    const known = D.roc.map((_, k) => k).filter((k) => D.roc[k].length);
    const worst = [...known].sort((a, b) => D.auroc[a] - D.auroc[b]);
    const told = worst.slice(0, 3);
    const rateAt = (curve, x) => curve.reduce((best, [px, py]) => (px <= x ? Math.max(best, py) : best), 0);
    const lowest = Math.min(0.9, ...known.map((k) => rateAt(D.roc[k], 0.02)));
    let shapes = [];
    let over = null;
    mount(host, (width) => {
      const side = width > 620 ? (width - 60) / 2 : width;
      const height = clamp(side - 56, 200, 360);
      const corners = side === width ? [[0, 0], [0, height + 66]] : [[0, 0], [side + 60, 0]];
      const svg = canvas(width, corners[1][1] + height + 62);
      shapes = [];
      [[0, 1, 0], [0, 0.1, Math.floor(10 * lowest) / 10]].forEach(([left, right, bottom], k) => {
        const [x0, y0] = corners[k];
        const box = { left: x0 + 44, right: x0 + side - 10, top: y0 + 12, bottom: y0 + 12 + height };
        const x = { low: left, high: right, count: 5, format: (v) => percent(v, 0), name: "false positives" };
        const [toX, toY] = frame(svg, box, x, { low: bottom, high: 1, count: 5, format: (v) => percent(v, 0) });
        const group = clipped(svg, box);
        for (const one of [...known].sort((a, b) => told.includes(a) - told.includes(b))) {
          const line = D.roc[one].map(([px, py]) => [toX(px), toY(py)]);
          group.append(node("path", { class: told.includes(one) ? `series-${told.indexOf(one)}` : "line", d: path(line) }));
          shapes.push({ one, line, box, group });
        }
        told.forEach((one, row) => {
          const y = box.bottom - 12 - 17 * (told.length - 1 - row);
          svg.append(label(box.right - 4, y, `${D.classes[one]} ${D.auroc[one].toFixed(4)}`, { class: `halo tint-${row}`, "text-anchor": "end" }));
        });
        if (known.length > told.length) svg.append(label(box.right - 4, box.bottom - 16 - 17 * told.length, "lowest AUROC:", { class: "halo", "text-anchor": "end" }));
      });
      over = [];
      return svg;
    });

    function nearest(x, y) {
      let [best, distance] = [null, 30];
      for (const { one, line, box } of shapes) {
        if (x < box.left - 10 || x > box.right + 10 || y < box.top - 10 || y > box.bottom + 10) continue;
        for (let k = 1; k < line.length; k++) {
          const here = toSegment(x, y, line[k - 1], line[k]);
          if (here < distance) [best, distance] = [one, here];
        }
      }
      return best;
    }

    explore(host, `Chart: ROC curves of ${known.length} classes. Arrow keys go through them, the lowest AUROC first.`, () => worst, nearest, (one) => {
      over.forEach((mark) => mark.remove());
      over = shapes.filter((shape) => shape.one === one).map(({ line, group }) => group.appendChild(node("path", { class: "chosen", d: path(line) })));
      if (one === null) return say(host);
      return say(host, bold(`${D.classes[one]}: AUROC ${D.auroc[one].toFixed(4)}`), `; ${percent(rateAt(D.roc[one], 0.01), 1)} of its images are found at 1% false positives`);
    });
  }

  function toSegment(x, y, [x1, y1], [x2, y2]) {
    const length = (x2 - x1) ** 2 + (y2 - y1) ** 2;
    const share = length ? clamp(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length, 0, 1) : 0;
    return Math.hypot(x1 + share * (x2 - x1) - x, y1 + share * (y2 - y1) - y);
  }

  // ----

  drawFan(byId("fan-plot"));
  if (byId("time-plot")) drawTime(byId("time-plot"));
  linkTable();
  if (byId("parallel-plot")) drawParallel(byId("parallel-plot"));
  drawWinner();
  if (byId("roc-plot")) drawRoc(byId("roc-plot"));
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.documentElement.dataset.ready = "true";
})();
