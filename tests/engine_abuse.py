"""Input that an engine must survive: pictures and buffers that don't fit, descriptions that are
damaged or lie. Run by facelet/engine/test_abuse.py, on the library as it is, and as a program on
one that is compiled with AddressSanitizer and UBSan:

    python tests/engine_abuse.py COUNT [SEED]

compiles that, for all instruction sets, and tries COUNT descriptions.
"""

import ctypes
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from facelet.engine import build, library
from facelet.engine.description import describe
from facelet.engine.library import Cascade, CFaces, CNet, CSettings, EngineError, Scratch
from facelet.nets import MODELS
from facelet.onnx_net import OnnxNet
from facelet.settings import Settings

NULL, SIZE, DAMAGED, MISMATCH, SETTINGS = 1, 2, 4, 6, 7  # engine.h
STAGES = {"pnet": "Pnet20_v2", "rnet": "Rnet_v1", "onet": "Onet_v2", "landmark": "Lnet_v2"}
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1")
HEADER = 12  # bytes before what the checksum is of


def descriptions():
    nets = (OnnxNet(MODELS / f"{name}.onnx") for name in STAGES.values())
    return [describe(net.model, net.facts) for net in nets]


def signed(body):
    """A description with the right checksum, whatever is in it."""
    return b"FACENET\x01" + struct.pack("<I", zlib.crc32(body)) + bytes(body)


def settings(**changed):
    s = Settings()
    values = CSettings(
        s.min_face, s.factor, s.thresholds, s.nms_scale, s.nms, s.vote, s.blend, 0, 0, 0, 1, 1
    )
    for name, value in changed.items():
        setattr(values, name, value)
    return values


def cascade(lib, instructions=None):
    nets = [CNet(lib, one, instructions) for one in descriptions()]
    return Cascade(*(net.handle for net in nets)), nets


def pictures(lib, instructions=None):
    """Pictures of many sizes, each in a buffer that ends with its last pixel."""
    nets, _kept = cascade(lib, instructions)
    scratch, rng = Scratch(lib), np.random.default_rng(1)
    crowd = settings(thresholds=(ctypes.c_double * 3)(0.02, 0.0, 0.0), min_face=19.0)
    for height, width in ((1, 1), (20, 20), (21, 140), (97, 31), (22, 560)):
        picture = rng.integers(0, 256, height * width * 3, dtype=np.uint8)
        library.detect(lib, nets, scratch, picture.reshape(height, width, 3), crowd)


def bad_calls(lib):
    """Codes of calls that can't be."""
    nets, kept = cascade(lib)
    scratch, faces, right = Scratch(lib), CFaces(), settings()
    pixels = np.zeros((40, 50, 3), np.uint8)
    references = dict(
        nets=ctypes.byref(nets),
        scratch=scratch.handle,
        pixels=pixels.ctypes.data,
        width=50,
        height=40,
        stride=150,
        settings=ctypes.byref(right),
        faces=ctypes.byref(faces),
    )

    def code(**changed):
        return lib.facelet_detect(*{**references, **changed}.values())

    assert code() == 0
    for name in ("nets", "scratch", "pixels", "settings", "faces"):
        assert code(**{name: None}) == NULL
    assert code(nets=ctypes.byref(Cascade())) == NULL
    big = 2**63 - 1
    for name in ("width", "height"):
        for value in (0, -1, -big, 32767, 2**31, 2**32 + 50, big):
            assert code(**{name: value}) == SIZE, (name, value)
    for stride in (0, 149, -150, -big, big, big // 40 + 1):
        assert code(stride=stride) == SIZE, stride
    nan, inf = float("nan"), float("inf")
    for name in ("min_face", "factor", "nms_scale", "vote", "blend", "landmark_side"):
        for value in (nan, inf, -1.0):
            wrong = settings(**{name: value})
            assert code(settings=ctypes.byref(wrong)) == SETTINGS, (name, value)
    for name in ("thresholds", "nms"):
        wrong = settings(**{name: (ctypes.c_double * 3)(0.5, nan, 0.5)})
        assert code(settings=ctypes.byref(wrong)) == SETTINGS
    for threads in (-1, 1025, 2**31 - 1):
        assert code(settings=ctypes.byref(settings(threads=threads))) == SETTINGS
    pnet, rnet, onet, landmark = (net.handle for net in kept)
    for wrong in ((rnet,), (pnet, pnet), (pnet, None, onet), (pnet, rnet, landmark)):
        assert code(nets=ctypes.byref(Cascade(*wrong))) == MISMATCH
    for net, height, width in ((kept[0], 19, 40), (kept[1], 25, 24), (kept[0], 2**30, 40)):
        try:
            net.run(scratch, np.broadcast_to(np.float32(0), (1, 3, height, width))[:, :, :0])
        except (EngineError, ValueError):
            pass
        sizes = library.Sizes(), library.Sizes()
        assert lib.facelet_net_shape(net.handle, height, width, *sizes) == SIZE
        code_ = lib.facelet_net_run(
            net.handle,
            scratch.handle,
            pixels.ctypes.data,
            1,
            height,
            width,
            (ctypes.c_void_p * 4)(),
        )
        assert code_ == SIZE
    assert lib.facelet_net_new(None, 5, None, ctypes.byref(ctypes.c_void_p())) == NULL
    assert lib.facelet_net_new(b"", 0, None, None) == NULL
    for number in range(-2, 12):
        assert lib.facelet_error(number)
    lib.facelet_net_free(None)
    lib.facelet_scratch_free(None)


def damaged(lib):
    """Every cut, and a bit of every byte: the checksum, or what is checked before, tells."""
    whole = descriptions()[0]
    for end in range(0, len(whole), 31):
        _refused(lib, whole[:end])
    for place in range(0, len(whole), 23):
        _refused(lib, whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
    for value in (b"\0\0\x80\x7f", b"\0\0\xc0\x7f"):  # infinite, no number
        _refused(lib, signed(whole[HEADER:-4] + value))


def _refused(lib, description):
    try:
        CNet(lib, description)
    except EngineError as error:
        assert error.code == DAMAGED
    else:
        raise AssertionError("a damaged description is read")


NUMBERS = (0, 1, 2, 3, 4, 7, 16, 63, 64, 65, 255, 256, 1000, 8192, 2**30, 2**31 - 1, -1, -(2**31))


def lies(lib, count, seed=0, instructions=None):
    """Descriptions with fields at random, the checksum right: read or not, run if they are. Gives
    how many could be read."""
    rng, scratch, read = random.Random(seed), Scratch(lib), 0
    bodies = [bytearray(one[HEADER:]) for one in descriptions()]
    fields = [list(_fields(body)) for body in bodies]
    picture = np.zeros((64, 64, 3), np.uint8)
    for _ in range(count):
        which = rng.randrange(len(bodies))
        body = bytearray(bodies[which])
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            at = rng.choice(fields[which])
            old = struct.unpack_from("<i", body, at)[0]
            new = rng.choice(NUMBERS) if rng.random() < 0.5 else old + rng.choice((-2, -1, 1, 2, 8))
            struct.pack_into("<i", body, at, max(-(2**31), min(new, 2**31 - 1)))
        if rng.random() < 0.2:
            body = body[: rng.randrange(len(body))]
        try:
            net = CNet(lib, signed(body), instructions)
        except EngineError:
            continue
        read += 1
        size = net.facts.size
        if size < 100:
            data = np.ones((2, 3, size, size), np.float32)
            try:
                net.run(scratch, data)
            except EngineError:
                pass
        nets = Cascade(net.handle)
        lib.facelet_detect(
            ctypes.byref(nets),
            scratch.handle,
            picture.ctypes.data,
            64,
            64,
            192,
            ctypes.byref(settings()),
            ctypes.byref(CFaces()),
        )
    return read


def _fields(body):
    """Where a description has whole numbers."""
    yield from range(0, 32, 4)
    at, channels = 32, [3]
    for _ in range(struct.unpack_from("<i", body, 12)[0]):
        op, _, first, *_ = fields = struct.unpack_from("<13i", body, at)
        yield from range(at, at + 52, 4)
        at += 52
        made, kernel, depthwise, slopes = fields[6], fields[7], fields[11], fields[12]
        if op == 0:
            at += 4 * (kernel * kernel * made * (1 if depthwise else channels[first]) + made)
        at += 4 * made * slopes
        channels.append(made)


def everything(lib, count, seed):
    bad_calls(lib)
    damaged(lib)
    names = library.instructions(lib)
    for name in names:
        pictures(lib, name)
    return sum(lies(lib, count // len(names), seed + i, name) for i, name in enumerate(names))


def sanitized(count, seed=0, every=True):
    """Runs everything() in a process of its own, on a library that is compiled for it; what it
    prints. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, build.LIBRARY)
        build.build(path, ["gcc"], SANITIZED, None if every else "another")
        preload = subprocess.run(
            ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
        return subprocess.run(
            [sys.executable, __file__, str(path), str(count), str(seed)],
            env={**os.environ, "LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout


if __name__ == "__main__":
    if sys.argv[1].isdecimal():
        try:
            print(sanitized(*map(int, sys.argv[1:])), end="")
        except subprocess.CalledProcessError as error:
            sys.exit(error.stderr[-3000:])
    else:
        path, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
        read = everything(library.opened(path), count, seed)
        print(f"{count} descriptions, of which {read} could be read: no fault")
