/* What filters by one axis of the parallel coordinates: a strip to drag along, and its two ends
 * as sliders for the keyboard. */

const SLIDER_STEPS = {
  ArrowRight: 1,
  ArrowUp: 1,
  ArrowLeft: -1,
  ArrowDown: -1,
  PageUp: 5,
  PageDown: -5,
};
const CLICK_PX = 3;

/** Args: axis: the k-th, with its range; y: its height; setRange(k, low, high): keeps a range.
 *  Gives: group: the elements; update(): shows the range as it is now. */
function rangeControl(axis, k, y, toX, setRange) {
  const [from, to] = [toX(0), toX(1)];
  const [x, width] = [from - 8, to - from + 16];
  const strip = node("rect", { class: "catch", x, y: y - 12, width, height: 24 });
  const band = node("line", { class: "band", y1: y, y2: y });
  const placeAt = (event) => {
    const left = strip.ownerSVGElement.getBoundingClientRect().left;
    return clamp((event.clientX - left - from) / (to - from), 0, 1);
  };
  const keep = (low, high) => setRange(k, low, high);
  const ends = [sliderEnd(axis, 0, placeAt, keep), sliderEnd(axis, 1, placeAt, keep)];
  dragAlong(strip, placeAt, to - from, keep);

  const update = () => {
    const [low, high] = axis.range;
    band.setAttribute("x1", toX(low));
    band.setAttribute("x2", isNarrowed(axis) ? toX(high) : toX(low));
    ends.forEach((end, side) => {
      const place = axis.range[side];
      end.setAttribute("transform", `translate(${toX(place)},${y})`);
      end.setAttribute("aria-valuenow", Math.round(100 * place));
      end.setAttribute("aria-valuetext", axis.word(place, side === 1));
    });
  };
  return { group: node("g", {}, strip, band, ...ends), update };
}

/** Dragging along the strip keeps a range; a click keeps all. */
function dragAlong(strip, placeAt, length, keep) {
  let began = null;
  const isClick = (place) => Math.abs(place - began) * length <= CLICK_PX;
  strip.addEventListener("pointerdown", (event) => {
    began = placeAt(event);
    strip.setPointerCapture(event.pointerId);
  });
  strip.addEventListener("pointermove", (event) => {
    if (began === null) return;
    const now = placeAt(event);
    if (!isClick(now)) keep(Math.min(began, now), Math.max(began, now));
  });
  strip.addEventListener("pointerup", (event) => {
    if (isClick(placeAt(event))) keep(0, 1);
    began = null;
  });
  strip.addEventListener("pointercancel", () => (began = null));
}

/** One end of the range. Args: side: 0 the lower, 1 the upper. */
function sliderEnd(axis, side, placeAt, keep) {
  const name = `${axis.name}, ${side ? "highest" : "lowest"} kept`;
  const limits = { "aria-valuemin": 0, "aria-valuemax": 100 };
  const end = node(
    "g",
    { class: "handle", role: "slider", tabindex: 0, "aria-label": name, ...limits },
    node("rect", { class: "ringed", x: -12, y: -12, width: 24, height: 24, rx: 2 }),
    node("rect", { class: "grip", x: side ? 0 : -3, y: -7, width: 3, height: 14 }),
  );
  const move = (place) => {
    const [low, high] = axis.range;
    if (side) keep(low, Math.max(place, low));
    else keep(Math.min(place, high), high);
  };

  end.addEventListener("keydown", (event) => {
    const [low, high] = axis.range;
    if (event.key in SLIDER_STEPS) move(axis.range[side] + SLIDER_STEPS[event.key] * axis.step);
    else if (event.key === "Home") move(side ? low : 0);
    else if (event.key === "End") move(side ? 1 : high);
    else if (event.key === "Escape") keep(0, 1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  end.addEventListener("pointerdown", (event) => end.setPointerCapture(event.pointerId));
  end.addEventListener("pointermove", (event) => {
    if (end.hasPointerCapture(event.pointerId)) move(placeAt(event));
  });
  return end;
}
