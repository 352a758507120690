"""Runs a checkpoint with MXNet, on inputs of any size that the net can take.

On processors with AVX-512 the oneDNN of MXNet 1.9.1 lays the outputs of fully connected layers out
so that a batch norm over them fails from the second run of a test graph on ("We can't generate
TBlob for MKLDNN data"). Kept to AVX2 it does not; training graphs are not concerned.
"""

import os
import threading
from collections import OrderedDict

os.environ.setdefault("DNNL_MAX_CPU_ISA", "AVX2")  # before MXNet runs its first layer

from symbols.mxnet_import import mx, ndarrays

KEPT = 32  # input shapes kept ready
# Of all nets: a bound net keeps its input and outputs in itself, and MXNet itself is not made to be
# called by several threads.
_RUNNING = threading.Lock()


class MxNet:
    """A net of the zoo with its parameters, in test mode; called as facelet.onnx_net.OnnxNet, also
    by several threads, of which one runs at a time.

    checkpoint -- core.formats.checkpoint.Checkpoint; it runs on the CPU
    kept -- input shapes that the net stays bound to, the last ones
    """

    def __init__(self, checkpoint, name=None, kept=KEPT):
        self.name = str(name or checkpoint.net)
        self.facts = checkpoint.facts()
        self.tasks = [head.task for head in checkpoint.spec.heads]
        self.symbol = checkpoint.symbol()
        self.arguments = ndarrays(checkpoint.arguments)
        self.auxiliary = ndarrays(checkpoint.auxiliary)
        self._bound, self.kept = OrderedDict(), kept

    def __call__(self, data):
        """data (N, 3, H, W) float32 -> outputs by task, float32."""
        with _RUNNING:
            return self._run(data)

    def _run(self, data):
        if data.shape not in self._bound:
            if len(self._bound) >= self.kept:
                self._bound.popitem(last=False)
            inputs = {"data": mx.nd.zeros(data.shape), **self.arguments}
            self._bound[data.shape] = self.symbol.bind(
                mx.cpu(), inputs, grad_req="null", aux_states=self.auxiliary
            )
        self._bound.move_to_end(data.shape)
        # Copied out at once: MXNet may refuse to slice an output that oneDNN has laid out.
        outputs = [
            out.asnumpy() for out in self._bound[data.shape].forward(is_train=False, data=data)
        ]
        return dict(zip(self.tasks, outputs))
