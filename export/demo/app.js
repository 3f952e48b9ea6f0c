// Classifies pictures in the browser. Nothing leaves it: model, runtime and samples lie beside this file.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { toPixels } from "./photo.js";

const $ = (id) => document.getElementById(id);
const about = await (await fetch("config.json")).json();
const { labels, fit } = about;
const { height, width, channels } = fit;
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };
// Threads need a page that the server isolates (COOP and COEP); a plain static server does not.
ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;

let session = null;
let busy = false;

/** Probabilities of one picture's uint8 pixels, and the milliseconds that the model took. */
async function predict(pixels) {
  const shape = channels === 1 ? [1, height, width] : [1, channels, height, width];
  const started = performance.now();
  const { probabilities } = await session.run({ pixels: new ort.Tensor("uint8", pixels, shape) }, ["probabilities"]);
  return { probabilities: Array.from(probabilities.data), ms: performance.now() - started };
}

const rows = labels.map((label) => {
  const row = document.createElement("li");
  const name = document.createElement("span"), track = document.createElement("span");
  const fill = document.createElement("span"), value = document.createElement("span");
  name.textContent = label;
  track.className = "track";
  fill.className = "fill";
  value.className = "value";
  value.textContent = "–";
  track.append(fill);
  row.append(name, track, value);
  $("bars").append(row);
  return { fill, value };
});

function show(pixels) {
  const canvas = $("seen");
  [canvas.width, canvas.height] = [width, height];
  const picture = new ImageData(width, height), count = width * height;
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = pixels[channels === 1 ? i : c * count + i];
    picture.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

async function classify(pixels, quiet = false) {
  show(pixels);
  const { probabilities, ms } = await predict(pixels);
  probabilities.forEach((probability, i) => {
    rows[i].fill.style.width = `${100 * probability}%`;
    rows[i].value.textContent = `${(100 * probability).toFixed(1)} %`;
  });
  const best = probabilities.indexOf(Math.max(...probabilities));
  // While a film runs, a reader of the screen would hear every frame.
  $("answer").setAttribute("aria-live", quiet ? "off" : "polite");
  $("answer").textContent = `${labels[best]}, ${(100 * probabilities[best]).toFixed(1)} %`;
  $("time").textContent = `${ms.toFixed(2)} ms in the model`;
}

function say(words, wrong = false) {
  $("state").textContent = words;
  $("state").dataset.wrong = wrong;
}

/** What a canvas or a bitmap shows, as ImageData. */
function pixelsOf(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

async function classifyPicture(imageData, photo, quiet = false) {
  try {
    await classify(toPixels(imageData, fit, photo), quiet);
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

async function open(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    say(`${file.name} is not a picture that this browser can read`, true);
    return;
  }
  // A picture of the data set's own size is taken as it is, as in Python.
  const own = fit.how === "mnist" && bitmap.width === width && bitmap.height === height;
  await classifyPicture(pixelsOf(bitmap, bitmap.width, bitmap.height), !own && $("photo").checked);
}

$("file").addEventListener("change", (event) => event.target.files[0] && open(event.target.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}

const paper = $("draw").getContext("2d", { willReadFrequently: true });
function clear() {
  paper.fillStyle = "#000";
  paper.fillRect(0, 0, $("draw").width, $("draw").height);
}
clear();
paper.lineWidth = 18;
paper.lineCap = paper.lineJoin = "round";
paper.strokeStyle = "#fff";
let last = null;
const at = (event) => {
  const box = $("draw").getBoundingClientRect();
  return [((event.clientX - box.left) * $("draw").width) / box.width, ((event.clientY - box.top) * $("draw").height) / box.height];
};
$("draw").addEventListener("pointerdown", (event) => {
  $("draw").setPointerCapture(event.pointerId);
  last = at(event);
});
$("draw").addEventListener("pointermove", (event) => {
  if (!last) return;
  const now = at(event);
  paper.beginPath();
  paper.moveTo(...last);
  paper.lineTo(...now);
  paper.stroke();
  last = now;
});
$("draw").addEventListener("pointerup", async () => {
  last = null;
  if (session) await classifyPicture(paper.getImageData(0, 0, $("draw").width, $("draw").height), true);
});
$("clear").addEventListener("click", clear);

let stream = null;
async function frame() {
  if (!stream) return;
  const video = $("video");
  if (!busy && video.videoWidth) {
    busy = true;
    await classifyPicture(pixelsOf(video, video.videoWidth, video.videoHeight), $("photo").checked, true);
    busy = false;
  }
  requestAnimationFrame(frame);
}
$("film").addEventListener("click", async () => {
  if (stream) {
    stream.getTracks().forEach((track) => track.stop());
    stream = $("video").srcObject = null;
  } else {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: 640, height: 480 } });
    } catch (error) {
      say(`no camera: ${error.message}`, true);
      return;
    }
    $("video").srcObject = stream;
    await $("video").play();
    requestAnimationFrame(frame);
  }
  $("film").textContent = stream ? "Stop the camera" : "Start the camera";
  $("film").setAttribute("aria-pressed", String(Boolean(stream)));
});

function addSamples() {
  about.samples.forEach((sample, number) => {
    const item = document.createElement("li"), button = document.createElement("button"), image = document.createElement("img");
    button.type = "button";
    button.dataset.sample = number;
    image.src = sample.file;
    image.alt = `sample: ${sample.label}`;
    button.append(image);
    button.addEventListener("click", async () => open(new File([await (await fetch(sample.file)).blob()], sample.file)));
    item.append(button);
    $("samples").append(item);
  });
}

$("title").textContent = about.title;
$("about").textContent = about.about;
document.title = about.title;
$("photo").checked = fit.how === "mnist";
$("photo").closest("p").hidden = fit.how !== "mnist";
try {
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  await predict(new Uint8Array(channels * height * width)); // the first call plans
  addSamples();
  $("file").disabled = $("film").disabled = false;
  say("");
} catch (error) {
  say(`the model cannot be loaded: ${error.message}`, true);
}
globalThis.demo = { predict, toPixels, pixelsOf, ready: Boolean(session) };
