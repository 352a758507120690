"""The engine's library through ctypes."""

import ctypes
from functools import cache
from typing import Any, Optional

import numpy as np

from facelet.arrays import Array, Floats, Pixels
from facelet.engine.description import TASKS

ABI = 2  # of engine.h
Sizes = ctypes.c_int32 * len(TASKS)


class EngineError(Exception):
    """What the library says of a call, with its `code`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Facts(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_int32),
        ("stride", ctypes.c_int32),
        ("points", ctypes.c_int32),
        ("outputs", ctypes.c_int32),
        ("values", Sizes),
    ]


class Cascade(ctypes.Structure):
    _fields_ = [(stage, ctypes.c_void_p) for stage in ("pnet", "rnet", "onet", "landmark")]


class CSettings(ctypes.Structure):
    _fields_ = [
        ("min_face", ctypes.c_double),
        ("factor", ctypes.c_double),
        ("thresholds", ctypes.c_double * 3),
        ("nms_scale", ctypes.c_double),
        ("nms", ctypes.c_double * 3),
        ("vote", ctypes.c_double),
        ("blend", ctypes.c_double),
        ("landmark_side", ctypes.c_double),
        ("landmark_below", ctypes.c_double),
        ("mirror", ctypes.c_int32),
        ("box_points", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    ]


class CFaces(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int64),
        ("points", ctypes.c_int32),
        ("boxes", ctypes.c_void_p),
        ("scores", ctypes.c_void_p),
        ("windows", ctypes.c_void_p),
        ("landmarks", ctypes.c_void_p),
    ]


# What functions that give a code take.
ARGUMENTS: dict[str, list[Any]] = {
    "facelet_net_new": [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p],
    "facelet_net_facts": [ctypes.c_void_p, ctypes.POINTER(Facts)],
    "facelet_scratch_new": [ctypes.c_void_p],
    "facelet_net_shape": [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, Sizes, Sizes],
    "facelet_net_run": [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int32,
        ctypes.c_int32,
        ctypes.c_void_p,
    ],
    "facelet_detect": [
        ctypes.POINTER(Cascade),
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.POINTER(CSettings),
        ctypes.POINTER(CFaces),
    ],
}


def opened(path: str) -> Optional[ctypes.CDLL]:
    """The library in a file, or None if there is none that fits."""
    try:
        library = ctypes.CDLL(path)
        if library.facelet_abi() != ABI:
            return None
    except (OSError, AttributeError):
        return None
    for name, arguments in ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, ctypes.c_int
    for name in ("facelet_error", "facelet_instructions"):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_int], ctypes.c_char_p
    for name in ("facelet_net_free", "facelet_scratch_free"):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_void_p], None
    library.facelet_scratch_bytes.argtypes = [ctypes.c_void_p]
    library.facelet_scratch_bytes.restype = ctypes.c_size_t
    return library


@cache
def library() -> Optional[ctypes.CDLL]:
    """The library that was compiled when the package was installed, or None."""
    from facelet.engine import build  # not above, or python -m facelet.engine.build warns of that

    return opened(str(build.HERE / build.LIBRARY))


def check(lib: ctypes.CDLL, code: int) -> None:
    """Raises EngineError for a code that says that something is wrong."""
    if code:
        raise EngineError(code, lib.facelet_error(code).decode())


def instructions(lib: ctypes.CDLL) -> list[str]:
    """The instruction sets that the library has and the processor runs, best first."""
    found: list[str] = []
    while (name := lib.facelet_instructions(len(found))) is not None:
        found.append(name.decode())
    return found


class Scratch:
    """Buffers of one thread; they grow with the largest picture."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self._library, self.handle = lib, ctypes.c_void_p()
        check(lib, lib.facelet_scratch_new(ctypes.byref(self.handle)))

    def __del__(self) -> None:
        self._library.facelet_scratch_free(self.handle)

    @property
    def bytes(self) -> int:
        return int(self._library.facelet_scratch_bytes(self.handle))


class CNet:
    """A net in the library.

    description -- facelet.engine.description.describe(); instructions -- one of instructions();
        None: the best

    Raises EngineError.
    """

    def __init__(
        self, lib: ctypes.CDLL, description: bytes, instructions: Optional[str] = None
    ) -> None:
        self._library, self.handle = lib, ctypes.c_void_p()
        name = instructions and instructions.encode()
        check(
            lib, lib.facelet_net_new(description, len(description), name, ctypes.byref(self.handle))
        )
        self.facts = Facts()
        check(lib, lib.facelet_net_facts(self.handle, ctypes.byref(self.facts)))

    def __del__(self) -> None:
        self._library.facelet_net_free(self.handle)

    def run(self, scratch: Scratch, data: Floats) -> dict[str, Floats]:
        """data (N, 3, H, W) float32 -> outputs by task. Raises EngineError."""
        data = np.ascontiguousarray(data, np.float32)
        count, _, height, width = data.shape
        rows, columns = Sizes(), Sizes()
        check(
            self._library,
            self._library.facelet_net_shape(self.handle, height, width, rows, columns),
        )
        outputs = {
            task: np.empty((count, self.facts.values[place], rows[place], columns[place]), "f4")
            for place, task in enumerate(TASKS)
            if self.facts.outputs >> place & 1
        }
        pointers = (ctypes.c_void_p * len(TASKS))(
            *(outputs[task].ctypes.data if task in outputs else None for task in TASKS)
        )
        check(
            self._library,
            self._library.facelet_net_run(
                self.handle, scratch.handle, data.ctypes.data, count, height, width, pointers
            ),
        )
        if not self.facts.stride:
            return {task: values.reshape(count, -1) for task, values in outputs.items()}
        return outputs


def detect(
    lib: ctypes.CDLL, nets: Cascade, scratch: Scratch, picture: Pixels, settings: CSettings
) -> dict[str, Optional[Array]]:
    """boxes, scores, windows and landmarks (None without) of the faces in a picture, uint8
    (H, W, 3). Raises EngineError."""
    height, width = picture.shape[:2]
    apart, between, within = picture.strides
    if (between, within) != (3, 1) or apart < 3 * width:
        picture = np.ascontiguousarray(picture)
        apart = picture.strides[0]
    faces = CFaces()
    code = lib.facelet_detect(
        ctypes.byref(nets),
        scratch.handle,
        picture.ctypes.data,
        width,
        height,
        apart,
        ctypes.byref(settings),
        ctypes.byref(faces),
    )
    check(lib, code)

    def copied(pointer: Optional[int], *shape: int) -> Floats:
        made = np.empty(shape, np.float32)
        if made.size:
            ctypes.memmove(made.ctypes.data, pointer or 0, made.nbytes)
        return made

    count, points = faces.count, faces.points
    return {
        "boxes": copied(faces.boxes, count, 4),
        "scores": copied(faces.scores, count),
        "windows": copied(faces.windows, count, 4),
        "landmarks": copied(faces.landmarks, count, points, 2) if points else None,
    }
