/* What the charts draw: the JSON in the page, and how its numbers are written. */

const report = JSON.parse(document.getElementById("data").textContent);
const trials = report.trials;
const everyone = trials.map((_, i) => i);
const winner = trials.findIndex((trial) => trial.n === report.winner);

/** Trials from the best to the worst; those without an epoch come last. */
const accuracyOf = (i) => trials[i].accuracy ?? -1;
const ranked = [...everyone].sort((a, b) => accuracyOf(b) - accuracyOf(a));

/** The order in which lines are drawn: the winner lies on top. */
const winnerLast = everyone.filter((i) => i !== winner);
if (winner >= 0) winnerLast.push(winner);

function percent(value, digits = 2) {
  return value === null ? "–" : `${(100 * value).toFixed(digits)}%`;
}

const short = (value) => String(Number(value.toPrecision(3)));
const many = (count) => count.toLocaleString("en");
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const lastOf = (values) => values[values.length - 1];
const byId = (id) => document.getElementById(id);
