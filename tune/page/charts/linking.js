/* What links the charts and the table: one trial chosen, one filter, for all of them. */

let chosen = null;
const kept = everyone.map(() => true);
const linked = new Map();

/** Add a chart, or replace it when it is drawn anew.
 *  Args: chart.choice and chart.filter: called when the chosen trial or the filter has changed. */
function link(name, chart) {
  linked.set(name, chart);
  chart.filter();
}

function choose(trial) {
  if (trial === chosen) return;
  chosen = trial;
  for (const chart of linked.values()) chart.choice();
}

function applyFilter(isKept) {
  for (const i of everyone) kept[i] = isKept(i);
  for (const chart of linked.values()) chart.filter();
}

const bold = (text) => Object.assign(document.createElement("b"), { textContent: text });

/** Write into the line above a chart, which screen readers speak; nothing brings its hint back. */
function say(host, ...parts) {
  const line = host.parentNode.querySelector(".said");
  if (parts.length) line.replaceChildren(...parts);
  else line.textContent = line.dataset.hint;
}

function sayTrial(host, trial) {
  if (trial === null) {
    say(host);
    return;
  }
  const { n, curve, outcome, about, accuracy } = trials[trial];
  const epochs = `${curve.length} epoch${curve.length === 1 ? "" : "s"}`;
  say(host, bold(`Trial ${n}: ${percent(accuracy)}`), ` after ${epochs}; ${outcome}. ${about}`);
}
