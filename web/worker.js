// The engine in a thread of its own: messages {id, bitmap, options} in; {id, result}, or {id, error},
// out. facelet.js is the other end.

import { Engine } from "./engine.js";

const canvas = new OffscreenCanvas(1, 1);
// Transparent pixels become black.
const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
let opened = null;

async function read(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} can't be fetched: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

function engine() {
  opened ??= Engine.open(read).catch((error) => {
    opened = null; // the next call tries again
    throw error;
  });
  return opened;
}

/** RGBA pixels of a bitmap, which is closed. */
function pixels(bitmap) {
  const { width, height } = bitmap;
  Object.assign(canvas, { width, height });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { rgba: context.getImageData(0, 0, width, height).data, width, height };
}

async function answer({ bitmap, options }) {
  const ready = await engine();
  if (!bitmap) return ready.facts;
  await ready.prepare(options.points);
  const { rgba, width, height } = pixels(bitmap);
  return ready.detect(rgba, width, height, options);
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ id: data.id, result: await answer(data) });
  } catch (error) {
    // What a trap leaves behind in the engine's memory is anybody's guess.
    if (error instanceof WebAssembly.RuntimeError) opened = null;
    self.postMessage({ id: data.id, error: error.message });
  }
};
