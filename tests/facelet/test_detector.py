"""The installable detector with the nets that come along: what it takes and gives, and where."""

import inspect
import io
import math
import multiprocessing
import pickle
import typing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image

import core.detect
import facelet
from facelet import BrokenPicture, FaceDetector, Faces, Problem
from facelet import picture as pictures
from facelet.onnx_net import OnnxNet
from facelet.settings import Settings

PHOTO = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
PACKAGE = Path(facelet.__file__).parent


@pytest.fixture(scope="module")
def detector():
    return FaceDetector.open(min_face=60)


@pytest.fixture(scope="module")
def photo():
    return pictures.read(PHOTO)


@pytest.fixture(scope="module")
def expected(detector, photo):
    found = detector.detect(photo)
    assert len(found) == 1 and found.scheme == "5" and found.scores[0] > 0.9
    return found


# ---- pictures of all kinds -----------------------------------------------------------------


def test_one_picture_in_many_forms(detector, photo, expected):
    image = Image.fromarray(photo[..., ::-1])
    for source in (
        str(PHOTO),
        PHOTO,
        PHOTO.read_bytes(),
        memoryview(PHOTO.read_bytes()),
        photo.astype(np.uint16) * 257,
        image,
        image.convert("RGBA"),
    ):
        for order in ("BGR", "RGB"):
            if not isinstance(source, np.ndarray) or order == "BGR":
                assert detector.detect(source, order=order) == expected
    assert detector.detect(photo[..., ::-1], order="RGB") == expected


def test_pillow_images():
    """Of any mode, as Pillow converts it; 16 bits by their upper 8; not turned by EXIF."""
    levels = np.arange(0, 65536, 273, dtype=np.uint16)[: 12 * 20].reshape(12, 20)
    grey = Image.fromarray((levels >> 8).astype(np.uint8))
    deep = Image.fromarray(levels)
    assert deep.mode == "I;16"
    for image in (grey, deep, grey.convert("1"), grey.convert("P"), grey.convert("LA")):
        bgr = pictures.open_any(image)
        plain = grey.convert("1") if image.mode == "1" else grey
        assert np.array_equal(bgr, np.asarray(plain.convert("RGB"))) and bgr.flags.c_contiguous
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.zeros((4, 9, 3), np.uint8))
    image.info["exif"] = exif.tobytes()
    assert pictures.open_any(image).shape == (4, 9, 3)
    for mode in ("I", "F"):
        with pytest.raises(BrokenPicture, match=f"PIL image of mode '{mode}'"):
            pictures.open_any(grey.convert(mode))


def test_truncated_pillow_images(tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(PHOTO.read_bytes()[:30_000])
    with pytest.raises(BrokenPicture, match="a PIL image that can't be read: .*truncated"):
        pictures.open_any(Image.open(path))


class Upload:
    """A file of no class of Python's."""

    def __init__(self, data):
        self.data = data

    def read(self):
        return self.data


def test_files_that_are_open(detector, expected, tmp_path):
    with open(PHOTO, "rb") as file:
        assert detector.detect(file) == expected
        file.seek(0)
        assert detector.detect([file, PHOTO]) == [expected, expected]
        with pytest.raises(BrokenPicture, match=f"{PHOTO}: the file is empty"):
            detector.detect(file)  # read to its end
    assert detector.detect(io.BytesIO(PHOTO.read_bytes())) == expected
    assert detector.detect(Upload(bytearray(PHOTO.read_bytes()))) == expected
    says = {'open as text: open it with mode "rb"': open(PHOTO), "closed file": file}
    says.update({"gives str, not bytes": Upload("text"), "StringIO: a file .* text": io.StringIO()})  # type: ignore[dict-item]
    says["not open for reading|not readable|read"] = open(tmp_path / "new", "wb")
    for text, source in says.items():
        for given in (source, [source]):
            with pytest.raises(BrokenPicture, match=text) as caught:
                detector.detect(given)
            assert "\n" not in str(caught.value)
        assert isinstance(detector.detect(source, errors="return"), BrokenPicture)
        if isinstance(source, io.IOBase):
            source.close()


def test_a_mapping_is_no_picture(detector):
    """Its keys would be taken for paths."""
    with pytest.raises(BrokenPicture, match="a binary file, an array or a PIL image, not dict"):
        detector.detect({str(PHOTO): 1})
    assert isinstance(detector.detect({}, errors="return"), BrokenPicture)


def test_lists_and_iterators(detector, photo, expected):
    small = cv2.resize(photo, None, fx=0.5, fy=0.5)
    half = detector.detect(small)
    for several in ([PHOTO, small], (photo, small)):
        assert detector.detect(several) == [expected, half]
    assert detector.detect([]) == []
    for iterable in (iter([PHOTO, small]), {str(PHOTO): 1, "x": 2}.keys(), map(str, [PHOTO])):
        found = detector.detect(iterable)
        assert inspect.isgenerator(found) and next(found) == expected

    def frames():
        for number in range(3):
            taken.append(number)
            yield small

    taken = []
    found = detector.detect(frames())
    assert taken == []  # a frame when its result is asked for
    assert next(found) == half and taken == [0]
    assert list(found) == [half, half] and taken == [0, 1, 2]


def test_a_bad_picture_among_others(detector, photo, expected):
    several = [photo, "gone.jpg", b"", photo, None, [photo], np.zeros((2, 9, 9, 3), np.uint8)]
    says = [None, "gone.jpg: No such", "empty", None, "not NoneType", "not list", "several as a li"]
    for given in (several, iter(several)):
        found = list(detector.detect(given, errors="return"))
        for result, text in zip(found, says):
            if text is None:
                assert result == expected
            else:
                assert isinstance(result, BrokenPicture) and text in str(result)
        assert len(found) == len(several)
    assert isinstance(detector.detect("gone.jpg", errors="return"), BrokenPicture)
    for one in ("gone.jpg", several):
        with pytest.raises(BrokenPicture, match="gone.jpg"):
            detector.detect(one)
    lazy = detector.detect(iter(several))
    assert next(lazy) == expected
    with pytest.raises(BrokenPicture, match="gone.jpg"):
        next(lazy)


def test_options_of_detect(detector, photo):
    """Refused at once, not at the first frame, and whatever the picture is."""
    for picture in (photo, str(PHOTO), [], iter([])):
        with pytest.raises(Problem, match="order is 'GBR': it must be one of BGR, RGB"):
            detector.detect(picture, order="GBR")
        with pytest.raises(Problem, match="errors is 'ignore': it must be one of raise, return"):
            detector.detect(picture, errors="ignore")


# ---- elsewhere -----------------------------------------------------------------------------


def test_threads(detector, photo):
    """Four at once give what one gives."""
    several = [photo[:, 4 * i :] for i in range(12)]
    expected = detector.detect(several)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, several)) == expected


def test_processes(detector, photo, expected):
    """Detectors go to the processes of a pool, and what they find comes back."""
    again = pickle.loads(pickle.dumps(detector))
    assert again == detector and hash(again) == hash(detector) and again.nets == detector.nets
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        assert list(pool.map(detector.detect, [photo])) == [expected]
        broken = pool.submit(detector.detect, "gone.jpg", errors="return").result()
    assert isinstance(broken, BrokenPicture) and "gone.jpg" in str(broken)


def test_equal_detectors(detector, tmp_path):
    assert detector == FaceDetector.open(min_face=60) != FaceDetector.open(min_face=61)
    assert detector != detector.changed(nms_scale=0.4) and detector != FaceDetector.open(
        min_face=60, points=68
    )
    net = detector.nets["pnet"]
    copied = tmp_path / "copy.onnx"
    copied.write_bytes(Path(net.name).read_bytes())
    assert net == OnnxNet(copied) != OnnxNet(copied, threads=2)
    assert net != detector.nets["rnet"] and len({net, OnnxNet(copied)}) == 1
    assert "Pnet20_v2" in repr(detector) and "min_face 60" in repr(detector)


# ---- how it reads --------------------------------------------------------------------------


def test_the_toolkits_detector_takes_the_same_and_a_backend():
    for name in ("__init__", "open"):
        ours = inspect.signature(getattr(core.detect.FaceDetector, name)).parameters
        theirs = inspect.signature(getattr(FaceDetector, name)).parameters
        assert list(ours) == [*theirs, "backend"]
        assert all(ours[key] == theirs[key] for key in theirs)
    assert core.detect.FaceDetector.open(min_face=60).detect(PHOTO) == FaceDetector.open(
        min_face=60
    ).detect(PHOTO)
    with pytest.raises(TypeError, match="unexpected keyword argument 'minface'"):
        core.detect.FaceDetector.open(minface=60)


def test_points_that_come_along():
    with pytest.raises(Problem, match="models has nets for 5 and 68 points, none for 106"):
        FaceDetector.open(points=106)
    assert FaceDetector.open(points=68).scheme == "68"


def test_annotations_are_read_by_any_python():
    """typing.get_type_hints() evaluates them."""
    for function in (FaceDetector.__init__, FaceDetector.open, FaceDetector.detect, Faces.aligned):
        assert "return" in typing.get_type_hints(function)
    assert (PACKAGE / "py.typed").exists()


def test_the_door():
    assert sorted(facelet.__all__) == facelet.__all__
    for name in facelet.__all__:
        assert getattr(facelet, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        facelet.nothing  # noqa: B018


@pytest.mark.parametrize("name", ["min_face", "factor", "nms_scale", "thresholds", "nms"])
@pytest.mark.parametrize("number", [10**400, 1e15, -(10**400), math.inf, math.nan])
def test_numbers_beyond_all_bounds(name, number):
    value = (0.5, number, 0.5) if name in ("thresholds", "nms") else number
    with pytest.raises(Problem, match=f"^{name} is .*: it must be "):
        Settings(**{name: value})
