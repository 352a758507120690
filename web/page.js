// The page: pictures and the camera in, boxes and points drawn.

import { FaceDetector, upright } from "./facelet.js";

const COLOUR = "#35e6a8";
const EDGE = "rgb(0 0 0 / 55%)";
const MOST_SHOWN = 40; // faces in the row below the picture
const THUMB = 128; // pixels of one
const SMALLEST = [12, 240]; // ends of the slider for the smallest face, px
const CAMERA_FACE = 40; // smallest face that the camera begins with, px
const FINE = "fine"; // of two nets for as many points, the one that does nothing else

const $ = (id) => document.getElementById(id);
const [canvas, stage, problem] = ["canvas", "stage", "problem"].map($);

let detector = null;
let shown = null; // {bitmap, result, mirrored, of: width and height before it was scaled down}
let live = null; // the camera: {video, stream}
let facing = "user";
let busy = false;
let again = false;

// ---- settings ------------------------------------------------------------------------------

const toFace = (place) => Math.round(SMALLEST[0] * (SMALLEST[1] / SMALLEST[0]) ** (place / 100));
const toPlace = (face) =>
  Math.round((100 * Math.log(face / SMALLEST[0])) / Math.log(SMALLEST[1] / SMALLEST[0]));

/** The ids of the sliders of the thresholds, of those nets that the detector has. */
function thresholds() {
  const stages = Object.keys(detector.facts.nets).length;
  return [["last"], ["first", "last"], ["first", "second", "last"]][stages - 1];
}

function chosen(name) {
  return document.querySelector(`input[name="${name}"]:checked`).value;
}

function ofMode() {
  return detector.facts.modes[chosen("mode")] ?? detector.facts.settings;
}

function options() {
  const settings = ofMode();
  const values = [...settings.thresholds];
  thresholds().forEach((id, i) => (values[i] = Number($(id).value)));
  const points = chosen("points");
  return {
    mode: chosen("mode") || undefined,
    points: points === "" ? undefined : Number(points),
    min_face: toFace($("min_face").value),
    thresholds: values,
  };
}

function toMode() {
  const settings = ofMode();
  $("min_face").value = toPlace(live ? Math.max(CAMERA_FACE, settings.min_face) : settings.min_face);
  thresholds().forEach((id, i) => ($(id).value = settings.thresholds[i]));
  said();
  $("reset").disabled = true;
}

/** Values beside the sliders. */
function said() {
  for (const output of document.querySelectorAll("output")) {
    const input = $(output.htmlFor.value);
    const face = input.id === "min_face";
    output.value = face ? `${toFace(input.value)} px` : Number(input.value).toFixed(2);
    if (face) input.setAttribute("aria-valuetext", output.value);
  }
}

function choice(place, name, entries, first) {
  for (const [value, text, title] of entries) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), {
      type: "radio", name, value, checked: value === first,
    });
    const span = Object.assign(document.createElement("span"), { textContent: text });
    if (title) label.title = title;
    label.append(input, span);
    place.append(label);
  }
}

function makeChoices() {
  const { modes, points, landmark, always } = detector.facts;
  const upper = (name) => name[0].toUpperCase() + name.slice(1);
  choice($("modes"), "mode", [["", "Default"], ...Object.keys(modes).map((name) => [name, upper(name)])], "");
  $("modes").parentElement.hidden = !Object.keys(modes).length;
  const entries = [["0", "None"]];
  if (points && always === null) entries.push(["", String(points.points), "from the last net for boxes"]);
  for (const number of Object.keys(landmark)) {
    const twice = points && always === null && points.points === Number(number);
    entries.push([number, twice ? `${number} ${FINE}` : number, "from a net of their own"]);
  }
  const best = always === null ? (points ? "" : "0") : String(always);
  choice($("points"), "points", entries, best);
  $("points").parentElement.hidden = entries.length === 1;
  const names = thresholds();
  $("first").closest("details").hidden = names.length === 1;
  $("second").closest("label").hidden = names.length < 3;
}

// ---- drawing -------------------------------------------------------------------------------

/** Fits the canvas into the stage, at the screen's own pixels, and draws what there is. */
function draw() {
  if (!shown) return;
  const { bitmap, result, mirrored } = shown;
  const { width, height } = bitmap;
  const room = { width: stage.clientWidth, height: Math.max(260, innerHeight * 0.68) };
  const scale = Math.min(room.width / width, room.height / height, live ? Infinity : 3);
  const dense = devicePixelRatio || 1;
  const [across, down] = [width * scale, height * scale].map(Math.round);
  const [wide, high] = [Math.round(across * dense), Math.round(down * dense)];
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
  Object.assign(canvas.style, { width: `${across}px`, height: `${down}px` });
  const context = canvas.getContext("2d", { alpha: false });
  context.setTransform(mirrored ? -dense : dense, 0, 0, dense, mirrored ? wide : 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, across, down);
  if (!result) return;
  context.setTransform(dense, 0, 0, dense, 0, 0);
  const x = (value) => (mirrored ? width - value : value) * scale;
  for (const face of result.faces) drawFace(context, face, result.lines, x, (value) => value * scale);
}

function drawFace(context, { box, score, points }, lines, x, y) {
  const [left, right] = [x(box[0]), x(box[2])].sort((a, b) => a - b);
  const [top, bottom] = [y(box[1]), y(box[3])];
  const side = Math.min(right - left, bottom - top);
  const place = (point) => [x(points[point][0] + 0.5), y(points[point][1] + 0.5)];
  context.lineJoin = context.lineCap = "round";
  const stroke = (path, width) => {
    for (const [colour, more] of [[EDGE, 1.6], [COLOUR, 0]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: width + more });
      context.stroke(path);
    }
  };
  const frame = new Path2D();
  frame.roundRect(left, top, right - left, bottom - top, Math.min(8, side / 8));
  stroke(frame, side < 40 ? 1.4 : 2.2);
  if (lines.length && side > 60) {
    const drawn = new Path2D();
    for (const line of lines) {
      line.forEach((point, i) => (i ? drawn.lineTo(...place(point)) : drawn.moveTo(...place(point))));
    }
    stroke(drawn, Math.min(1.6, side / 140));
  }
  const radius = Math.max(0.8, side / (points.length > 10 ? 130 : 48));
  for (const [colour, more] of [[EDGE, 0.8], [points.length > 10 ? COLOUR : "#fff", 0]]) {
    const dots = new Path2D();
    for (let point = 0; point < points.length; point++) {
      const [across, down] = place(point);
      dots.moveTo(across + radius + more, down);
      dots.arc(across, down, radius + more, 0, 2 * Math.PI);
    }
    context.fillStyle = colour;
    context.fill(dots);
  }
  if (side >= 34) drawScore(context, score.toFixed(2), left, top);
}

function drawScore(context, text, left, top) {
  context.font = "600 12px system-ui, sans-serif";
  const width = context.measureText(text).width + 12;
  const at = top >= 22 ? top - 22 : top + 4;
  const from = top >= 22 ? left - 1 : left + 4;
  context.fillStyle = COLOUR;
  context.beginPath();
  context.roundRect(from, at, width, 18, 6);
  context.fill();
  context.fillStyle = "#04231a";
  context.textBaseline = "middle";
  context.fillText(text, from + 6, at + 9.5);
}

function thumbnails({ bitmap, result }) {
  return result.faces.slice(0, MOST_SHOWN).map(({ box: [x1, y1, x2, y2], score }) => {
    const side = 1.15 * Math.max(x2 - x1, y2 - y1);
    const [left, top] = [(x1 + x2 - side) / 2, (y1 + y2 - side) / 2];
    const face = Object.assign(document.createElement("canvas"), { width: THUMB, height: THUMB });
    face.getContext("2d").drawImage(bitmap, left, top, side, side, 0, 0, THUMB, THUMB);
    const item = document.createElement("li");
    item.append(face, score.toFixed(3));
    return item;
  });
}

function tell() {
  const { bitmap, of, result } = shown;
  const count = result.faces.length;
  $("count").textContent = count;
  $("time").textContent = result.ms < 10 ? result.ms.toFixed(1) : Math.round(result.ms);
  $("size").textContent = `${bitmap.width} × ${bitmap.height}`;
  $("size-of").textContent = of[0] > bitmap.width ? `pixels, of ${of.join(" × ")}` : "pixels";
  $("count-of").textContent = count === 1 ? "face" : "faces";
  canvas.setAttribute("aria-label", `${live ? "The camera’s picture" : "The picture"}; faces found: ${count}`);
  $("faces").replaceChildren(...(live ? [] : thumbnails(shown)));
}

function fail(error) {
  problem.textContent = error.message;
  problem.hidden = false;
}

// ---- pictures ------------------------------------------------------------------------------

/** Finds the faces in the picture at hand; once more if anything has changed meanwhile. */
async function look() {
  again = true;
  if (busy || !detector) return;
  busy = true;
  while (again && shown && !live) {
    again = false;
    const looked = shown;
    try {
      const result = await detector.detect(looked.bitmap, options());
      if (looked !== shown) continue;
      shown.result = result;
      problem.hidden = true;
      tell();
      draw();
    } catch (error) {
      fail(error);
    }
  }
  busy = false;
}

async function open(source) {
  try {
    const { bitmap, width, height } = await upright(source);
    stopCamera();
    if (shown) shown.bitmap.close();
    shown = { bitmap, of: [width, height], result: null, mirrored: false };
    problem.hidden = true;
    draw();
    await look();
  } catch (error) {
    fail(error);
  }
}

async function openSample() {
  try {
    const response = await fetch(new URL("sample.jpg", import.meta.url));
    if (!response.ok) throw new Error("the sample can't be fetched");
    await open(await response.blob());
  } catch (error) {
    fail(error);
  }
}

/** The first file of what is dropped or pasted. */
function openFrom(transfer) {
  const file = [...transfer.files][0];
  if (file) open(file);
  else fail(new Error("That is no file: save the picture first, then drop it here."));
}

// ---- the camera ----------------------------------------------------------------------------

const WHY = {
  NotAllowedError: "The browser does not let this page use the camera: allow it beside the address.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is in use elsewhere.",
};

async function startCamera() {
  stopCamera();
  $("camera").disabled = true; // while the reader is asked
  try {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give the camera to pages on https:// or localhost only.");
    }
    const stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: facing, width: { ideal: 640 }, height: { ideal: 480 } },
    });
    const video = Object.assign(document.createElement("video"), {
      srcObject: stream, muted: true, playsInline: true,
    });
    await video.play();
    live = { video, stream };
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");
    $("turn").hidden = cameras.length < 2;
    cameraSays(true);
    toMode();
    stream.getVideoTracks()[0].onended = stopCamera;
    watch(live);
  } catch (error) {
    fail(new Error(WHY[error.name] ?? error.message));
  } finally {
    $("camera").disabled = false;
  }
}

function stopCamera() {
  if (!live) return;
  for (const track of live.stream.getTracks()) track.stop();
  live = null;
  $("turn").hidden = true;
  cameraSays(false);
  toMode();
}

function cameraSays(on) {
  $("camera").setAttribute("aria-pressed", on);
  $("camera").querySelector("span").textContent = on ? "Stop" : "Camera";
}

/** Shows the camera's pictures, each with its own faces, until it is stopped. */
async function watch(camera) {
  while (live === camera) {
    await nextPicture(camera.video);
    try {
      const bitmap = await createImageBitmap(camera.video);
      const result = await detector.detect(bitmap, options());
      if (live !== camera) return bitmap.close();
      if (shown) shown.bitmap.close();
      shown = { bitmap, of: [bitmap.width, bitmap.height], result, mirrored: facing === "user" };
      problem.hidden = true;
      tell();
      draw();
    } catch (error) {
      if (live !== camera) return;
      stopCamera();
      fail(error);
    }
  }
}

function nextPicture(video) {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
    else requestAnimationFrame(resolve);
    setTimeout(resolve, 500); // neither comes while the page is out of sight
  });
}

// ---- what the reader does ------------------------------------------------------------------

$("choose").onclick = () => $("file").click();
$("file").onchange = ({ target }) => {
  if (target.files.length) open(target.files[0]);
  target.value = ""; // the same file may be chosen again
};
$("camera").onclick = () => {
  if (!live) return startCamera();
  stopCamera();
  look();
};
$("turn").onclick = () => {
  facing = facing === "user" ? "environment" : "user";
  startCamera();
};
$("sample").onclick = openSample;
$("reset").onclick = () => {
  toMode();
  look();
};
$("settings").onsubmit = (event) => event.preventDefault();
$("settings").oninput = ({ target }) => {
  if (target.name === "mode") toMode();
  else if (target.type === "range") $("reset").disabled = false;
  said();
  look();
};

let inside = 0; // elements that a drag has entered and not left
const dragsFile = (event) => event.dataTransfer.types.includes("Files");
addEventListener("dragenter", (event) => {
  inside++;
  $("drop").hidden = !dragsFile(event);
});
addEventListener("dragleave", () => {
  inside--;
  if (!inside) $("drop").hidden = true;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  $("drop").hidden = true;
  openFrom(event.dataTransfer);
});
addEventListener("paste", ({ clipboardData }) => openFrom(clipboardData));
new ResizeObserver(draw).observe(stage);
addEventListener("resize", draw);

for (const button of document.querySelectorAll(".tools button")) button.disabled = true;
try {
  detector = await FaceDetector.open();
  makeChoices();
  toMode();
  for (const button of document.querySelectorAll(".tools button")) button.disabled = false;
  $("wait").hidden = true;
  await openSample();
} catch (error) {
  $("wait").hidden = true;
  fail(error);
}
