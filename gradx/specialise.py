"""Straight-line code for what programs do all the time: Python's own price for a loop, a branch, a list is what an
operation on a few elements costs.

The general path, `Op.__call__` and `OpNode.backward`, takes any operands in any mode; this room writes out what it does
in the common case, where nothing is left to decide. Per operation and types of its operands there is a function that runs
the kernel on tensors of one dtype (`variant`); per set of inputs that need gradients one that records the node
(`recorder`) and one that runs the rules (`runner`). Each is written, compiled and kept at its first use, and hands over to
the general path whatever it is not made for. Of `mul`, for two tensors that need gradients:

    def call(x0, x1):
        if mode.usual:
            if x0._view is not None: refresh(x0)
            if x1._view is not None: refresh(x1)
            a0 = x0.array
            a1 = x1.array
            if a1.dtype is a0.dtype and type(a1) is type(a0) and a0.size < LARGE:
                out = kernels[type(a0)](a0, a1)
                result = variables.tensor_type(out, False, [0])
                if (x0.needs_grad or x1.needs_grad) and mode.grad:
                    recorders[type(a0), x0.needs_grad, x1.needs_grad](result, x0, x1)
                return result
        return general(x0, x1)

    def record(result, x0, x1):
        out = result.array
        dtype = out.dtype
        if dtype.kind not in "fV": return general(result, x0, x1)
        v0 = x1.version or refuse()
        v1 = x0.version or refuse()
        edges = ((x0.node, x0.output_nr) if x0.node is not None else (accumulator(x0), 0), ...)
        saved, versions = [x1.array, x0.array], ((0, v0, v0[0]), (1, v1, v1[0]))
        attach(result, Node(plan, edges, ((out.shape, dtype, type(out)),), saved, versions, run))

    def run(node, grads, keep):
        saved = node.saved
        if saved is None: raise RuntimeError(FREED)
        (_, v0, n0), (_, v1, n1) = node.versions
        if v0[0] != n0 or v1[0] != n1: saved = node.values(False)
        s0, s1 = saved
        results = rule0(grads[0], s0), rule1(grads[0], s1)
        if not keep: node.saved, node.versions = None, ()
        return results
"""

from __future__ import annotations

import functools
import linecache
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from gradx import tape, variables
from gradx.backends import BY_TYPE, LARGE
from gradx.dtypes import INEXACT, REAL
from gradx.modes import INFERENCE, mode
from gradx.out import into
from gradx.variables import Variable

if TYPE_CHECKING:
    from gradx.node import Plan
    from gradx.op import Op

Code = Callable[..., Any]

# Categories of numbers, for a quick look whether anything must be promoted.
RANK = {type(None): -1, bool: 0, int: 1, float: 2, complex: 3}
LEAST = {None: 0, "common": 0, "float": 2}
KINDS = {1: "ui" + INEXACT, 2: INEXACT, 3: "c"}  # of the dtypes that a number of a rank does not widen


@functools.cache
def _compiled(source: str) -> CodeType:
    """Many operations have the same text. It is kept where tracebacks and debuggers look for it."""
    file = f"<gradx.specialise {_compiled.cache_info().currsize}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    return compile(source, file, "exec")


def _function(name: str, head: str, lines: Sequence[str], **names: Any) -> Code:
    """The function `name(head)` of these lines, in which the `names` mean what is given."""
    exec(_compiled("\n    ".join([f"def {name}({head}):", *lines])), names)
    return names[name]  # type: ignore[no-any-return]


def public(op: Op) -> Code:
    """The function that users call: by the types of the operands it finds what is made for them.

    Importing gradx makes one for each operation, so that text is not compiled for each: operations with as many operands
    and parameters share it, and differ in the names of the arguments.
    """
    code = _public(len(op.parameters), op.slots, op.variadic)
    arguments = (*op.parameters[: code.co_argcount], "out", *op.parameters[code.co_argcount :])  # `*tensors` come last
    names = {"find": op.variants.get, "meet": op.meet, "general": op, "into": into, "partial": functools.partial}
    function = FunctionType(
        code.replace(co_name=op.name, co_qualname=op.name, co_varnames=arguments), {**names, "name": op.name}
    )
    defaults = [p.default for p in op.signature.parameters.values() if p.default is not p.empty]
    function.__defaults__, function.__kwdefaults__ = tuple(defaults), {"out": None}
    return function


@functools.cache
def _public(count: int, slots: tuple[int, ...], variadic: bool) -> CodeType:
    """The code of the functions with `count` arguments, of which `slots` are operands."""
    given = ", ".join(f"{'*' if variadic and i == count - 1 else ''}x{i}" for i in range(count))
    types = ", ".join(f"type(x{i})" for i in slots)
    call = "general" if variadic else f"(find({types if len(slots) == 1 else f'({types})'}) or meet)"
    operands = f"x{slots[0]}" if variadic else f"({', '.join(f'x{i}' for i in slots)},)"
    lines = [
        "if out is None:",
        f"    return {call}({given})",
        f"return into(out, name, {operands}, partial(general, {given}))",
    ]
    return _function("call", given + (", out=None" if variadic else ", *, out=None"), lines).__code__


def variant(op: Op, types: tuple[type, ...]) -> Code | None:
    """The code for operands of these types; None if it is the general path's business."""
    numbers = [i for i, t in zip(op.slots, types, strict=True) if t in RANK]
    tensors = [i for i, t in zip(op.slots, types, strict=True) if issubclass(t, Variable)]
    arrays = [i for i in op.slots if i not in numbers and i not in tensors]
    rank = max([RANK[types[i - op.slots[0]]] for i in numbers], default=-1)
    first = next((i for i in op.slots if i not in numbers and i not in op.masks), None)
    if first is None or (rank == 0 and op.no_bools) or _misses(op, types):
        return None
    if not tensors:
        return op.kernels[types[first - op.slots[0]]] if all(BY_TYPE[types[i - op.slots[0]]] for i in arrays) else None
    return None if arrays else _on_tensors(op, tuple(tensors), first, rank)


def _misses(op: Op, types: tuple[type, ...]) -> bool:
    """Whether there is None in the place of an operand that must not be left out."""
    declared = [str(parameter.annotation) for parameter in op.signature.parameters.values()]
    return any(t is type(None) and "None" not in declared[i] for i, t in zip(op.slots, types, strict=True))


def _on_tensors(op: Op, tensors: tuple[int, ...], first: int, rank: int) -> Code:
    """The code for tensors in the places `tensors`, among them `first` that is no mask, and numbers up to a rank."""
    given = ", ".join(f"x{i}" for i in range(len(op.parameters)))
    arguments = ", ".join(f"{'a' if i in tensors else 'x'}{i}" for i in range(len(op.parameters)))
    wanted = [f"x{i}.needs_grad" for i in tensors if i in op.rules]
    alike = [f"type(a{i}) is type(a{first})" for i in tensors if i != first]
    alike += [f"a{i}.dtype is a{first}.dtype" for i in tensors if i != first and i not in op.masks]
    lowest = max(rank, LEAST[op.promote]) if op.promote else 0
    if lowest > 0:
        alike.append(f"a{first}.dtype.kind in {KINDS[lowest]!r}")
    lines = ["if mode.usual:"]
    lines += [f"    if x{i}._view is not None: refresh(x{i})" for i in tensors]
    lines += [f"    a{i} = x{i}.array" for i in tensors]
    lines += [
        f"    if {' and '.join([*alike, f'a{first}.size < LARGE'])}:",
        f"        out = kernels[type(a{first})]({arguments})",
    ]
    if op.several:
        lines.append("        result = tuple([variables.tensor_type(one, False, [0]) for one in out])")
    else:
        lines.append("        result = variables.tensor_type(out, False, [0])")
    if wanted:
        lines += [
            f"        if ({' or '.join(wanted)}) and mode.grad:",
            f"            recorders[type(a{first}), {', '.join(wanted)}](result, {given})",
        ]
    if op.view and op.several:
        lines.append(f"        for i, one in enumerate(result): mark_view(({given},), one, i)")
    elif op.view:
        lines.append(f"        mark_view(({given},), result, None)")
    lines += ["        return result", f"return general({given})"]
    names = {
        "mode": mode,
        "refresh": variables.refresh,
        "variables": variables,
        "kernels": op.kernels,
        "LARGE": LARGE,
        "recorders": _Recorders(op, tensors, rank),
        "mark_view": op.mark_view,
        "general": op,
    }
    return _function("call", given, lines, **names)


class _Recorders(dict[tuple[Any, ...], Code]):
    """How to record a call, by array type and by which of its tensors need a gradient, of those that have a rule."""

    def __init__(self, op: Op, tensors: tuple[int, ...], rank: int) -> None:
        super().__init__()
        self.op = op
        self.tensors = tensors
        self.rank = rank

    def __missing__(self, key: tuple[Any, ...]) -> Code:
        array_type, *flags = key
        ruled = [i for i in self.tensors if i in self.op.rules]
        wanted = tuple(i for i, flag in zip(ruled, flags, strict=True) if flag)
        return self.setdefault(key, recorder(self.op, array_type, self.tensors, wanted, self.rank))


def recorder(op: Op, array_type: type, tensors: tuple[int, ...], wanted: tuple[int, ...], rank: int) -> Code:
    """The code that records a call with tensors in the places `tensors`, of which `wanted` need gradients, and numbers up
    to a rank."""
    plan = op.plan(array_type, wanted)
    given = ", ".join(f"x{i}" for i in range(len(op.parameters)))
    lines = [f"out = result{'[0]' if op.several else ''}.array", "dtype = out.dtype"]
    lines.append(f"if dtype.kind not in {REAL!r}: return general(result, {given})")
    saved, versions = [], []
    for place, (kind, index) in enumerate(plan.fetch):
        if kind == "shape":
            saved.append(f"x{index}.array.shape" if index in tensors else "()")
        elif kind == "output" or index in tensors:
            source = f"x{index}" if kind != "output" else f"result[{index}]" if op.several else "result"
            saved.append(f"{source}.array")
            versions.append(place)
            lines.append(f"v{place} = {source}.version or refuse()")
        else:
            saved.append(f"x{index}")
    edges = [f"{_EDGE.format(x=f'x{i}') if i in wanted else None}," for i in op.slots]
    lines += [
        f"edges = ({' '.join(edges)})",
        f"saved, versions = [{', '.join(saved)}], ({' '.join(f'({p}, v{p}, v{p}[0]),' for p in versions)})",
    ]
    if op.several:
        lines += [
            "outputs = tuple([(one.array.shape, one.array.dtype, type(one.array)) for one in result])",
            "node = Node(plan, edges, outputs, saved, versions, run)",
            "for i, one in enumerate(result):",
            f"    if one.array.dtype.kind in {REAL!r}: attach(one, node, i)",
        ]
    else:
        lines.append("attach(result, Node(plan, edges, ((out.shape, dtype, type(out)),), saved, versions, run))")

    def general(result: Any, *args: Any) -> None:
        arrays = [value.array if isinstance(value, Variable) else value for value in args]
        op.record(args, arrays, wanted, result if op.several else (result,), rank)

    names = {
        "plan": plan,
        "Node": op.node_types[rank < 0],
        "run": runner(plan, tuple(versions), len(op.slots)),
        "attach": tape.attach,
        "accumulator": tape.accumulator,
        "refuse": _refuse,
        "general": general,
    }
    return _function("record", f"result, {given}", lines, **names)


_EDGE = "({x}.node, {x}.output_nr) if {x}.node is not None else (accumulator({x}), 0)"


def _refuse() -> NoReturn:
    raise RuntimeError(INFERENCE)


def runner(plan: Plan, versions: tuple[int, ...], inputs: int) -> Code:
    """The code that runs the rules of a plan on raw arrays, for a node that saved arrays in the places `versions`."""
    lines = []
    if plan.fetch:
        lines.append("saved = node.saved")
    if versions:
        lines += [
            "if saved is None: raise RuntimeError(FREED)",
            f"{' '.join(f'(_, v{p}, n{p}),' for p in versions)} = node.versions",
            f"if {' or '.join(f'v{p}[0] != n{p}' for p in versions)}: saved = node.values(False)",
        ]
    if plan.fetch:
        lines.append(f"{' '.join(f's{p},' for p in range(len(plan.fetch)))} = saved")
    results = ["None,"] * inputs
    for call in plan.calls:
        picked = ", ".join(["grads" if call.every else "grads[0]", *(f"s{p}" for p in call.picks)])
        results[call.place] = f"rule{call.place}({picked}),"
    lines.append(f"results = {' '.join(results)}")
    if versions:  # as in `SavingNode.release`
        lines.append("if not keep: node.saved, node.versions = None, ()")
    lines.append("return results")
    rules = {f"rule{call.place}": call.kernel for call in plan.calls}
    return _function("run", "node, grads, keep", lines, FREED=tape.FREED, **rules)
