/* The axes of the parallel coordinates: places from 0 to 1 for values, and back to words. */

/** An axis: name; step, which an arrow key goes; at, the place of each trial; marks, as
 *  [place, text]; word(place, upper), the value at a place in words. */
function placeAxis(axis, k) {
  const values = trials.map((trial) => trial.at[k]);
  if (axis.labels.length) return labelAxis(axis.name, axis.labels, values);
  if (!axis.log) {
    return numberAxis(axis.name, values, Math.min(...values), Math.max(...values), short);
  }

  const logs = values.map(Math.log);
  const word = (v) => short(Math.exp(v));
  return numberAxis(axis.name, logs, Math.min(...logs), Math.max(...logs), word, true);
}

function labelAxis(name, labels, values) {
  const n = labels.length;
  const rank = [];
  ranked.forEach((i, place) => (rank[i] = 1 - (place + 0.5) / trials.length));
  return {
    name,
    step: 1 / n,
    // Spread within the value by accuracy, so that lines do not hide one another.
    at: values.map((value, i) => (value + 0.25 + 0.5 * rank[i]) / n),
    marks: labels.map((text, i) => [(i + 0.5) / n, text]),
    word: (place, upper) => {
      const nearest = upper ? Math.ceil(place * n - 1e-6) - 1 : Math.floor(place * n + 1e-6);
      return labels[clamp(nearest, 0, n - 1)];
    },
  };
}

/** Args: values, low, high: logarithms if `log`; word: writes one of them. */
function numberAxis(name, values, low, high, word, log = false) {
  const to = scale(low, high, 0, 1);
  const marks = log
    ? logTicks(Math.exp(low), Math.exp(high)).map((v) => [to(Math.log(v)), short(v)])
    : ticks(low, high, 5).map((v) => [to(v), word(v)]);
  return {
    name,
    step: 0.02,
    at: values.map((v) => clamp(to(v), 0, 1)),
    marks,
    word: (place) => word(low + place * (high - low)),
  };
}

function logTicks(low, high) {
  let factors = [1, 2, 3, 5];
  if (high / low > 20) factors = [1, 3];
  if (high / low > 300) factors = [1];

  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    const values = factors.map((factor) => factor * 10 ** power);
    found.push(...values.filter((v) => v >= low * 0.999 && v <= high * 1.001));
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
