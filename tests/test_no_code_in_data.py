"""No program runs what a file of data says: the sources use nothing that could."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
BUILTINS = {"eval", "exec"}
CALLS = {"os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "subprocess.getoutput"}
# What MXNet and others read by pickle behind another name.
METHODS = {"load_optimizer_states", "save_optimizer_states", "set_states", "get_states"}
KEYWORDS = {"allow_pickle", "shell"}
# Tests that objects survive the pickling that multiprocessing does, and of states as pickles.
PICKLING = {
    "test_faces.py",
    "test_detector.py",
    "test_heatmaps.py",
    "test_trainer.py",
    "test_detect.py",
}


def found_in(source, allowed=()):
    """Names of what a program uses that runs what data says."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS | BUILTINS or name.rpartition(".")[2] in METHODS:
                found.add(name)
            found |= {
                word.arg
                for word in node.keywords
                if word.arg in KEYWORDS
                and not (isinstance(word.value, ast.Constant) and word.value.value is False)
            }
    return found - {*allowed}


def test_nothing_runs_what_data_says():
    sources = [p for p in ROOT.rglob("*.py") if not {".venv", "build", "site"} & {*p.parts}]
    assert len(sources) > 150
    found = {
        str(path.relative_to(ROOT)): uses
        for path in sources
        if (uses := found_in(path.read_text(), ("pickle",) if path.name in PICKLING else ()))
    }
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=maybe)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "yaml.load(text)",
        "import marshal, shelve",
        "module.load_optimizer_states(path)",
    ],
)
def test_the_search_finds(source):
    assert found_in(source)


def test_the_search_lets_pass():
    assert not found_in("ast.literal_eval(t); net.eval(); np.load(p, allow_pickle=False)")
