"""Whole detections of the engine against those of facelet.cascade on onnxruntime."""

import logging
import os
import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import facelet.engine
from facelet import FaceDetector, Problem
from facelet import picture as pictures
from facelet.engine import Engine, EngineError, library
from facelet.engine.description import Unsupported
from facelet.settings import Settings
from prepare_data.drawn import sets as drawn

SAMPLE = Path(__file__).resolve().parents[3] / "docs" / "sample.jpg"
PLACES, SCORES = 0.01, 1e-5  # pixels; of a score


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "set"
    drawn.draw_sample_set(folder, count=4, val_fraction=0)
    return [pictures.read(SAMPLE), *map(pictures.read, pictures.in_folder(folder))]


def both(*given, **settings):
    detectors = [
        FaceDetector.open(*given, engine=kind, **settings) for kind in ("onnxruntime", "c")
    ]
    assert detectors[0]._engine is None and detectors[1]._engine is not None
    return detectors


def agree(one, other):
    """Whether Faces are the same, in the same order but for scores as good as equal; how many."""
    assert len(one) == len(other) and one.scheme == other.scheme
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=SCORES)
    if len(one):
        apart = np.abs(one.boxes[:, None] - other.boxes[None]).max(axis=2)
        apart += np.abs(one.scores[:, None] - other.scores[None]) > SCORES
        order = apart.argmin(axis=1)
        assert sorted(order) == list(range(len(one)))
        other = other[order]
    for field in ("boxes", "landmarks", "windows"):
        first, second = getattr(one, field), getattr(other, field)
        assert (first is None) == (second is None)
        if first is not None:
            assert first.shape == second.shape and second.dtype == np.float32
            np.testing.assert_allclose(first, second, rtol=0, atol=PLACES)
    return len(one)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"points": 68},
        {"points": 0, "min_face": 12, "factor": 0.6},
        {"vote": 0.5, "mirror": True, "blend": 0.3},
        {"thresholds": (0.02, 0.02, 0.02), "min_face": 25},  # crowds, many of them over the edge
    ],
)
def test_detections_are_those_of_numpy(scenes, settings):
    plain, compiled = both(**settings)
    found = sum(agree(plain.detect(picture), compiled.detect(picture)) for picture in scenes)
    assert found >= 5


@pytest.mark.parametrize("last", ["pnet", "rnet", "onet"])
def test_detectors_that_end_early(scenes, last):
    nets = {"pnet": "Pnet20_v2", "rnet": "Rnet_v1", "onet": "Onet_v2"}
    folder = facelet.nets.MODELS
    given = {}
    for stage, name in nets.items():
        given[stage] = folder / f"{name}.onnx"
        if stage == last:
            break
    plain, compiled = (FaceDetector(**given, engine=kind) for kind in ("onnxruntime", "c"))
    assert agree(plain.found(scenes[0]), compiled.found(scenes[0])) > 1


def test_sizes_and_shapes(scenes):
    """From nothing to wider than a strip, taller than wide, not a multiple of anything."""
    plain, compiled = both(min_face=15)
    sizes = [(1, 1), (19, 40), (20, 20), (23, 300), (300, 23), (150, 511), (97, 1023), (400, 1031)]
    for height, width in sizes:
        picture = cv2.resize(scenes[1], (width, height), interpolation=cv2.INTER_AREA)
        agree(plain.found(picture), compiled.found(picture))


def test_every_instruction_set(scenes):
    plain, compiled = both()
    expected = plain.found(scenes[0])
    for name in library.instructions(library.library()):
        engine = Engine(compiled.nets, name)
        found = engine.detect(scenes[0], compiled.settings)
        agree(expected, replace(expected, **found))


def test_views_of_larger_arrays(scenes):
    """Rows apart, channels turned, mirrored: read as they are, or copied."""
    _, detector = both()
    wide = np.pad(scenes[0], ((3, 2), (5, 9), (0, 0)), constant_values=255)
    view = wide[3:-2, 5:-9]
    assert np.array_equal(view, scenes[0]) and not view.flags.c_contiguous
    assert detector.detect(view) == detector.detect(scenes[0])
    for turned in (np.s_[:, ::-1], np.s_[::-1], np.s_[..., ::-1], np.s_[::2, ::2]):
        view = scenes[0][turned]
        assert detector.found(view) == detector.found(np.ascontiguousarray(view))


def test_votes_on_ties():
    """A picture of one colour, whose windows have all the same score."""
    for colour in (0, 128, 255):
        picture = np.full((90, 1200, 3), colour, np.uint8)
        plain, compiled = both(thresholds=(0.0, 0.0, 0.0), min_face=40)
        agree(plain.found(picture), compiled.found(picture))


def test_noise(scenes):
    """Boxes differ as soon as a bit of a crop or of a level of the pyramid does."""
    rng = np.random.default_rng(0)
    plain, compiled = both(thresholds=(0.001, 0.0, 0.0))
    plain, compiled = (one.changed(nms=(1.0, 1.0, 1.0)) for one in (plain, compiled))
    for shape in ((61, 83, 3), (140, 47, 3)):
        picture = rng.integers(0, 256, shape, dtype=np.uint8)
        one, other = plain.found(picture), compiled.found(picture)
        # A score of the Pnet's may be over the threshold by a last bit in one of both.
        assert len(one) > 20 and abs(len(one) - len(other)) < 4
        apart = np.abs(one.boxes[:, None] - other.boxes[None]).max(axis=2).min(axis=1)
        assert (apart > PLACES).sum() < 4


def test_threads_and_processes(scenes):
    _, detector = both()
    expected = [detector.detect(scene) for scene in scenes]
    wrong = []

    def work(start):
        for number in range(start, start + 2 * len(scenes)):
            if detector.detect(scenes[number % len(scenes)]) != expected[number % len(scenes)]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and 1 <= len(detector._engine._free) <= 3
    again = pickle.loads(pickle.dumps(detector))
    assert again == detector and again._engine is not None
    assert again.detect(scenes[0]) == expected[0]


def bits(faces):
    parts = faces.boxes, faces.scores, faces.windows, faces.landmarks
    return [None if part is None else part.tobytes() for part in parts]


@pytest.mark.parametrize("threads", [2, 5])
def test_a_picture_on_several_threads(scenes, threads):
    """The same bits; and none is left."""
    one, several = (
        FaceDetector.open(
            engine="c", threads=count, points=68, thresholds=(0.1, 0.1, 0.3), mirror=True
        )
        for count in (1, threads)
    )
    assert several.threads == threads and several != one
    before = len(os.listdir("/proc/self/task"))
    wide = cv2.resize(scenes[1], (1300, 400))
    for scene in (wide, scenes[0], np.zeros((1, 1, 3), np.uint8)):
        assert bits(several.found(scene)) == bits(one.found(scene))
    assert len(os.listdir("/proc/self/task")) == before


def test_processes_that_fork_between_and_within_calls(scenes):
    """As workers do: children have the parent's buffers, and none of its threads."""
    detector = FaceDetector.open(engine="c", threads=2)
    expected = bits(detector.found(scenes[0]))
    stop, wrong = threading.Event(), []

    def work():
        while not stop.is_set():
            if bits(detector.found(scenes[0])) != expected:
                wrong.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(3):
            child = os.fork()
            if not child:
                os._exit(bits(detector.found(scenes[0])) != expected)
            deadline = time.monotonic() + 60
            while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert ended[1] == 0
    finally:
        stop.set()
        thread.join()
    assert not wrong


def test_buffers_do_not_grow_with_use_nor_with_the_picture(scenes):
    _, detector = both(points=68)
    engine = detector._engine
    for _ in range(2):
        for scene in scenes:
            detector.detect(scene)
    (scratch,) = engine._free
    before = scratch.bytes
    for scene in scenes:
        detector.detect(scene)
    assert scratch.bytes == before < 8e6
    detector.detect(np.zeros((2000, 3000, 3), np.uint8))
    assert scratch.bytes < before + 1e6


class Unknown:
    name = "a net of another kind"


# ---- which engine runs -----------------------------------------------------------------------


def test_the_choice_of_an_engine(scenes):
    assert FaceDetector.open()._engine is not None
    assert FaceDetector.open(engine="c") != FaceDetector.open(engine="onnxruntime")
    with pytest.raises(Problem, match="engine is 'gpu': it must be one of auto, c, onnxruntime"):
        FaceDetector.open(engine="gpu")


def test_nets_that_are_put_in_place_of_others_run(scenes):
    """As in notebooks and tests: what `nets` says is what runs."""
    detector = FaceDetector.open()
    real = detector.nets["onet"]

    class Never:
        name, tasks, facts = real.name, real.tasks, real.facts

        def __call__(self, data):
            return {**real(data), "cls": np.zeros((len(data), 2), np.float32)}

    assert len(detector.detect(scenes[0]))
    detector.nets["onet"] = Never()
    assert not len(detector.detect(scenes[0]))


def test_without_a_library(scenes, monkeypatch, caplog):
    """Everything goes on, with one line, once."""
    expected = FaceDetector.open(engine="onnxruntime").detect(scenes[0])
    facelet.engine._say.cache_clear()
    monkeypatch.setattr(library, "library", lambda: None)
    with caplog.at_level(logging.WARNING, "facelet"):
        for _ in range(2):
            detector = FaceDetector.open()
            assert detector._engine is None and detector.detect(scenes[0]) == expected
    (line,) = caplog.messages
    assert "onnxruntime" in line and "python -m facelet.engine.build" in line
    with pytest.raises(Problem, match="not compiled"):
        FaceDetector.open(engine="c")
    facelet.engine._say.cache_clear()


def test_a_library_that_is_none(tmp_path):
    path = tmp_path / "lib.so"
    assert library.opened(str(path)) is None
    path.write_bytes(b"no library")
    assert library.opened(str(path)) is None


def test_pictures_beyond_the_engine_go_to_numpy(scenes, monkeypatch):
    """As do those with a side from 32767 on, of which cv2.remap can't cut."""
    _, detector = both()
    tall = np.zeros((32767, 25, 3), np.uint8)
    with pytest.raises(EngineError) as caught:
        detector._engine.detect(tall, Settings())
    assert caught.value.code == facelet.engine.TOO_LARGE
    asked = []
    monkeypatch.setattr(detector, "stages", lambda picture: asked.append(1) or iter([("", "it")]))
    assert detector.found(tall) == "it" and asked


def test_nets_that_do_not_go_together():
    nets = FaceDetector.open(points=68).nets
    for wrong in (
        {"pnet": nets["rnet"]},
        {**nets, "rnet": nets["pnet"]},
        {**nets, "onet": nets["landmark"]},
        {**nets, "landmark": nets["rnet"]},
    ):
        with pytest.raises(EngineError, match="belong together"):
            Engine(wrong)
    with pytest.raises(Unsupported):
        Engine({"pnet": Unknown()})  # type: ignore[dict-item]
