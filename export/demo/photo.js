// A picture from the real world to a network's pixels: the steps of fmnist/data/picture.py, in the browser.

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

function reduce(image, factor) {
  if (factor <= 1) return image;
  const width = Math.ceil(image.width / factor), height = Math.ceil(image.height / factor), { channels } = image;
  const found = new Float32Array(width * height * channels);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) {
    let sum = 0, count = 0;
    for (let v = y * factor; v < Math.min((y + 1) * factor, image.height); v++)
      for (let u = x * factor; u < Math.min((x + 1) * factor, image.width); u++) {
        sum += image.data[(v * image.width + u) * channels + c];
        count++;
      }
    found[(y * width + x) * channels + c] = Math.round(sum / count);
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

/** For each output pixel of a line: the first input pixel, and the weights from there on. */
function weights(from, to) {
  const scale = from / to, stretch = Math.max(scale, 1), support = 3 * stretch;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), from);
    const values = [];
    for (let x = first; x < last; x++) values.push(lanczos((x - centre + 0.5) / stretch));
    const sum = values.reduce((a, b) => a + b, 0);
    return [first, values.map((value) => value / sum)];
  });
}

const byte = (value) => Math.min(Math.max(Math.round(value), 0), 255);

export function resize(image, width, height) {
  const { channels } = image;
  const across = new Float32Array(width * image.height * channels);
  weights(image.width, width).forEach(([first, values], x) => {
    for (let y = 0; y < image.height; y++) for (let c = 0; c < channels; c++) {
      let sum = 0;
      values.forEach((weight, i) => { sum += weight * image.data[(y * image.width + first + i) * channels + c]; });
      across[(y * width + x) * channels + c] = byte(sum);
    }
  });
  const found = new Float32Array(width * height * channels);
  weights(image.height, height).forEach(([first, values], y) => {
    for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) {
      let sum = 0;
      values.forEach((weight, i) => { sum += weight * across[((first + i) * width + x) * channels + c]; });
      found[(y * width + x) * channels + c] = byte(sum);
    }
  });
  return { width, height, channels, data: found };
}

/** The longer side made `size`. */
function shrink(image, size) {
  const longest = Math.max(image.width, image.height);
  const even = (value) => { const low = Math.floor(value); return value - low === 0.5 ? low + (low % 2) : Math.round(value); };
  const side = (value) => Math.max(even((value * size) / longest), 1);
  return resize(image, side(image.width), side(image.height));
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

/** Padded to a square about the centre. */
function extend(image, size, ground) {
  const { width, height, channels } = image;
  const found = new Float32Array(size * size * channels);
  for (let i = 0; i < found.length; i++) found[i] = ground[i % channels];
  const even = (value) => { const low = Math.floor(value); return value - low === 0.5 ? low + (low % 2) : Math.round(value); };
  const left = even((size - width) * 0.5), top = even((size - height) * 0.5);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++)
    found[((top + y) * size + left + x) * channels + c] = image.data[(y * width + x) * channels + c];
  return { width: size, height: size, channels, data: found };
}

/** uint8 pixels as the graph takes them: (size, size), or (3, size, size). */
export function toPixels(imageData, { size, channels, photo }) {
  let image = rgb(imageData);
  if (photo) {
    const [trimmed, ground] = trim(image);
    image = channels === 1
      ? extend(sharpen(shrink(brightOnBlack(trimmed, ground), size)), size, [0])
      : extend(shrink(trimmed, size), size, ground);
  } else {
    image = extend(shrink(channels === 1 ? gray(image) : image, size), size, new Array(channels).fill(0));
  }
  const found = new Uint8Array(channels * size * size);
  for (let i = 0; i < size * size; i++) for (let c = 0; c < channels; c++) found[c * size * size + i] = image.data[i * channels + c];
  return found;
}
