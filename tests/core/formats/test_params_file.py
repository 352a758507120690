""".params files without MXNet: what MXNet writes is read, what is written is what MXNet writes,
and no file makes the readers of checkpoints do anything but work or say what is wrong."""

import contextlib
import json
import struct
import sys
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trained import trained

import symbols
from core.formats import checkpoint as checkpoints
from core.formats import numpy_net, params_file
from facelet.console import Problem
from symbols.mxnet_import import mx, ndarrays

FUZZ = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def arrays():
    rng = np.random.default_rng(2)
    shapes = {
        "arg:conv1_weight": (4, 3, 2, 2),
        "arg:conv1_bias": (4,),
        "arg:fc_weight": (2, 9),
        "aux:bn1_moving_var": (4,),
        "arg:größe_gamma": (1,),
    }
    return {
        name: rng.normal(0, 10.0 ** rng.integers(-20, 20), shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def same(one, other):
    assert list(one) == list(other)
    for name, value in one.items():
        assert value.dtype == np.float32 and value.shape == other[name].shape
        np.testing.assert_array_equal(value, other[name])
    return True


# ---- against MXNet -------------------------------------------------------------------------


def test_written_as_mxnet_writes(tmp_path):
    """Byte for byte."""
    params_file.write(tmp_path / "ours.params", arrays())
    mx.nd.save(str(tmp_path / "theirs.params"), ndarrays(arrays()))
    assert (tmp_path / "ours.params").read_bytes() == (tmp_path / "theirs.params").read_bytes()


def test_mxnet_reads_what_is_written(tmp_path):
    params_file.write(tmp_path / "x.params", arrays())
    theirs = mx.nd.load(str(tmp_path / "x.params"))
    assert same({name: value.asnumpy() for name, value in theirs.items()}, arrays())


def test_what_mxnet_writes_is_read(tmp_path):
    mx.nd.save(str(tmp_path / "x.params"), ndarrays(arrays()))
    assert same(params_file.read(tmp_path / "x.params"), arrays())


def test_every_type_of_number(tmp_path):
    values = {
        f"arg:{kind}": mx.nd.array([[0, 1, 100], [2, 3, 4]], dtype=kind)
        for kind in ("float16", "float32", "float64", "uint8", "int8", "int32", "int64")
    }
    mx.nd.save(str(tmp_path / "x.params"), values)
    for name, value in params_file.read(tmp_path / "x.params").items():
        theirs = values[name].asnumpy()
        assert value.dtype == (np.float32 if theirs.dtype.kind == "f" else theirs.dtype)
        np.testing.assert_array_equal(value, theirs)
        value += 1  # an array of one's own


def test_numbers_too_large_for_float32(tmp_path):
    """They become infinite, which core.doctor and every export find; nothing is printed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(tmp_path, file_of([array_as("v2", np.array([1e300, -1.5]), kind=1)], [b"a"]))
    np.testing.assert_array_equal(found["a"], np.array([np.inf, -1.5], np.float32))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.params"
    params_file.write(path, arrays())
    before = path.read_bytes()
    with pytest.raises(ValueError):
        params_file.write(path, {"arg:a": np.zeros(3), "arg:b": [[1, 2], [3]]})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# ---- the layout ----------------------------------------------------------------------------


def array_as(layout, value, kind=0, device=1):
    """An array as the versions of MXNet wrote it."""
    head = {
        "v2": struct.pack("<Iii", 0xF993FAC9, 0, value.ndim),
        "v3": struct.pack("<Iii", 0xF993FACA, 0, value.ndim),
        "v1": struct.pack("<II", 0xF993FAC8, value.ndim),
        "legacy": struct.pack("<I", value.ndim),
    }[layout]
    wide = "I" if layout == "legacy" else "q"
    return (
        head
        + struct.pack(f"<{value.ndim}{wide}", *value.shape)
        + struct.pack("<3i", device, 0, kind)
        + value.tobytes()
    )


def file_of(parts, names, count=None, ends=b""):
    data = struct.pack("<3Q", 0x112, 0, len(parts) if count is None else count) + b"".join(parts)
    data += struct.pack("<Q", len(names))
    for name in names:
        data += struct.pack("<Q", len(name)) + name
    return data + ends


@contextlib.contextmanager
def little_memory(most):
    """Fails where more than `most` bytes are taken."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def read(tmp_path, data):
    (tmp_path / "x.params").write_bytes(data)
    return params_file.read(tmp_path / "x.params")


@pytest.mark.parametrize("layout", ["v1", "v2", "legacy"])
@pytest.mark.parametrize("device", [1, 2])
def test_older_layouts(tmp_path, layout, device):
    """As MXNet reads them; a file saved from a GPU is nothing else."""
    first = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    second = np.array([0.5, -7], np.float32)
    data = file_of(
        [array_as(layout, first, device=device), array_as("v2", second)],
        [b"arg:first", b"aux:second"],
    )
    found = read(tmp_path, data)
    assert same(found, {"arg:first": first, "aux:second": second})
    if device == 1:
        theirs = mx.nd.load(str(tmp_path / "x.params"))
        assert same(found, {name: value.asnumpy() for name, value in theirs.items()})


def test_numpy_semantics_layout(tmp_path):
    value = np.array([[1, 2]], np.float32)
    assert same(read(tmp_path, file_of([array_as("v3", value)], [b"arg:a"])), {"arg:a": value})


VALUE = np.ones((2, 2), np.float32)
GOOD = array_as("v2", VALUE)


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "byte 0"),
        (b"\x12\x01", "byte 0"),
        (b"\x13" + file_of([GOOD], [b"a"])[1:], "begins"),
        (file_of([], []), "0 arrays and 0 names"),
        (file_of([GOOD], []), "1 arrays and 0 names"),
        (file_of([GOOD, GOOD], [b"a"]), "2 arrays and 1 names"),
        (file_of([GOOD, GOOD], [b"a", b"a"]), "2 arrays and 1 names"),
        (file_of([GOOD], [b"a"], ends=b"\0"), "1 bytes follow"),
        (file_of([GOOD], [b"\xff\xfe"]), "utf-8"),
        (file_of([array_as("v2", VALUE, kind=7)], [b"a"]), "type 7"),
        (file_of([array_as("v2", VALUE, kind=-1)], [b"a"]), "type -1"),
        (file_of([array_as("v2", VALUE, kind=6)], [b"a"]), "ends within"),  # int64: twice the bytes
        (file_of([array_as("v2", VALUE, kind=2)], [b"a"]), "damaged"),  # float16: half of them
        (file_of([GOOD[:4] + struct.pack("<i", 1) + GOOD[8:]], [b"a"]), "sparse"),
        (file_of([array_as("v2", np.float32(3))], [b"a"]), "0 dimensions"),
        (file_of([GOOD[:8] + struct.pack("<i", 9) + GOOD[12:]], [b"a"]), "9 dimensions"),
        (file_of([GOOD[:12] + struct.pack("<2q", -2, -2) + GOOD[28:]], [b"a"]), "shape"),
        (file_of([GOOD[:12] + struct.pack("<2q", 1 << 40, 1 << 40) + GOOD[28:]], [b"a"]), "ends"),
        (file_of([GOOD[:12] + struct.pack("<2q", 1 << 62, 0) + GOOD[28:]], [b"a"]), "damaged"),
        (file_of([GOOD], [b"a"], count=1 << 60), "promises 1,152,921,504,606,846,976 entries"),
        (file_of([GOOD], [b"a"], count=200), "promises 200 entries"),
        (struct.pack("<4Q", 0x112, 0, 0, 1 << 60), "promises"),
        (struct.pack("<5Q", 0x112, 0, 0, 1, 1 << 61), "promises"),
    ],
    ids=range(23),
)
def test_damage_is_said_quickly(tmp_path, data, says):
    start = time.perf_counter()
    with pytest.raises(Problem, match=f"x.params is no MXNet .params file, or .*{says}"):
        with little_memory(2e6):
            read(tmp_path, data)
    assert time.perf_counter() - start < 0.5


def test_a_folder_or_nothing_at_all(tmp_path):
    for path in (tmp_path, tmp_path / "none.params"):
        with pytest.raises(Problem, match="is not there: give a .params file"):
            params_file.read(path)


# ---- fuzzing -------------------------------------------------------------------------------

WHOLE = file_of(
    [
        array_as(layout, value)
        for layout, value in zip(("v2", "v1", "legacy", "v3"), arrays().values())
    ],
    [b"arg:a", b"arg:b", b"arg:c", b"aux:d"],
)
# where a file can be damaged so that most of it still looks right
WORDS = st.sampled_from(
    [
        0,
        1,
        2,
        7,
        8,
        9,
        255,
        0x112,
        0x7FFFFFFF,
        0x80000000,
        0xFFFFFFFF,
        0xF993FAC8,
        0xF993FAC9,
        0xF993FACA,
    ]
) | st.integers(0, 2**32 - 1)


def works_or_says(path, action=params_file.read):
    """Run something on a file: it returns, or raises Problem in one line; and prints no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            action(path)
        except Problem as problem:
            assert len(str(problem).splitlines()) == 1 and str(path) in str(problem)


@FUZZ
@given(data=st.binary(max_size=300), begins=st.booleans())
def test_random_bytes(tmp_path, data, begins):
    path = tmp_path / "x.params"
    path.write_bytes((WHOLE[:16] if begins else b"") + data)
    works_or_says(path)


@FUZZ
@given(length=st.integers(0, len(WHOLE) - 1), ends=st.binary(max_size=12))
def test_truncations(tmp_path, length, ends):
    path = tmp_path / "x.params"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(Problem):
        params_file.read(path)
    path.write_bytes(WHOLE[:length] + ends)
    works_or_says(path)


@settings(FUZZ, max_examples=250)
@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) // 4 - 1), WORDS), min_size=1, max_size=3),
    st.integers(0, len(WHOLE) * 8 - 1),
)
def test_flipped_bits_and_words(tmp_path, changes, bit):
    path, data = tmp_path / "x.params", bytearray(WHOLE)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    with little_memory(1e6):
        works_or_says(path)
    for place, word in changes:
        data[4 * place : 4 * place + 4] = struct.pack("<I", word)
    path.write_bytes(data)
    with little_memory(1e6):
        works_or_says(path)


@settings(FUZZ, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["conv1_weight", "bn6_3_moving_var", "conv6_3_bias", "fc1_bias", "x\n"]
            ),
            st.sampled_from(["arg", "aux", "", "gra"]),
            st.lists(st.integers(0, 9), min_size=1, max_size=5),
        ),
        max_size=4,
    )
)
def test_arrays_of_any_name_and_shape(tmp_path, parts):
    """Whole files of anything: load() finds that they fit no net."""
    path = tmp_path / "x.params"
    params_file.write(path, {f"{kind}:{name}": np.zeros(shape) for name, kind, shape in parts})
    works_or_says(path, checkpoints.load)


# ---- manifests -----------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
MANIFEST = st.fixed_dictionaries(
    {},
    optional={
        "net": st.sampled_from(["Pnet16_v0", "pnet16_v0", "Onet_v1", "Lnet106_v2"]) | ANYTHING,
        "options": st.dictionaries(
            st.sampled_from(["base", "points", "landmark", "loss"]),
            st.integers(-2, 40) | st.booleans() | ANYTHING,
            max_size=3,
        )
        | ANYTHING,
        "sha256": st.text(max_size=64) | ANYTHING,
        "scheme": st.sampled_from(["migu", "x"]) | ANYTHING,
        "epoch": ANYTHING,
        "input": ANYTHING,
    },
)


@pytest.fixture(scope="module")
def pnet(tmp_path_factory):
    """Path of a checkpoint that may be damaged."""
    folder = tmp_path_factory.mktemp("pnet")
    return checkpoints.save(folder, trained("Pnet16_v0"), 16, {})


@FUZZ
@given(MANIFEST | ANYTHING)
def test_manifests_of_anything(pnet, value):
    manifest = pnet.with_suffix(".json")
    manifest.write_text(json.dumps(value))
    try:
        loaded = checkpoints.load(pnet)
        assert loaded.net == "Pnet16_v0" and loaded.graph() and loaded.facts()["net"]
    except Problem as problem:
        assert len(str(problem).splitlines()) == 1


@pytest.mark.parametrize(
    "text, says",
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\0", "not valid JSON"),
        (b"[" * 200000, "not valid JSON"),
        (b'{"net": ' * 100000, "not valid JSON"),
        *(
            [
                (b"1" * 5000, "not valid JSON"),
                (b'{"epoch": ' + b"1" * 5000 + b"}", "not valid JSON"),
            ]
            if hasattr(sys, "get_int_max_str_digits")
            else []
        ),  # since Python 3.9.14 or so
        (b"\xff\xfe{\0}\0", "not valid JSON"),
        (b"NaN", "holds float"),
        (b'{"net": "\\ud800"}', r"'\\ud800'"),
    ],
    ids=lambda value: "",
)
def test_manifests_that_are_no_json(pnet, text, says):
    pnet.with_suffix(".json").write_bytes(text)
    with pytest.raises(Problem, match=says) as caught:
        checkpoints.load(pnet)
    str(caught.value).encode()  # it can be printed


@pytest.mark.parametrize(
    "manifest, says",
    [
        ([], "holds list, not an object"),
        ({"net": 3}, "its 'net' can't be used"),
        ({"net": "Pnet16_v0", "options": [1]}, "its 'options' can't"),
        ({"net": "Lnet_v2", "options": {"base": "16"}}, "its 'options.base' can't"),
        ({"net": "Lnet_v2", "options": {"base": True}}, "its 'options.base' can't"),
        ({"net": "Pnet16_v0", "options": {"loss": 1}}, "its 'options.loss' can't"),
        ({"sha256": 1, "scheme": 2}, "its 'sha256', 'scheme' can't"),
        ({"net": "Pnet16_v9"}, "no net is called 'Pnet16_v9'"),
        ({"net": "Pnet16_v0", "options": {"a\nb\ud800": 1}}, r"its 'options.a\\nb\\ud800' can't"),
        ({"net": "Pnet16_v0", "options": {"base": 16}}, "Pnet16_v0 has no option base"),
        ({"net": "Lnet_v2", "options": {"base": -1}}, "base is -1"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_named(pnet, manifest, says):
    pnet.with_suffix(".json").write_text(json.dumps(manifest))
    with pytest.raises(Problem, match=says):
        checkpoints.load(pnet)


# ---- the symbol beside a checkpoint --------------------------------------------------------


def with_symbol(folder, changes, rename=None, old_key="attrs"):
    """A checkpoint with a symbol whose batch norms differ from the zoo's: its path, and what MXNet
    computes for that very symbol. `changes` by name of batch norm, "" for all the others."""
    made = trained("Pnet20_p", seed=8)
    # variances about which the eps matters
    for name, value in made.auxiliary.items():
        if name.endswith("_var"):
            value *= np.float32(1e-3)
    path = checkpoints.save(folder, made, 3, {})
    text = json.loads(made.symbol().tojson())
    for node in text["nodes"]:
        if node["op"] == "BatchNorm":
            for key, value in changes.get(node["name"], changes.get("", {})).items():
                if value is None:
                    del node["attrs"][key]
                else:
                    node["attrs"][key] = value
        if "attrs" in node:
            node[old_key] = node.pop("attrs")
    checkpoints.paths(folder, "Pnet20_p", 3)[0].write_text(json.dumps(text))
    symbol = mx.sym.load(str(folder / "Pnet20_p-symbol.json"))
    executor = symbol.bind(
        mx.cpu(),
        ndarrays({"data": numpy_net.seeded_input(20), **made.arguments}),
        aux_states=ndarrays(made.auxiliary),
        grad_req="null",
    )
    return path, [out.asnumpy() for out in executor.forward(is_train=False)]


@pytest.mark.parametrize("old_key", ["attrs", "attr", "param"])
@pytest.mark.parametrize(
    "changes",
    [
        {"": {"fix_gamma": "True"}},
        {"": {"fix_gamma": None}},
        {"": {"fix_gamma": "true"}},
        {"": {"fix_gamma": "1", "eps": "2e-05"}},
        {"": {"eps": "0.01"}},
        {"": {"eps": None}},
        {"bn1": {"fix_gamma": "True"}, "bn4_2": {"eps": "1e-05"}, "": {"eps": "0.0005"}},
        {"": {"fix_gamma": "0"}},
    ],
)
def test_batch_norms_are_taken_as_the_symbol_has_them(tmp_path, changes, old_key):
    """`attr` and `param` are the names of `attrs` before MXNet 0.12 and 0.9."""
    path, theirs = with_symbol(tmp_path, changes, old_key=old_key)
    ours = numpy_net.run(checkpoints.load(path).graph(), numpy_net.seeded_input(20))
    assert numpy_net.difference(dict(zip(ours, theirs)), ours) < 1e-4
    # and the change is one that shows
    path.with_name("Pnet20_p-symbol.json").unlink()
    plain = numpy_net.run(checkpoints.load(path).graph(), numpy_net.seeded_input(20))
    unchanged = changes in ({"": {"fix_gamma": "0"}}, {"": {"eps": None}})
    assert (numpy_net.difference(plain, ours) < 1e-4) == unchanged


def test_the_zoo_s_own_symbol_changes_nothing(tmp_path):
    made = trained("Rnet_p0")
    loaded = checkpoints.load(checkpoints.save(tmp_path, made, 1, {}))
    assert same(loaded.arguments, made.arguments) and same(loaded.auxiliary, made.auxiliary)


SYMBOL = st.fixed_dictionaries(
    {
        "nodes": st.lists(
            st.fixed_dictionaries(
                {"op": st.just("BatchNorm"), "name": st.sampled_from(["bn4_1", "bn9"]) | ANYTHING},
                optional={
                    key: st.dictionaries(
                        st.sampled_from(["eps", "fix_gamma"]),
                        st.sampled_from(["nan", "inf", "-1", "1e-5", "0", "x"]) | ANYTHING,
                    )
                    | ANYTHING
                    for key in ("attrs", "attr", "param")
                },
            )
            | ANYTHING,
            max_size=3,
        )
        | ANYTHING
    }
)


@FUZZ
@given(SYMBOL | ANYTHING)
def test_symbols_of_anything(tmp_path, value):
    path = tmp_path / "Pnet16_v0-0016.params"
    if not path.exists():
        checkpoints.save(tmp_path, trained("Pnet16_v0"), 16, {})
    (tmp_path / "Pnet16_v0-symbol.json").write_text(json.dumps(value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            loaded = checkpoints.load(path)
            assert all(np.isfinite(part).all() for part in loaded.graph().params.values())
        except Problem as problem:
            assert "Pnet16_v0-symbol.json is no MXNet symbol" in str(problem)


@pytest.mark.parametrize(
    "attrs",
    [
        {"eps": "nan"},
        {"eps": "inf"},
        {"eps": "-0.001"},
        {"eps": "much"},
        {"eps": 10**400},
        {"fix_gamma": True},
        None,
        ["eps"],
        "eps",
    ],
    ids=range(9),
)
def test_symbols_with_batch_norms_that_make_no_sense(tmp_path, attrs):
    path = checkpoints.save(tmp_path, trained("Pnet16_v0"), 16, {})
    node = {"op": "BatchNorm", "name": "bn4_1", "attrs": attrs}
    (tmp_path / "Pnet16_v0-symbol.json").write_text(json.dumps({"nodes": [node]}))
    with pytest.raises(Problem, match="Pnet16_v0-symbol.json is no MXNet symbol"):
        checkpoints.load(path)


def test_symbols_of_the_zoo_are_read_whatever_the_name(tmp_path):
    """NAME-0016.params and NAME-symbol.json, with dashes in the name and long epochs."""
    made = trained("Pnet16_v0")
    for stem, epoch in (("my-net", "0016"), ("a-0001", "12345"), ("plain", None)):
        path = tmp_path / (f"{stem}-{epoch}.params" if epoch else f"{stem}.params")
        params_file.write(
            path,
            {
                **{f"arg:{k}": v for k, v in made.arguments.items()},
                **{f"aux:{k}": v for k, v in made.auxiliary.items()},
            },
        )
        text = (
            symbols.build("Pnet16_v0")
            .tojson()
            .replace('"fix_gamma": "False"', '"fix_gamma": "True"')
        )
        (tmp_path / f"{stem}-symbol.json").write_text(text)
        assert np.all(checkpoints.load(path).arguments["bn4_1_gamma"] == 1)
