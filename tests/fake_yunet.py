"""A model with the outputs of YuNet's that sees white cells of 8x8 pixels, and nothing else."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CELL = 8


def save(path, side=64):
    """Write the model. The score of a cell is its brightness, from 0 to 1; its box is the cell."""
    nodes, constants, outputs = [], [], []

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.array(values), name))
        return name

    def head(name, maps, weights, bias, cells):
        weights = np.broadcast_to(
            np.array(weights, np.float32)[:, None, None, None], (len(bias), 3, 1, 1)
        ).astype(np.float32)
        inputs = [
            maps,
            constant(f"{name}_w", weights),
            constant(f"{name}_b", np.array(bias, np.float32)),
        ]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}_map"], kernel_shape=[1, 1]))
        nodes.append(
            helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1])
        )
        shape = constant(f"{name}_shape", np.array([1, -1, len(bias)], np.int64))
        nodes.append(helper.make_node("Reshape", [f"{name}_last", shape], [name]))
        outputs.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, cells, len(bias)])
        )

    for stride in (8, 16, 32):
        maps, cells, seen = f"mean_{stride}", (side // stride) ** 2, stride == CELL
        nodes.append(
            helper.make_node(
                "AveragePool", ["input"], [maps], kernel_shape=[stride] * 2, strides=[stride] * 2
            )
        )
        head(f"cls_{stride}", maps, [seen / 765], [0], cells)
        head(f"obj_{stride}", maps, [seen / 765], [0], cells)
        head(f"bbox_{stride}", maps, [0] * 4, [0.5, 0.5, 0, 0], cells)  # its centre, log of sides
        head(f"kps_{stride}", maps, [0] * 10, [0] * 10, cells)
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])],
        outputs,
        constants,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path
    )
    return path
