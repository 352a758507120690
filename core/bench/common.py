"""What the benchmarks share: the machine's facts, what is aimed at."""

import platform
from importlib import metadata
from pathlib import Path

from core.base.parallel import cores

# How many times the baseline's speed is aimed at.
TRAIN_TARGETS = {"Pnet20_v1": 4, "Rnet_v1": 5, "Onet_v1": 5, "Lnet106_v2": 5}
LOAD_TARGETS = {20: 6, 48: 3}
WAITING_TARGET = 0.1
LANDMARK_SIZES = (48, 64, 96, 112)  # px
FED_NETS = {20: "Pnet20_v1", 24: "Rnet_v1", 48: "Onet_v1"}  # by size of the crops, px


def machine(packages):
    """What the figures were measured on: the machine, and the versions of the packages that are
    installed."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    facts = {
        "cpu": models[0] if models else platform.machine(),
        "cores": cores(),
        "python": platform.python_version(),
    }
    for package in packages:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return facts


def title(facts):
    """The machine as a line."""
    return f"{facts['cpu']}, {facts['cores']} cores; " + ", ".join(
        f"{name} {facts[name]}" for name in list(facts)[2:]
    )
