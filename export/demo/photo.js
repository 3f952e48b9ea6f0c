// A picture from the real world to a network's pixels: the steps of fmnist/data/picture.py, in the browser.

const REDUCING_GAP = 3;
const GROUNDS = { black: 0, white: 255 };
const TOLERANCE = 0.05 * 255 * Math.sqrt(3);
const WORKING_SIDE = 1024;
const MIN_SIDE = 8;

/** Pixels of a picture without transparency: {width, height, data}, three numbers a pixel. */
export function rgb(imageData) {
  const { width, height, data } = imageData;
  const found = new Float32Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const alpha = data[4 * i + 3] / 255;
    for (let c = 0; c < 3; c++) found[3 * i + c] = Math.round(data[4 * i + c] * alpha + 255 * (1 - alpha));
  }
  return { width, height, channels: 3, data: found };
}

/** As Pillow's mode "L". */
export function gray(image) {
  const count = image.width * image.height;
  const found = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const [r, g, b] = image.data.subarray(3 * i, 3 * i + 3);
    found[i] = (r * 19595 + g * 38470 + b * 7471 + 32768) >> 16;
  }
  return { width: image.width, height: image.height, channels: 1, data: found };
}

/** Colours times alpha, as Pillow's modes "RGBa" and "La": {width, height, channels, data}, alpha last. */
function layers(imageData, channels) {
  const { width, height, data } = imageData;
  const found = new Float32Array(width * height * (channels + 1));
  let to = 0;
  for (let from = 0; from < data.length; from += 4) {
    const alpha = data[from + 3];
    for (let c = 0; c < channels; c++) {
      const value = channels === 3 ? data[from + c] : (data[from] * 19595 + data[from + 1] * 38470 + data[from + 2] * 7471 + 32768) >> 16;
      const product = value * alpha + 128;
      found[to++] = ((product >> 8) + product) >> 8;
    }
    found[to++] = alpha;
  }
  return { width, height, channels: channels + 1, data: found };
}

/** Means of blocks of pixels, `across` wide and `down` high. */
function reduce(image, across, down = across) {
  if (across <= 1 && down <= 1) return image;
  const width = Math.ceil(image.width / across), height = Math.ceil(image.height / down), { channels } = image;
  const found = new Float32Array(width * height * channels);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) {
    let sum = 0, count = 0;
    for (let v = y * down; v < Math.min((y + 1) * down, image.height); v++)
      for (let u = x * across; u < Math.min((x + 1) * across, image.width); u++) {
        sum += image.data[(v * image.width + u) * channels + c];
        count++;
      }
    // Pillow's own division, which falls short of a half now and then.
    found[(y * width + x) * channels + c] = Math.floor(((sum + (count >> 1)) * Math.floor(2 ** 24 / count)) / 2 ** 24);
  }
  return { width, height, channels, data: found };
}

function distance(data, at, colour) {
  const a = data[at] - colour[0], b = data[at + 1] - colour[1], c = data[at + 2] - colour[2];
  return Math.sqrt(a * a + b * b + c * c);
}

function median(values) {
  values.sort((a, b) => a - b);
  const middle = values.length >> 1;
  return values.length % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/** The colour of that corner which most of the border agrees with. */
function groundOf(image) {
  const { width, height, data } = image;
  const reach = Math.max(Math.floor(Math.min(width, height) / 32), 1);
  const corners = [];
  for (const top of [0, height - reach]) for (const left of [0, width - reach]) {
    const values = [[], [], []];
    for (let y = top; y < top + reach; y++) for (let x = left; x < left + reach; x++)
      for (let c = 0; c < 3; c++) values[c].push(data[3 * (y * width + x) + c]);
    corners.push(values.map(median));
  }
  const border = [];
  for (let x = 0; x < width; x++) border.push(x, (height - 1) * width + x);
  for (let y = 0; y < height; y++) border.push(y * width, y * width + width - 1);
  let best = corners[0], most = -1;
  for (const corner of corners) {
    const agree = border.filter((at) => distance(data, 3 * at, corner) <= TOLERANCE).length;
    if (agree > most) [best, most] = [corner, agree];
  }
  return best;
}

function crop(image, left, top, width, height) {
  if (width === image.width && height === image.height) return image;
  const { channels } = image;
  const found = new Float32Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * image.width + left) * channels;
    found.set(image.data.subarray(from, from + width * channels), y * width * channels);
  }
  return { width, height, channels, data: found };
}

/** What differs from the ground, and the ground's colour; an error in words if there is nothing. */
function trim(image) {
  if (Math.min(image.width, image.height) < MIN_SIDE) throw new Error(`the picture is ${image.width}×${image.height} pixels; at least ${MIN_SIDE}×${MIN_SIDE} are needed`);
  image = reduce(image, Math.max(Math.floor(Math.max(image.width, image.height) / WORKING_SIDE), 1));
  const { width, height } = image;
  const ground = groundOf(image);
  const differing = new Uint8Array(width * height), crowded = new Uint8Array(width * height);
  for (let i = 0; i < width * height; i++) differing[i] = distance(image.data, 3 * i, ground) > TOLERANCE ? 1 : 0;
  const around = (map, x, y, take) => {
    let found = 0;
    for (let v = -1; v <= 1; v++) for (let u = -1; u <= 1; u++) {
      const at = Math.min(Math.max(y + v, 0), height - 1) * width + Math.min(Math.max(x + u, 0), width - 1);
      found = take(found, map[at]);
    }
    return found;
  };
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++)
    crowded[y * width + x] = around(differing, x, y, (sum, value) => sum + value) >= 3 ? 1 : 0;
  let left = width, right = -1, top = height, bottom = -1;
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    if (!differing[y * width + x] || !around(crowded, x, y, Math.max)) continue;
    [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
  }
  if (right < 0) throw new Error("nothing to be seen but background; show one thing on a plain ground of another colour");
  const [w, h] = [right - left + 1, bottom - top + 1];
  if (Math.max(w, h) < MIN_SIDE) throw new Error(`the thing on it is only ${w}×${h} pixels; at least ${MIN_SIDE} are needed: go nearer`);
  return [crop(image, left, top, w, h), ground.map(Math.trunc)];
}

/** Gray, the ground at 0 and what is farthest from it at 255. */
function brightOnBlack(image, ground) {
  const shades = gray(image);
  const level = (ground[0] * 19595 + ground[1] * 38470 + ground[2] * 7471 + 32768) >> 16;
  const mean = shades.data.reduce((sum, value) => sum + value, 0) / shades.data.length;
  const darker = mean < level;
  shades.data = shades.data.map((value) => {
    const contrast = darker ? (level - value) / level : (value - level) / (255 - level);
    return Math.round(Math.min(Math.max(contrast, 0), 1) * 255);
  });
  return shades;
}

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const lanczos = (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0);

/** For each of `to` output pixels of a line: the first of its `count` input pixels, and the weights from there on. */
function weights(count, to, begin = 0, end = count) {
  const scale = (end - begin) / to, stretch = Math.max(scale, 1), support = 3 * stretch;
  return Array.from({ length: to }, (_, i) => {
    const centre = begin + (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), count);
    const values = [];
    for (let x = first; x < last; x++) values.push(lanczos((x - centre + 0.5) / stretch));
    const sum = values.reduce((a, b) => a + b, 0);
    return [first, values.map((value) => value / sum)];
  });
}

const byte = (value) => Math.min(Math.max(Math.round(value), 0), 255);

/** Resized with Lanczos; `box` is the part that is shown: left, top, right, bottom. */
export function resize(image, width, height, box = [0, 0, image.width, image.height]) {
  const { channels } = image;
  if (width === image.width && height === image.height && box.join() === [0, 0, width, height].join()) return image;
  const across = new Float32Array(width * image.height * channels);
  weights(image.width, width, box[0], box[2]).forEach(([first, values], x) => {
    for (let y = 0; y < image.height; y++) for (let c = 0; c < channels; c++) {
      let sum = 0;
      values.forEach((weight, i) => { sum += weight * image.data[(y * image.width + first + i) * channels + c]; });
      across[(y * width + x) * channels + c] = byte(sum);
    }
  });
  const found = new Float32Array(width * height * channels);
  weights(image.height, height, box[1], box[3]).forEach(([first, values], y) => {
    for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) {
      let sum = 0;
      values.forEach((weight, i) => { sum += weight * across[((first + i) * width + x) * channels + c]; });
      found[(y * width + x) * channels + c] = byte(sum);
    }
  });
  return { width, height, channels, data: found };
}

/** Rounded as Python does: a half goes to the even side. */
function even(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
}

/** Width and height of a picture, made as large as they fit. */
function sizeWithin(image, height, width) {
  if (image.width * height >= image.height * width) return [width, Math.max(even((image.height * width) / image.width), 1)];
  return [Math.max(even((image.width * height) / image.height), 1), height];
}

function shrink(image, height, width) {
  return resize(image, ...sizeWithin(image, height, width));
}

/** The largest part about the centre with the input's aspect ratio. */
function middle(image, height, width) {
  const scale = Math.min(image.width / width, image.height / height);
  const left = Math.max((image.width - scale * width) / 2, 0), top = Math.max((image.height - scale * height) / 2, 0);
  return [left, top, image.width - left, image.height - top];
}

/** Resized to the input, or within it: in two steps where it is far larger. */
function fitted(image, { height, width, how }) {
  const box = how === "crop" ? middle(image, height, width) : [0, 0, image.width, image.height];
  const size = how === "crop" || how === "stretch" ? [width, height] : sizeWithin(image, height, width);
  const across = Math.trunc((box[2] - box[0]) / size[0] / REDUCING_GAP) || 1;
  const down = Math.trunc((box[3] - box[1]) / size[1] / REDUCING_GAP) || 1;
  if (across === 1 && down === 1) return resize(image, ...size, box);

  // What lies beyond the part still has a share in its border, as far as Pillow takes it.
  const reach = [(2.5 * (box[2] - box[0])) / size[0], (2.5 * (box[3] - box[1])) / size[1]];
  const left = Math.max(0, Math.trunc(box[0] - reach[0])), top = Math.max(0, Math.trunc(box[1] - reach[1]));
  const right = Math.min(image.width, Math.ceil(box[2] + reach[0])), bottom = Math.min(image.height, Math.ceil(box[3] + reach[1]));
  const part = reduce(crop(image, left, top, right - left, bottom - top), across, down);
  const shown = [(box[0] - left) / across, (box[1] - top) / down, (box[2] - left) / across, (box[3] - top) / down];
  return resize(part, ...size, shown);
}

/** The whole picture, or its middle, on the ground that the pad colour says. */
function fitWhole(imageData, fit) {
  const { channels, padColour } = fit;
  const image = fitted(layers(imageData, channels), fit);
  const { width, height, data } = image;
  const under = new Array(channels).fill(GROUNDS[padColour] ?? 255);
  if (padColour === "mean") {
    const sums = new Array(channels + 1).fill(0);
    data.forEach((value, i) => { sums[i % (channels + 1)] += value; });
    if (sums[channels]) for (let c = 0; c < channels; c++) under[c] = Math.min(even((sums[c] / sums[channels]) * 255), 255);
  }
  const found = new Float32Array(width * height * channels);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < channels; c++) {
    const [colour, alpha] = [data[(channels + 1) * i + c], data[(channels + 1) * i + channels]];
    found[channels * i + c] = Math.min(colour + even(((255 - alpha) * under[c]) / 255), 255);
  }
  return extend({ width, height, channels, data: found }, fit, padColour === "edge" ? null : under);
}

/** Sharpened: a Gaussian of radius 1, 83 %. */
function sharpen(image) {
  const kernel = [-3, -2, -1, 0, 1, 2, 3].map((x) => Math.exp((-x * x) / 2));
  const total = kernel.reduce((a, b) => a + b, 0);
  const { width, height, data } = image;
  const blur = (source, dx, dy) => source.map((_, i) => {
    const x = i % width, y = Math.floor(i / width);
    let sum = 0;
    kernel.forEach((weight, k) => {
      const u = Math.min(Math.max(x + (k - 3) * dx, 0), width - 1), v = Math.min(Math.max(y + (k - 3) * dy, 0), height - 1);
      sum += weight * source[v * width + u];
    });
    return sum / total;
  });
  const soft = blur(blur(data, 1, 0), 0, 1);
  return { ...image, data: data.map((value, i) => byte(value + ((value - Math.round(soft[i])) * 83) / 100)) };
}

/** Laid in the middle of the input, on the ground's colour; without one its border goes on. */
function extend(image, { height, width }, ground) {
  const { channels } = image;
  const found = new Float32Array(width * height * channels);
  const left = even((width - image.width) / 2), top = even((height - image.height) / 2);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) {
    const u = Math.min(Math.max(x - left, 0), image.width - 1), v = Math.min(Math.max(y - top, 0), image.height - 1);
    const inside = u === x - left && v === y - top;
    found[(y * width + x) * channels + c] = inside || !ground ? image.data[(v * image.width + u) * channels + c] : ground[c];
  }
  return { width, height, channels, data: found };
}

/** uint8 pixels as the graph takes them: (height, width), or (3, height, width).
 *
 * `fit` has the fields of Fit in fmnist/data/picture.py: height, width, channels, how, padColour. */
export function toPixels(imageData, fit, photo) {
  const { height, width, channels } = fit;
  let image;
  if (photo) {
    const [trimmed, ground] = trim(rgb(imageData));
    image = channels === 1
      ? extend(sharpen(shrink(brightOnBlack(trimmed, ground), height, width)), fit, [0])
      : extend(shrink(trimmed, height, width), fit, ground);
  } else {
    image = fitWhole(imageData, fit);
  }
  const found = new Uint8Array(channels * height * width);
  for (let i = 0; i < height * width; i++) for (let c = 0; c < channels; c++) found[c * height * width + i] = image.data[i * channels + c];
  return found;
}
