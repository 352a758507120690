"""The page that finds faces in a browser (web/, scripts/web.py), in a headless Chromium: the same
faces as in Python, whose nets run on onnxruntime here; and what the page does.

The engine is compiled with what scripts/web.sh sets up, into web/site, and is kept there.
"""

import base64
import contextlib
import http.server
import json
import shutil
import struct
import subprocess
import threading

import browser
import cv2
import numpy as np
import pytest

from facelet import FaceDetector
from facelet.console import Problem
from scripts import web

SAMPLE = cv2.imread(str(web.SAMPLE))
SIZE = (640, 480)  # of the camera's pictures
PYTHON = web.ENVIRONMENT / "bin" / "python"

needs_zig = pytest.mark.skipif(
    not (web.ENVIRONMENT / "installed").exists(),
    reason="no compiler for WebAssembly: scripts/web.sh --build DIR sets one up",
)
needs_browser = pytest.mark.skipif(not browser.find(), reason="no Chromium is installed")


def served(folder):
    """A server of a folder in a thread of its own, with its address."""
    server = web.server(folder, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}/"


@pytest.fixture(scope="module")
def site():
    subprocess.run([PYTHON, web.__file__, "--build", web.SITE], check=True, capture_output=True)
    return web.SITE


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    """A video for the camera: the right one of the sample's portraits, in the middle."""
    frame = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    frame[:, 80:560] = cv2.resize(SAMPLE[:, 512:], (480, 480))
    path = tmp_path_factory.mktemp("camera") / "camera.y4m"
    with open(path, "wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F15:1 Ip A1:1 C420jpeg\n" % SIZE)
        for _ in range(2):
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420).tobytes())
    return path


@pytest.fixture(scope="module")
def chromium(camera, tmp_path_factory):
    with browser.Browser(
        tmp_path_factory.mktemp("profile"),
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ) as one:
        yield one


@contextlib.contextmanager
def shown(chromium, folder):
    """The page in a folder, in a browser, with the sample's faces found or a problem said."""
    server, url = served(folder)
    chromium.events.clear()
    chromium.open(url)
    chromium.wait(
        "document.querySelector('#count').textContent !== '–' ||"
        "!document.querySelector('#problem').hidden"
    )
    yield chromium
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(site, chromium):
    with shown(chromium, site):
        yield chromium


@pytest.fixture(scope="class")
def one_page(site, chromium):
    with shown(chromium, site):
        yield chromium


@pytest.fixture
def other_server():
    """Its address, and the list of what it is asked for."""
    seen = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{other.server_address[1]}/", seen
        other.shutdown()


def text(page, name):
    return page.value(f"document.querySelector('#{name}').textContent")


def detect(page, data, options):
    """What FaceDetector.detect of facelet.js gives for the bytes of a file."""
    return page.value(
        f"""(async () => {{
            window.facelet ??= await (await import("./facelet.js")).FaceDetector.open();
            const bytes = Uint8Array.from(atob("{base64.b64encode(data).decode()}"),
                                          (one) => one.charCodeAt(0));
            return window.facelet.detect(new Blob([bytes]), {json.dumps(options)});
        }})()"""
    )


def encoded(picture, kind=".png"):
    return cv2.imencode(kind, picture)[1].tobytes()


def turned(jpeg, orientation):
    """A JPEG with an EXIF orientation."""
    entry = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    block = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def assert_same(found, faces, box=0.01, score=1e-4, point=0.02):
    assert len(found["faces"]) == len(faces)
    for one, other in zip(found["faces"], faces):
        assert np.allclose(one["box"], other.box, rtol=0, atol=box)
        assert abs(one["score"] - other.score) <= score
        expected = np.zeros((0, 2)) if other.landmarks is None else other.landmarks
        assert np.shape(one["points"])[:1] == expected.shape[:1]
        assert np.allclose(np.reshape(one["points"], (-1, 2)), expected, rtol=0, atol=point)


@needs_zig
@needs_browser
class TestDetector:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"points": 0},
            {"points": 5},
            {"points": 68, "mode": "fast"},
            {"mode": "precise"},
            {"thresholds": (0.1, 0.1, 0.3), "min_face": 31, "factor": 0.6, "vote": 1, "blend": 0},
        ],
        ids=str,
    )
    def test_same_faces_as_in_python(self, one_page, options):
        picture = cv2.resize(SAMPLE, (601, 299), interpolation=cv2.INTER_AREA)
        faces = FaceDetector.open(engine="onnxruntime", **options).detect(picture)
        assert len(faces) >= 2
        found = detect(one_page, encoded(picture), options)
        assert (found["width"], found["height"]) == (601, 299)
        assert_same(found, faces)


@needs_zig
@needs_browser
class TestPage:
    def test_a_picture_is_turned_upright(self, page, tmp_path):
        lying = cv2.rotate(SAMPLE[:, 512:900], cv2.ROTATE_90_COUNTERCLOCKWISE)
        path = tmp_path / "turned.jpg"
        path.write_bytes(turned(encoded(lying, ".jpg"), 6))
        faces = FaceDetector.open(engine="onnxruntime").detect(path)
        assert len(faces) == 1
        found = detect(page, path.read_bytes(), {})
        assert (found["width"], found["height"]) == (388, 512)
        assert_same(found, faces, 0.5, 1e-2, 0.5)  # two decoders of JPEG
        page.choose("#file", path)
        page.wait("document.querySelector('#size').textContent === '388 × 512'")
        assert text(page, "count") == "1"

    def test_a_large_picture_is_scaled_down_and_its_faces_are_not(self, page, tmp_path):
        picture = cv2.resize(SAMPLE, (3000, 1500), interpolation=cv2.INTER_CUBIC)
        path = tmp_path / "large.jpg"
        cv2.imwrite(str(path), picture)
        faces = FaceDetector.open(engine="onnxruntime", min_face=100).detect(picture)
        found = detect(page, path.read_bytes(), {"min_face": 100})
        assert (found["width"], found["height"]) == (3000, 1500) and len(faces) == 2
        assert_same(found, faces, 30, 0.05, 30)  # of an image 6 % smaller
        page.value("document.querySelector('#min_face').value = 70")
        page.choose("#file", path)
        page.wait("document.querySelector('#size').textContent === '2828 × 1414'")
        assert text(page, "size-of") == "pixels, of 3000 × 1500"

    def test_settings_count(self, page):
        assert text(page, "count") == "2"
        set_to = """(() => {{
            const input = document.querySelector("{}");
            input.{};
            input.dispatchEvent(new Event("input", {{bubbles: true}}));
        }})()"""
        # The left one's box is 115 pixels high.
        page.value(set_to.format("#min_face", "value = 90"))
        page.wait("document.querySelector('#count').textContent === '1'")
        page.value("document.querySelector('#reset').click()")
        page.wait("document.querySelector('#count').textContent === '2'")
        page.value(set_to.format("#last", "value = 0.3"))
        page.value(set_to.format("input[name=mode][value=fast]", "checked = true"))
        page.wait("document.querySelector('#count').textContent === '3'")
        assert page.value("document.querySelector('#last').value") == "0.81"

    def test_what_is_no_picture_is_named_and_the_last_one_stays(self, page, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("no picture")
        page.choose("#file", path)
        page.wait("!document.querySelector('#problem').hidden")
        assert text(page, "problem") == "notes.txt is no picture that this browser can read"
        assert text(page, "count") == "2"
        page.value("document.querySelector('#sample').click()")
        page.wait("document.querySelector('#problem').hidden")

    def test_the_camera_s_faces_are_drawn_until_it_is_stopped(self, page):
        page.value("document.querySelector('#camera').click()")
        page.wait("document.querySelector('#size').textContent === '640 × 480'")
        assert text(page, "count") == "1"
        # The drawn box: pixels of its colour within each column of the picture.
        columns = page.value("""(() => {
            const {width, height} = canvas;
            const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            const counts = new Array(width).fill(0);
            for (let i = 0; i < data.length; i += 4)
                if (Math.abs(data[i] - 0x35) + Math.abs(data[i + 1] - 0xe6) +
                    Math.abs(data[i + 2] - 0xa8) < 12) counts[(i / 4) % width]++;
            return counts.map((count) => count / height);
        })()""")
        sides = np.flatnonzero(np.array(columns) > 0.3) * SIZE[0] / len(columns)
        left, _, right, _ = FaceDetector.open(engine="onnxruntime").detect(SAMPLE[:, 512:])[0].box
        # The right portrait, 512 pixels wide there, is 480 in the video, and mirrored.
        expected = [SIZE[0] - (80 + side * 480 / 512) for side in (right, left)]
        assert np.allclose([sides.min(), sides.max()], expected, atol=8)
        assert page.value("document.querySelector('#camera').textContent").strip() == "Stop"
        page.value("document.querySelector('#camera').click()")
        assert page.value("document.querySelector('#camera').textContent").strip() == "Camera"
        page.wait("document.querySelectorAll('#faces li').length === 1")

    def test_nothing_is_asked_of_another_server(self, page):
        own = page.value("location.origin")
        asked = [
            event["params"]["request"]["url"]
            for event in page.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        assert asked and all(url.startswith((own, "data:")) for url in asked)

    def test_the_browser_refuses_other_servers(self, site, chromium, tmp_path, other_server):
        """Those that would answer, from the page and from a thread."""
        url, seen = other_server
        for path in site.iterdir():
            shutil.copy2(path, tmp_path)
        (tmp_path / "probe.js").write_text(
            "onmessage = ({data}) => fetch(data).then(() => postMessage('fetched'),"
            " (error) => postMessage(error.name))"
        )
        with shown(chromium, tmp_path) as page:
            fetched = f"fetch('{url}').then(() => 'fetched', (error) => error.name)"
            assert page.value(fetched) == "TypeError"
            thread = """new Promise((done) => {
                const one = new Worker("probe.js");
                one.onmessage = ({data}) => done(data);
                one.postMessage("%s");
            })"""
            assert page.value(thread % f"{url}") == "TypeError"
            own = page.value("location.origin")
            assert page.value(thread % f"{own}/detector.json") == "fetched"
        assert not seen

    def test_a_damaged_file_is_said(self, site, chromium, tmp_path):
        for path in site.iterdir():
            shutil.copy2(path, tmp_path)
        nets = tmp_path / "nets.bin"
        nets.write_bytes(nets.read_bytes()[:-4] + bytes(4))
        with shown(chromium, tmp_path) as page:
            assert text(page, "problem") == "the description of a net is damaged"
        nets.unlink()
        with shown(chromium, tmp_path) as page:
            assert text(page, "problem").startswith("nets.bin can't be fetched: 404")

    def test_nets_of_one_s_own(self, site, chromium, tmp_path):
        """A cascade of two, which gives no points."""
        nets, out = tmp_path / "nets", tmp_path / "out"
        for folder in (nets, out):
            folder.mkdir()
        for name in ("Pnet20_v2", "Rnet_v1"):
            shutil.copy(web.ROOT / "models" / f"{name}.onnx", nets)
        shutil.copy2(site / "engine.wasm", out)
        web.build_site(out, nets)
        picture = cv2.resize(SAMPLE, (301, 150), interpolation=cv2.INTER_AREA)
        faces = FaceDetector.open(nets, engine="onnxruntime").detect(picture)
        assert len(faces) >= 2
        with shown(chromium, out) as page:
            assert text(page, "problem") == "" and int(text(page, "count")) >= 2
            assert_same(detect(page, encoded(picture), {}), faces)


def test_nets_are_packed_as_the_engine_reads_them(tmp_path):
    from facelet.engine.description import describe
    from facelet.onnx_net import OnnxNet

    files, facts = web.detector(web.ROOT / "models")
    for stage, name in {"pnet": "Pnet20_v2", "onet": "Onet_v2"}.items():
        net = OnnxNet(web.ROOT / "models" / f"{name}.onnx")
        start, end = facts["nets"][stage]
        assert files["nets.bin"][start:end] == describe(net.model, net.facts)
    assert facts["always"] is None and list(facts["landmark"]) == [5, 68]
    assert facts["modes"]["precise"]["mirror"] and not facts["settings"]["mirror"]


def test_a_port_in_use_is_said(tmp_path):
    server, _ = served(tmp_path)
    with pytest.raises(Problem, match="choose another with --port"):
        web.server(tmp_path, server.server_address[1])
    server.shutdown()
    server.server_close()
