"""The one place that imports MXNet: `from symbols.mxnet_import import mx`.

MXNet 1.9.1 is the last release and looks for names that NumPy has since dropped:

* it reads `numpy.bool`, an alias of Python's bool that NumPy 1.24 removed. Putting the alias
  back before the import is enough for NumPy 1.24 to 1.26; it stays in place, because
  mx.np uses it at run time too;
* NumPy 2 removed more than can be put back, and Python 3.13 has no NumPy below 2;
* it imports `distutils`, which Python 3.12 dropped and setuptools supplies.

MXNet's metadata says none of this, so whoever brings their own environment gets here one clear
line in place of an AttributeError from deep inside.
"""

import contextlib
import ctypes
import importlib.util
import os
import re
import sys
from pathlib import Path

import numpy as np

from facelet.console import Problem

PLACE = re.compile(r"\[[\d:]+\] \S+:\d+: ")  # [10:20:30] ../src/operator/x.cc:12:
SETUP = "run scripts/setup.sh, or in your own environment: "


class MXNetUnavailable(Problem, ImportError):
    """MXNet 1.9.1 can't be imported here; the text says why and what to do."""


def check_environment(python=sys.version_info[:2], numpy_version=np.__version__):
    """Raise MXNetUnavailable where MXNet 1.9.1 is known not to import."""
    numpy_major = int(numpy_version.split(".")[0])
    if python >= (3, 13):
        raise MXNetUnavailable(
            f"MXNet 1.9.1 works up to Python 3.12, this is {python[0]}.{python[1]}: use Python "
            "3.9 to 3.12; scripts/setup.sh picks one"
        )
    if numpy_major >= 2:
        raise MXNetUnavailable(
            f"MXNet 1.9.1 does not work with NumPy {numpy_version}: {SETUP}"
            "pip install 'numpy>=1.23,<2'"
        )
    if importlib.util.find_spec("mxnet") is None:
        raise MXNetUnavailable(f"MXNet is not installed here: {SETUP}pip install mxnet==1.9.1")
    if python >= (3, 12) and importlib.util.find_spec("distutils") is None:
        raise MXNetUnavailable(
            f"MXNet 1.9.1 needs distutils, which Python 3.12 dropped: {SETUP}pip install setuptools"
        )


def _load_cuda_wheels():
    """Load the CUDA libraries of the nvidia-*-cu11 wheels, where they are installed (setup.sh
    --gpu): mxnet-cu112 looks for them by bare name and wheels are on no search path. Untried:
    no machine with an NVIDIA driver was at hand."""
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations) if spec else []
    waiting = [lib for folder in folders for lib in sorted(Path(folder).glob("*/lib/*.so*"))]
    while waiting:  # they need one another, in an order that differs between releases
        failed = []
        for lib in waiting:
            try:
                ctypes.CDLL(str(lib), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                failed.append(lib)
        if len(failed) == len(waiting):
            break  # no headway: MXNet's own import error will name what is missing
        waiting = failed


def _physical_cores():
    """Cores this process may use, hyper-threads of one core counted once. MXNet by itself takes
    half the processors, whether or not they are hyper-threads."""
    processors = os.sched_getaffinity(0)
    try:
        siblings = {
            Path(f"/sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list").read_text()
            for i in processors
        }
    except OSError:
        return len(processors)
    return len(siblings)


def _import():
    check_environment()
    if "bool" not in vars(np):  # hasattr would warn on NumPy 1.24 to 1.26
        np.bool = bool  # type: ignore[attr-defined]
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # else a log line for every bind
    os.environ.setdefault("OMP_NUM_THREADS", str(_physical_cores()))
    if "OMP_WAIT_POLICY" not in os.environ:
        # The layers are short, and a thread that sleeps between two of them is late for the next.
        # "active" lets threads spin a little longer also when there are more of them than cores;
        # alone it would let them spin for minutes otherwise, which the count keeps to some ms.
        os.environ.update(OMP_WAIT_POLICY="active", GOMP_SPINCOUNT="300000")
    _load_cuda_wheels()
    try:
        import mxnet
    except (ImportError, OSError, AttributeError) as error:
        raise MXNetUnavailable(
            f"MXNet is installed but does not import ({error}): {SETUP}"
            "pip install mxnet==1.9.1 'numpy>=1.23,<2' setuptools"
        ) from error
    return mxnet


mx = _import()


@contextlib.contextmanager
def one_line(where):
    """What MXNet can't do in this block is a Problem of one line; MXNet's own come with the stack
    of its C++. `where` -- net and batch, say, that it happened to."""
    try:
        yield
    except mx.base.MXNetError as error:
        raise Problem(f"{where}: MXNet failed: {reason(error)}") from None


def reason(error):
    """What an MXNetError says, without the place in MXNet's sources and the stack."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
    return PLACE.sub("", text.replace("MXNetError: ", ""))[:200]


def ndarrays(arrays):
    """NumPy arrays by name as NDArrays by name."""
    return {name: mx.nd.array(array, dtype="float32") for name, array in arrays.items()}


def threads():
    """How many threads share MXNet's work on the CPU; with another number, sums come out otherwise
    in their last bits."""
    return int(mx.base._LIB.omp_get_max_threads())


def devices(gpus):
    """MXNet contexts of CUDA device numbers; the CPU when there are none. Raises Problem for one
    that MXNet doesn't see."""
    try:
        seen = mx.context.num_gpus() if gpus else 0
    except mx.base.MXNetError:  # the CPU wheel, or no driver
        seen = 0
    if any(not 0 <= gpu < seen for gpu in gpus):
        raise Problem(
            f"train.gpus is {gpus}, and MXNet sees {seen} GPUs: it takes an NVIDIA "
            "driver and scripts/setup.sh --gpu"
        )
    return [mx.gpu(gpu) for gpu in gpus] or [mx.cpu()]
