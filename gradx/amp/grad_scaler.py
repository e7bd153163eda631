"""GradScaler: losses scaled up, so that small gradients are not lost in float16, and gradients scaled down again."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from typing import Any

from gradx import creation, dtypes, variables
from gradx.backends import backend_of
from gradx.backends.cuda.status import diagnose
from gradx.deterministic import alert
from gradx.device import device as Device
from gradx.modes import determinism, no_grad
from gradx.tensor import Tensor

_NO_SCALE = "This may indicate your script did not use scaler.scale(loss or outputs) earlier in the iteration."
_NEW_SCALE = (
    "new_scale should be a float or a 1-element gradx.cuda.FloatTensor or gradx.FloatTensor with requires_grad=False."
)


class _Stage(Enum):
    """Where an optimiser is between two updates."""

    READY = "ready"
    UNSCALED = "unscaled"
    STEPPED = "stepped"


class _OfOptimizer:
    """What is known of one optimiser since the last update: its stage and, by device, whether inf or NaN was found."""

    def __init__(self) -> None:
        self.stage = _Stage.READY
        self.found_inf: dict[Device, Tensor] = {}


class GradScaler:
    """Scales losses, and unscales gradients before an optimiser's step, which is left out if one is inf or NaN.

    The scale falls when a step was left out, and rises after many that were not (Micikevicius et al., "Mixed Precision
    Training", 2018). An optimiser is any object with `step()` and `param_groups`, a list of dictionaries with the tensors
    under "params". Nothing waits for the device but `step`, which has to know whether to step, `get_scale` and
    `state_dict`.

    Args:
        device: the type of device, "cuda" or "cpu".
        init_scale: the scale to begin with.
        growth_factor: what it is multiplied by after `growth_interval` steps in a row without inf or NaN.
        backoff_factor: what it is multiplied by at inf or NaN.
        enabled: False makes `step` the optimiser's own, and all else do nothing.

    Raises:
        AssertionError: `growth_factor` is not above 1, or `backoff_factor` not below.

    >>> import gradx
    >>> weight = gradx.tensor([1.0], requires_grad=True)
    >>> class Descent:
    ...     param_groups = [{"params": [weight]}]
    ...     def step(self):
    ...         with gradx.no_grad():
    ...             weight.sub_(0.1 * weight.grad)
    >>> optimizer, scaler = Descent(), GradScaler("cpu")
    >>> scaler.scale((weight * 3).sum()).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> weight, weight.grad
    (tensor([0.7000], requires_grad=True), tensor([3.]))
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._device = device
        self._enabled = enabled
        if enabled and device == "cuda" and not diagnose().usable:
            warnings.warn(
                "gradx.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling. "
                f"{diagnose().cause} {diagnose().fix}",
                stacklevel=2,
            )
            self._enabled = False
        if self._enabled and growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if self._enabled and backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._init_scale = init_scale
        self._init_growth_tracker = 0  # the number of steps in a row without inf or NaN
        self._scale: Tensor | None = None  # both are on the device of the first loss
        self._growth_tracker: Tensor | None = None
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._optimizers: defaultdict[int, _OfOptimizer] = defaultdict(_OfOptimizer)

    # ---- one iteration ---------------------------------------------------------------------------------------

    def scale(self, outputs: Any) -> Any:
        """A tensor times the scale, or each tensor of an iterable.

        Raises:
            ValueError: `outputs` is neither.
        """
        if not self._enabled:
            return outputs
        copies: dict[Device, Tensor] = {}  # of the scale

        def scaled(value: Any) -> Any:
            if isinstance(value, Tensor):
                where = value.device
                if where not in copies:
                    copies[where] = self._made_on(where).to(where)
                return value * copies[where]
            if isinstance(value, Iterable):
                values = map(scaled, value)
                return type(value)(values) if isinstance(value, (list, tuple)) else values
            raise ValueError("outputs must be a Tensor or an iterable of Tensors")

        return scaled(outputs)

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimiser's tensors by the scale, in place, to look at or to clip them before `step`.

        Raises:
            RuntimeError: it has been done since the last `update`, or `step` has.
            ValueError: a gradient is float16.
        """
        if not self._enabled:
            return
        scale, _ = self._made("unscale_")
        known = self._optimizers[id(optimizer)]
        if known.stage is _Stage.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if known.stage is _Stage.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        with no_grad():
            known.found_inf = _unscale(_gradients(optimizer), scale)
        known.stage = _Stage.UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`unscale_`, unless that has been done, and ``optimizer.step(*args, **kwargs)`` if no gradient is inf or NaN.

        This waits for the device. It returns what the optimiser returns, None if there was no step.

        Raises:
            RuntimeError: there was a step since the last `update`, or there is a closure.
            AssertionError: no tensor of the optimiser has a gradient.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._made("step")
        known = self._optimizers[id(optimizer)]
        if known.stage is _Stage.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if known.stage is _Stage.READY:
            self.unscale_(optimizer)
        if not known.found_inf:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        found = any(flag.item() for flag in known.found_inf.values())
        result = None if found else optimizer.step(*args, **kwargs)
        known.stage = _Stage.STEPPED
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Lower the scale if a step was left out, and raise it after `growth_interval` steps; or set it to `new_scale`.

        Raises:
            AssertionError: there was no step, or `new_scale` is no number and no tensor of one.
        """
        if not self._enabled:
            return
        scale, tracker = self._made("update")
        if isinstance(new_scale, float):
            scale.fill_(new_scale)
        elif new_scale is not None:
            if new_scale.device.type != self._device or new_scale.numel() != 1 or new_scale.requires_grad:
                raise AssertionError(_NEW_SCALE)
            scale.copy_(new_scale)
        else:
            self._adjust(scale, tracker)
        self._optimizers.clear()

    def _adjust(self, scale: Tensor, tracker: Tensor) -> None:
        """Lower or raise the scale, on its device, by what the optimisers found."""
        flags = [flag.to(scale.device) for known in self._optimizers.values() for flag in known.found_inf.values()]
        if not flags:
            raise AssertionError("No inf checks were recorded prior to update.")
        found = flags[0]
        for flag in flags[1:]:
            found = found + flag
        adjust = backend_of(scale.array).kernel("update_scale")
        adjust(
            scale.array, tracker.array, found.array, self._growth_factor, self._backoff_factor, self._growth_interval
        )
        for changed in (scale, tracker):
            variables.count_change(changed)

    def _made_on(self, where: Device) -> Tensor:
        """The scale, made on a device if there is none yet."""
        if self._scale is None:
            self._scale = creation.full((), self._init_scale, dtype=dtypes.float32, device=where)
            self._growth_tracker = creation.full((), self._init_growth_tracker, dtype=dtypes.int32, device=where)
        return self._scale

    def _made(self, function: str) -> tuple[Tensor, Tensor]:
        """The scale and the growth tracker.

        Raises:
            AssertionError: nothing has been scaled yet.
        """
        if self._scale is None or self._growth_tracker is None:
            raise AssertionError(f"Attempted {function} but _scale is None.  {_NO_SCALE}")
        return self._scale, self._growth_tracker

    # ---- settings --------------------------------------------------------------------------------------------

    def is_enabled(self) -> bool:
        """Whether anything is scaled."""
        return self._enabled

    def get_scale(self) -> float:
        """The scale; 1.0 if not enabled. On CUDA this waits for the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def get_growth_factor(self) -> float:
        """What the scale is multiplied by after many steps."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the scale is multiplied by after many steps."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied by at inf or NaN."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the scale is multiplied by at inf or NaN."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many steps in a row without inf or NaN the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set after how many steps in a row without inf or NaN the scale grows."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else self._growth_tracker.item()

    # ---- saving ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Torch's five entries: scale, growth_factor, backoff_factor, growth_interval, _growth_tracker; none if not enabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._get_growth_tracker(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            RuntimeError: it is empty, as that of a scaler that was not enabled.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler."
            )
        self._init_scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        if self._scale is not None and self._growth_tracker is not None:
            self._scale.fill_(self._init_scale)
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self) -> dict[str, Any]:
        if self._enabled and self._optimizers:
            raise AssertionError(
                "A GradScaler instance may only be pickled at the beginning of an iteration, or at the end after "
                "scaler.update()."
            )
        now = {"_init_scale": self.get_scale(), "_init_growth_tracker": self._get_growth_tracker()}
        return self.__dict__ | (now if self._enabled else {}) | {"_scale": None, "_growth_tracker": None}


def _gradients(optimizer: Any) -> list[Tensor]:
    """The gradients of an optimiser's tensors."""
    found = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not isinstance(parameter, Tensor):
                raise AssertionError(f"expected param to be gradx.Tensor, got {type(parameter).__name__}")
            if parameter.grad is None:
                continue
            if parameter.grad.dtype is dtypes.float16:
                raise ValueError("Attempting to unscale FP16 gradients.")
            found.append(parameter.grad)
    return found


def _unscale(gradients: list[Tensor], scale: Tensor) -> dict[Device, Tensor]:
    """Divide gradients by the scale, in place. For each of their devices, 1 if one was inf or NaN, else 0."""
    if determinism.enabled:
        alert("_amp_foreach_non_finite_check_and_unscale_")
    by_device: defaultdict[Device, list[Tensor]] = defaultdict(list)
    for gradient in gradients:
        by_device[gradient.device].append(gradient)
    flags = {}
    for where, there in by_device.items():
        flag = flags[where] = creation.full((), 0.0, dtype=dtypes.float32, device=where)
        unscale = backend_of(flag.array).kernel("unscale")
        unscale(flag.array, scale.to(where).array, *[gradient.array for gradient in there])
        for gradient in there:
            variables.count_change(gradient)
    return flags
