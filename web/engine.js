// The engine (facelet/engine, compiled to WebAssembly) and its nets: pixels in, faces out.
//
// It runs in whatever thread it is called in; worker.js calls it in one of its own. What stands in
// the engine's memory is laid out as engine.h has it, on 32 bits.

const ABI = 1; // of engine.h
const SETTINGS_BYTES = 112;
const FACES_BYTES = 32;
const STAGES = ["pnet", "rnet", "onet", "landmark"]; // of a facelet_cascade

/** What the engine says of a call, or what makes it impossible to have one. */
export class EngineError extends Error {}

export class Engine {
  /**
   * The engine of a folder that scripts/web.sh has built.
   *
   * read -- function of a file's name there, giving a promise of its bytes
   */
  static async open(read) {
    const [code, nets, facts] = await Promise.all(
      ["engine.wasm", "nets.bin", "detector.json"].map(read)
    );
    let compiled;
    try {
      compiled = await WebAssembly.instantiate(code, {});
    } catch (error) {
      throw new EngineError(`this browser can't run the engine: it needs WebAssembly with SIMD (${error.message})`);
    }
    return new Engine(compiled.instance.exports, nets, JSON.parse(new TextDecoder().decode(facts)), read);
  }

  constructor(library, nets, facts, read) {
    library._initialize?.();
    if (library.facelet_abi() !== ABI) {
      throw new EngineError("the engine is of another version than this page: build it anew");
    }
    this.facts = facts;
    this._library = library;
    this._read = read;
    this._nets = {};
    this._landmarks = new Map();
    this._pixels = { at: 0, room: 0 };
    for (const [stage, [start, end]] of Object.entries(facts.nets)) {
      this._nets[stage] = this._net(nets.slice(start, end));
    }
    this._scratch = this._made((at) => library.facelet_scratch_new(at));
    this._cascade = this._room(4 * STAGES.length);
    this._settings = this._room(SETTINGS_BYTES);
    this._faces = this._room(FACES_BYTES);
  }

  /** Fetches what a number of points needs, once; see detect(). */
  async prepare(points) {
    const number = this._asked(points);
    const wanted = this.facts.landmark[number];
    if (wanted && !this._landmarks.has(number)) {
      this._landmarks.set(number, this._net(await this._read(wanted.file)));
    }
  }

  /**
   * Faces in a picture, best first: {boxes, scores, landmarks, points, lines, ms}.
   *
   * boxes -- Float32Array, x1 y1 x2 y2 of each, continuous coordinates: the first pixel is 0 to 1
   * scores -- Float32Array
   * landmarks -- Float32Array, `points` pairs x y of each; (0, 0) is the centre of the first pixel;
   *     null without points
   * lines -- which points a drawing joins
   * ms -- milliseconds in the engine
   *
   * rgba -- Uint8Array or Uint8ClampedArray, width x height x 4
   * options -- {mode, points, ...}: `mode` one of those of detector.json, `points` as prepare() had
   *     it (0: none; undefined: those of the last net for boxes), and any settings, as
   *     facelet.settings.Settings
   */
  detect(rgba, width, height, options = {}) {
    const { mode, points, ...given } = options;
    if (mode && !this.facts.modes[mode]) throw new EngineError(`there is no mode ${mode}`);
    const settings = { ...(this.facts.modes[mode] ?? this.facts.settings), ...given };
    const number = this._asked(points);
    const marks = this.facts.landmark[number];
    if (marks && !this._landmarks.has(number)) throw new EngineError("prepare(points) comes first");
    const own = number !== 0 && !marks ? this.facts.points : null;
    const at = this._copied(rgba, width * height);
    this._write(settings, marks?.crop ?? [0, 0], Boolean(own));
    const nets = { ...this._nets, landmark: marks ? this._landmarks.get(number) : 0 };
    const view = this._view();
    STAGES.forEach((stage, i) => view.setUint32(this._cascade + 4 * i, nets[stage] ?? 0, true));
    const start = performance.now();
    this._check(
      this._library.facelet_detect(
        this._cascade, this._scratch, at, BigInt(width), BigInt(height), BigInt(3 * width),
        this._settings, this._faces
      )
    );
    const ms = performance.now() - start;
    return { ...this._found(marks ?? own), ms };
  }

  /** The number of points that is meant, null for those of the last net for boxes. */
  _asked(points) {
    const number = points ?? this.facts.always;
    const known = [0, this.facts.points?.points, ...Object.keys(this.facts.landmark).map(Number)];
    if (number !== null && !known.includes(number)) {
      throw new EngineError(`no net gives ${points} points`);
    }
    return number;
  }

  _found(marks) {
    const view = this._view();
    const count = Number(view.getBigInt64(this._faces, true));
    const [boxes, scores, , landmarks] = [12, 16, 20, 24].map((at) => view.getUint32(this._faces + at, true));
    const points = view.getInt32(this._faces + 8, true);
    const floats = (at, size) => new Float32Array(this._library.memory.buffer, at, size).slice();
    return {
      boxes: floats(boxes, 4 * count),
      scores: floats(scores, count),
      landmarks: marks ? floats(landmarks, 2 * points * count) : null,
      points: marks ? points : 0,
      lines: marks ? marks.lines : [],
    };
  }

  _write(settings, crop, own) {
    const numbers = [
      settings.min_face, settings.factor, ...settings.thresholds, settings.nms_scale,
      ...settings.nms, settings.vote, settings.blend, ...crop,
    ];
    const view = this._view();
    numbers.forEach((value, i) => view.setFloat64(this._settings + 8 * i, value, true));
    view.setInt32(this._settings + 8 * numbers.length, settings.mirror ? 1 : 0, true);
    view.setInt32(this._settings + 8 * numbers.length + 4, own ? 1 : 0, true);
  }

  /** Where RGBA pixels stand as BGR. */
  _copied(rgba, pixels) {
    if (this._pixels.room < 3 * pixels) {
      this._library.free(this._pixels.at);
      this._pixels = { at: 0, room: 0 };
      this._pixels = { at: this._room(3 * pixels), room: 3 * pixels };
    }
    const to = new Uint8Array(this._library.memory.buffer, this._pixels.at, 3 * pixels);
    for (let from = 0, at = 0; at < to.length; from += 4, at += 3) {
      to[at] = rgba[from + 2];
      to[at + 1] = rgba[from + 1];
      to[at + 2] = rgba[from];
    }
    return this._pixels.at;
  }

  _net(description) {
    const bytes = this._room(description.byteLength);
    try {
      new Uint8Array(this._library.memory.buffer).set(new Uint8Array(description), bytes);
      return this._made((at) => this._library.facelet_net_new(bytes, description.byteLength, 0, at));
    } finally {
      this._library.free(bytes);
    }
  }

  /** The handle that a call writes to where it is told. */
  _made(call) {
    const at = this._room(4);
    try {
      this._check(call(at));
      return this._view().getUint32(at, true);
    } finally {
      this._library.free(at);
    }
  }

  _room(bytes) {
    const at = this._library.malloc(bytes);
    if (!at) throw new EngineError("no memory left");
    return at;
  }

  _check(code) {
    if (!code) return;
    const text = new Uint8Array(this._library.memory.buffer, this._library.facelet_error(code));
    throw new EngineError(new TextDecoder().decode(text.slice(0, text.indexOf(0))));
  }

  /** Of the memory as it is now: growing gives it another buffer. */
  _view() {
    return new DataView(this._library.memory.buffer);
  }
}
