/* How a chart is looked at closely: by pointer and by keys alike. */

const KEY_STEPS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

/** Let pointer and keys go through the things that a chart shows.
 *  Args: name: what screen readers call the chart; order(): the things as the keys go through
 *  them; nearest(x, y): a thing or null; pick(thing): shows it. */
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
    if (event.key === "Escape") go(null);
    else if (!things.length) return;
    else if (event.key === "Home") go(things[0]);
    else if (event.key === "End") go(lastOf(things));
    else if (event.key in KEY_STEPS) {
      const here = things.indexOf(at);
      const next = here < 0 ? 0 : here + KEY_STEPS[event.key];
      go(things[clamp(next, 0, things.length - 1)]);
    } else return;
    event.preventDefault();
  });
}

function exploreTrials(host, name, order, nearest) {
  explore(host, name, order, nearest, (trial) => {
    choose(trial);
    sayTrial(host, trial);
  });
}

const bestFirst = () => ranked.filter((i) => kept[i] && trials[i].curve.length);

/** The nearest of many points [x, y, trial], if one is near. */
function nearestPoint(points, x, y, reach = 40) {
  let best = null;
  let distance = reach * reach;
  for (const [px, py, trial] of points) {
    const here = (px - x) ** 2 + (py - y) ** 2;
    if (here < distance && kept[trial]) [best, distance] = [trial, here];
  }
  return best;
}
