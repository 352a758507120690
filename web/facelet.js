// Faces in pictures, found in the browser.
//
//     import { FaceDetector } from "./facelet.js";
//
//     const detector = await FaceDetector.open();
//     const { faces } = await detector.detect(file, { points: 68 });
//     for (const { box, score, points } of faces) console.log(box, score, points);
//
// It works in a thread of its own and asks for nothing but the files beside it.

/** Pictures with more pixels are scaled down to so many. */
export const MOST_PIXELS = 4_000_000;

/**
 * A picture as an ImageBitmap: turned upright by its EXIF orientation, colours as they are in the
 * file, at most MOST_PIXELS: {bitmap, width, height}, the last two being those of the picture itself.
 *
 * source -- a file or Blob, an <img>, <video> or <canvas>, ImageData or an ImageBitmap
 */
export async function upright(source) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(source, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
    });
  } catch (error) {
    const name = source instanceof File ? source.name : "this";
    throw new Error(`${name} is no picture that this browser can read`, { cause: error });
  }
  const { width, height } = bitmap;
  const scale = Math.sqrt(MOST_PIXELS / (width * height));
  if (scale < 1) {
    const whole = bitmap;
    bitmap = await createImageBitmap(whole, {
      resizeWidth: Math.max(1, Math.floor(width * scale)),
      resizeHeight: Math.max(1, Math.floor(height * scale)),
      resizeQuality: "high",
    });
    whole.close();
  }
  return { bitmap, width, height };
}

export class FaceDetector {
  /** A detector that is ready. Rejects where the browser can't run it, or a file is missing. */
  static async open() {
    const detector = new FaceDetector();
    try {
      detector.facts = await detector._ask({});
    } catch (error) {
      detector.close();
      throw error;
    }
    return detector;
  }

  constructor() {
    this._waiting = new Map();
    this._last = 0;
    this._worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this._worker.onmessage = ({ data }) => {
      const { resolve, reject } = this._waiting.get(data.id);
      this._waiting.delete(data.id);
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.result);
    };
    this._worker.onerror = (event) => this._fail(`the detector's thread failed: ${event.message}`);
  }

  /**
   * The faces in a picture, best first:
   *
   *     {faces: [{box: [x1, y1, x2, y2], score, points: [[x, y], ...]}, ...], lines, ms, width, height}
   *
   * in pixels of the picture, `width` x `height`, as it is when upright. Boxes are continuous: the
   * first pixel is from 0 to 1; of points, (0, 0) is its centre. `lines` are lists of points that a
   * drawing joins, `ms` milliseconds in the engine.
   *
   * source -- see upright()
   * options -- mode: "fast" or "precise"; points: 0, 5 or 68; and settings: min_face (pixels of the
   *     picture as it is looked at, at most MOST_PIXELS), thresholds (three), factor, vote, mirror,
   *     blend
   */
  async detect(source, options = {}) {
    const { bitmap, width, height } = await upright(source);
    const across = width / bitmap.width;
    const down = height / bitmap.height;
    const found = await this._ask({ bitmap, options }, [bitmap]);
    const { boxes, scores, landmarks, points, lines, ms } = found;
    const faces = Array.from(scores, (score, i) => ({
      box: Array.from(boxes.subarray(4 * i, 4 * i + 4), (value, k) => value * (k % 2 ? down : across)),
      score,
      points: Array.from({ length: points }, (_, k) => {
        const at = 2 * (points * i + k);
        return [(landmarks[at] + 0.5) * across - 0.5, (landmarks[at + 1] + 0.5) * down - 0.5];
      }),
    }));
    return { faces, lines, ms, width, height };
  }

  /** Ends the thread; what is being looked for is rejected. */
  close() {
    this._worker.terminate();
    this._fail("the detector is closed");
  }

  _ask(message, transfer = []) {
    if (this._failed) return Promise.reject(new Error(this._failed));
    return new Promise((resolve, reject) => {
      const id = ++this._last;
      this._waiting.set(id, { resolve, reject });
      this._worker.postMessage({ id, ...message }, transfer);
    });
  }

  _fail(text) {
    this._failed = text;
    for (const { reject } of this._waiting.values()) reject(new Error(text));
    this._waiting.clear();
  }
}
