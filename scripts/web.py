"""Builds the page that finds faces in a browser, and shows it; see scripts/web.sh, which sets up
what it needs.

The page is web/ as it stands, the engine as WebAssembly (engine.wasm), the nets of a detector as
the engine reads them (nets.bin, and pointsN.bin of each net for landmarks, which the page fetches
when they are asked for), what it has to know of them (detector.json), and a picture.
"""

import argparse
import http.server
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "web"
SITE = PAGE / "site"  # where it is built
SAMPLE = ROOT / "docs" / "sample.jpg"
PORT = 8008
ENVIRONMENT = ROOT / ".venv-web"
ZIG = (sys.executable, "-m", "ziglang", "cc")
# All browsers since 2023 have vectors of 128 bits.
TARGET = ("-target", "wasm32-wasi", "-mcpu=generic+simd128+bulk_memory", "-fno-PIC")
LINK = (
    "-mexec-model=reactor",
    "-Wl,--export-dynamic,--export=malloc,--export=free,--strip-all",
    "-Wl,-z,stack-size=1048576",
)
TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".bin": "application/octet-stream"}


def build_engine(out):
    """The engine as WebAssembly at `out`, unless it is there and newer than its source. Raises
    Problem."""
    from facelet.console import Problem
    from facelet.engine import build

    if build.is_newer(out):
        return
    for kind in ("GLOBAL", "LOCAL"):  # what zig makes of its C library, once
        os.environ.setdefault(f"ZIG_{kind}_CACHE_DIR", str(ENVIRONMENT / "zig"))
    try:
        build.build(out, ZIG, TARGET, machine="wasm32", link=LINK)
    except build.CannotBuild as problem:
        raise Problem(f"the engine can't be compiled for browsers: {problem}") from None


def _packed(net):
    from facelet.console import Problem
    from facelet.engine.description import Unsupported, describe

    try:
        return describe(net.model, net.facts)
    except Unsupported as problem:
        raise Problem(f"{net.name}: the engine can't run it: {problem}") from None


def _facts(net):
    """What the page has to know of the points that a net gives."""
    from facelet import schemes

    name = net.facts["scheme"]
    scheme = schemes.get(name) if name else None
    return {
        "points": net.facts["points"],
        "scheme": name,
        "lines": [list(map(int, line)) for line in scheme.lines] if scheme else [],
    }


def detector(nets_folder):
    """(files, facts): the nets of a detector as files for the page, bytes by name; and what stands
    in its detector.json:

    nets -- by stage, the part [start, end) of nets.bin
    points -- of the last net for boxes, with their scheme and its lines; None without
    landmark -- the same of each net for landmarks, by number of points, with its file and the
        squares that it is run on (facelet.detector.landmark_crop)
    always -- the number of points whose net is run where none is asked for; None: no such net
    settings, modes -- as facelet.settings.Settings

    Raises Problem.
    """
    from dataclasses import asdict, replace

    from facelet import nets as folders
    from facelet.detector import as_stage, landmark_crop
    from facelet.settings import Settings

    paths, given = folders.in_folder(nets_folder)
    modes = {}
    manifest = folders.place(nets_folder)[1]
    if manifest:
        modes = folders.read_manifest(manifest)[1].get(folders.MODES, {})
    settings = Settings(**given)
    nets = {stage: as_stage(stage, folders.open_net(path)) for stage, path in paths.items()}
    boxes = {stage: net for stage, net in nets.items() if stage != "landmark"}
    *_, last = boxes.values()
    data, places = b"", {}
    for stage, net in boxes.items():
        packed = _packed(net)
        places[stage] = [len(data), len(data) + len(packed)]
        data += packed
    files, landmark = {"nets.bin": data}, {}
    always = nets["landmark"].facts["points"] if "landmark" in nets else None
    for points in folders.points_in(nets_folder) or ([always] if always else []):
        path = folders.in_folder(nets_folder, points=points)[0]["landmark"]
        net = as_stage("landmark", folders.open_net(path))
        file = f"points{points}.bin"
        files[file] = _packed(net)
        landmark[points] = {**_facts(net), "file": file, "crop": landmark_crop(net) or (0, 0)}
    return files, {
        "nets": places,
        "points": _facts(last) if len(boxes) > 1 and "landmark" in last.tasks else None,
        "landmark": landmark,
        "always": always,
        "settings": asdict(settings),
        "modes": {name: asdict(replace(settings, **values)) for name, values in modes.items()},
    }


def build_site(out, nets_folder):
    """Build the page into a folder; what is newer than its source there stays. Raises Problem."""
    from facelet.files import to_json, whole_file
    from facelet.locks import locked

    out = Path(out)
    files, facts = detector(nets_folder)
    files["detector.json"] = (to_json(facts) + "\n").encode()
    for path in (*PAGE.glob("*.*"), SAMPLE):
        files[path.name] = path.read_bytes()
    with locked(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            path = out / name
            if not path.is_file() or path.read_bytes() != data:
                with whole_file(path) as part:
                    part.write_bytes(data)
        build_engine(out / "engine.wasm")
    return sum(path.stat().st_size for path in out.iterdir())


def policy():
    """What the page may ask for, as index.html says it. Threads go by what comes with their own
    file, so a server should send it with all."""
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    return re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the folder, with the types that browsers insist on, asked for anew each time."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, **TYPES}

    def end_headers(self):
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Content-Security-Policy", policy())
        super().end_headers()

    def log_message(self, *_):
        pass


def server(folder, port):
    """A server of a folder on 127.0.0.1; port 0: any that is free. Raises Problem."""
    from functools import partial

    from facelet.console import Problem

    try:
        return http.server.ThreadingHTTPServer(
            ("127.0.0.1", port), partial(Handler, directory=str(folder))
        )
    except OSError as error:
        raise Problem(
            f"port {port} can't be served on ({error.strerror}): choose another with --port"
        ) from None


def _port(text):
    if text.isdecimal() and int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no port: a whole number from 0 to 65535")


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="scripts/web.sh",
        description="Builds the page that finds faces in a browser, and shows it until ctrl-C.",
    )
    parser.add_argument("--nets", metavar="DIR", help="nets of a detector (default: models)")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--build", metavar="DIR", help="build it into this folder, and end")
    either.add_argument(
        "--port", type=_port, default=PORT, help="on 127.0.0.1; 0: any (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    out = Path(args.build or SITE)
    size = build_site(out, args.nets or ROOT / "models")
    print(f"the page is built: {out}, {size / 1000:.0f} kB")
    if args.build:
        return 0
    with server(out, args.port) as shown:
        print(f"http://127.0.0.1:{shown.server_address[1]}/ until ctrl-C", flush=True)
        try:
            shown.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    from facelet.console import program

    program(main)
