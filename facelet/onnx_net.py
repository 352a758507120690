"""Runs an exported net with onnxruntime."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from facelet.arrays import Floats
from facelet.console import Problem
from facelet.files import AnyPath
from facelet.settings import INPUT

FACTS: dict[str, Any] = {
    "net": str,
    "options": dict,
    "family": str,
    "input": dict,
    "cell": (int, type(None)),
    "stride": (int, type(None)),
    "points": (int, type(None)),
    "scheme": (str, type(None)),
    "outputs": dict,
}
MAY_SAY = {"crop": dict, "held_out": list}
LARGEST = 1000  # side of a net's input, pixels


TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}  # of inputs


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


class AnotherModel(Problem):
    """An ONNX model that is not one of ours."""


class OnnxNet:
    """A net in an ONNX model that core.export wrote.

    model -- path, or the bytes of a model; name -- what to call the latter in errors
    threads -- of onnxruntime; these nets are so small that more than one rarely pays

    It can be pickled, copied to another process, and called by several threads at once. Two are
    equal that run the same model with as many threads.

    Raises Problem for what is no model, AnotherModel for one that is not ours.
    """

    def __init__(
        self, model: Union[AnyPath, bytes], threads: int = 1, name: Optional[AnyPath] = None
    ) -> None:
        if name is None:
            name = "an ONNX model" if isinstance(model, bytes) else model
        self.name, self.threads = str(name), int(threads)
        if not isinstance(model, bytes):
            try:
                model = Path(model).read_bytes()
            except OSError as error:
                raise Problem(f"{self.name}: {error.strerror}") from None
        self._model: bytes = model
        try:
            import onnxruntime  # here, as it takes a while
        except ImportError:
            raise Problem(
                "the package onnxruntime is not installed here: pip install onnxruntime"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 4  # what goes wrong is raised
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], enable_fallback=False
            )
            metadata = self._session.get_modelmeta().custom_metadata_map
            inputs = [(one.name, one.type) for one in self._session.get_inputs()]
            blobs = {out.name for out in self._session.get_outputs()}
        except Exception as error:  # onnxruntime raises several classes, most of them its own
            raise Problem(
                f"{self.name} is no ONNX model that onnxruntime can run, or a damaged "
                f"one ({_reason(error)}): export it anew"
            ) from None
        self.facts: dict[str, Any] = _facts(metadata, blobs, self.name)
        if len(inputs) != 1 or inputs[0][1] not in TYPES:
            raise Problem(
                f"{self.name} takes {', '.join(f'{name} {kind}' for name, kind in inputs)}, and "
                f"not one input of {' or '.join(TYPES)}: export it anew"
            )
        # Other tools rename the input, and bring nets to float16 with their inputs and outputs.
        self._input, kind = inputs[0]
        self._type = TYPES[kind]
        self.tasks: list[str] = list(self.facts["outputs"])

    @property
    def model(self) -> bytes:
        """The model's file."""
        return self._model

    def __reduce__(self) -> tuple[type["OnnxNet"], tuple[bytes, int, str]]:
        return OnnxNet, (self._model, self.threads, self.name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OnnxNet):
            return NotImplemented
        return (self._model, self.threads) == (other._model, other.threads)

    def __hash__(self) -> int:
        return hash((self._model, self.threads))

    def __repr__(self) -> str:
        return f"<OnnxNet {self.facts['net']} of {self.name}>"

    def __call__(self, data: Floats) -> dict[str, Floats]:
        """data (N, 3, H, W) float32 -> outputs by task, float32."""
        try:
            outputs = self._session.run(
                list(self.facts["outputs"].values()),
                {self._input: data.astype(self._type, copy=False)},
            )
        except Exception as error:  # of a model whose layers don't go together, several classes
            raise Problem(
                f"{self.name} can't be run on {data.shape} ({_reason(error)}): export it anew"
            ) from None
        return {task: np.asarray(values, np.float32) for task, values in zip(self.tasks, outputs)}


def _facts(metadata: dict[str, str], blobs: Collection[str], name: str) -> dict[str, Any]:
    """What a model with outputs `blobs` says of its net. Raises Problem where it says nothing, or
    wants its pictures otherwise than they are made here."""
    try:
        kinds = {**FACTS, **{key: kind for key, kind in MAY_SAY.items() if key in metadata}}
        facts = {key: json.loads(metadata[key]) for key in kinds}
    except (KeyError, ValueError, RecursionError):
        raise AnotherModel(
            f"{name} is a model of another kind: it lacks what core.export writes "
            f"into its metadata ({', '.join(FACTS)})"
        ) from None
    wrong = [key for key, kind in kinds.items() if not isinstance(facts[key], kind)]
    if not wrong:
        size, outputs = facts["input"].get("size"), list(facts["outputs"].values())
        wrong = ["input.size"] * (type(size) is not int or not 0 < size <= LARGEST)
        wrong += ["outputs"] * (not outputs or any(blob not in blobs for blob in map(str, outputs)))
    if wrong:
        raise Problem(
            f"{name} is damaged: what its metadata says of {', '.join(wrong)} can't be; "
            "export it anew"
        )
    if any(facts["input"].get(key) != value for key, value in INPUT.items()):
        raise Problem(
            f"{name} wants its input as {facts['input']}, and pictures are made as "
            f"{INPUT}: train or export it anew"
        )
    return facts
