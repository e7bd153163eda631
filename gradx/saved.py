"""What a node keeps for its backward pass, and how it becomes a tensor again.

Raw arrays are kept, never the tensors: a node that held its own output would keep itself alive. With each array goes
where its gradient goes (so that the saved tensor gets its history back) and its version (so that a change is noticed).
"""

from __future__ import annotations

from typing import Any, NoReturn

from gradx import dtypes, tape
from gradx.tape import Edge, Node, Variable


def restore(array: Any, edge: Edge | None) -> Variable:
    """A saved array as the tensor it was: the leaf itself, or a tensor with the same history."""
    if edge is not None and isinstance(edge[0], tape.AccumulateGrad):
        return edge[0].variable
    tensor = tape.tensor_type(array)
    if edge is not None:
        tape.attach(tensor, *edge)
    return tensor


def raise_changed(node: Node, array: Any, edge: Edge | None, version: int, expected: int) -> NoReturn:
    """Torch's error for a tensor that `node` saved and that was changed in place since."""
    origin = f", which is output {edge[1]} of {edge[0].name()}," if edge else ""
    raise RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{dtypes.of_numpy(array.dtype)} {list(array.shape)}]{origin} is at version {version}; expected version "
        f"{expected} instead. {node.name()} saved it when it was recorded: clone() it before changing it in place, "
        "or use the out-of-place operation."
    )
