"""Streams and events: work in order on each stream, and in no order between streams, unless an event makes one.

Everything runs on CuPy's current stream, of this thread and of each device. `stream` sets it, and so does a
`cupy.cuda.Stream` in a `with` statement. A backward pass runs each operation's gradient rule on the stream on which the
operation was recorded; where a gradient goes from one stream to another, the second waits for the first; and the stream
that called for the backward pass waits for all.
"""

from __future__ import annotations

from typing import Any

from gradx.cuda.devices import DeviceLike, backend, current_device, indexed
from gradx.device import device as Device


class Stream:
    """A stream of a device: what it is given runs in order, at the same time as other streams' work.

    It comes from a pool of 32 for each device and priority, and does not wait for the default stream.

    Args:
        device: the current one for None.
        priority: lower numbers go first; CUDA takes 0 and a few negative ones, and the nearest of these for others.

    Attributes:
        cupy: the `cupy.cuda.Stream`.
        device: where it runs.

    Raises:
        RuntimeError: CUDA is not usable, or there is no such device.
    """

    def __init__(self, device: DeviceLike | None = None, priority: int = 0) -> None:
        where = indexed(None if isinstance(device, int) and device < 0 else device)
        self._set(backend().new_stream(where, priority), where)

    def _set(self, cupy: Any, where: Device) -> None:
        self.cupy = cupy
        self.device = where
        self._contexts: list[stream] = []

    @property
    def cuda_stream(self) -> int:
        """CUDA's handle, a ``cudaStream_t``."""
        return int(self.cupy.ptr)

    @property
    def priority(self) -> int:
        """Lower numbers go first."""
        return int(self.cupy.priority)

    def wait_event(self, event: Event) -> None:
        """Let what this stream is given from now on wait until `event` has happened."""
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        """Let what this stream is given from now on wait until `stream` has done what it was given so far."""
        self.wait_event(stream.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        """An event (a new one for None) that happens when this stream has done what it was given so far."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def query(self) -> bool:
        """Whether all that this stream was given is done."""
        return bool(self.cupy.done)

    def synchronize(self) -> None:
        """Wait until all that this stream was given is done."""
        self.cupy.synchronize()

    def __enter__(self) -> Stream:
        self._contexts.append(stream(self))
        self._contexts[-1].__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._contexts.pop().__exit__(*exception)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self.cuda_stream, self.device) == (other.cuda_stream, other.device)

    def __hash__(self) -> int:
        return hash((self.cuda_stream, self.device))

    def __cuda_stream__(self) -> tuple[int, int]:
        """CUDA's stream protocol: its version, and the handle."""
        return 0, self.cuda_stream

    def __repr__(self) -> str:
        return f"<gradx.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class ExternalStream(Stream):
    """A stream that somebody else has made and keeps.

    Args:
        stream_ptr: CUDA's handle, a ``cudaStream_t``.
        device: the one it belongs to; the current one for None.
    """

    def __init__(self, stream_ptr: int, device: DeviceLike | None = None) -> None:
        where = indexed(device)
        self._set(backend().external_stream(stream_ptr), where)


def _stream(cupy: Any, where: Device) -> Stream:
    """CuPy's stream as ours."""
    made = object.__new__(Stream)
    made._set(cupy, where)
    return made


def current_stream(device: DeviceLike | None = None) -> Stream:
    """The stream that a device's work (the current device's for None) is given to in this thread."""
    where = indexed(device)
    return _stream(backend().current_stream(where), where)


def default_stream(device: DeviceLike | None = None) -> Stream:
    """The stream of all work that is given to no other."""
    where = indexed(device)
    return _stream(backend().default_stream(), where)


def set_stream(stream: Stream | None) -> None:
    """Give work to `stream` from now on, in this thread, and make its device the current one. None changes nothing."""
    if stream is not None:
        backend().set_stream(stream.cupy, stream.device)


class stream:
    """Within it, work is given to a stream, and its device is the current one. None changes nothing.

    The work does not wait for what the stream before was given: ``s.wait_stream(gradx.cuda.current_stream())`` first, and
    after the block ``gradx.cuda.current_stream().wait_stream(s)``.
    """

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._before: list[tuple[int, Stream]] = []

    def __enter__(self) -> None:
        if self.stream is not None:
            self._before.append((current_device(), current_stream(self.stream.device)))
            set_stream(self.stream)

    def __exit__(self, *exception: object) -> None:
        if self.stream is not None:
            device, before = self._before.pop()
            set_stream(before)
            backend().set_device(indexed(device))


class Event:
    """A mark in a stream, which happens when the stream gets there.

    Args:
        enable_timing: note the time as well, for `elapsed_time`.
        blocking: `synchronize` leaves the processor to others while it waits.
        interprocess: the event may be shared between processes; not together with `enable_timing`.

    Attributes:
        cupy: the `cupy.cuda.Event`, None until the event is recorded.

    Raises:
        RuntimeError: CUDA is not usable.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        backend()
        self._timing, self._blocking, self._interprocess = enable_timing, blocking, interprocess
        self.device: Device | None = None
        self.cupy: Any = None

    @property
    def cuda_event(self) -> int:
        """CUDA's handle, a ``cudaEvent_t``; 0 until the event is recorded."""
        return 0 if self.cupy is None else int(self.cupy.ptr)

    def record(self, stream: Stream | None = None) -> None:
        """Let the event happen when `stream` (the current one for None) has done what it was given so far.

        Raises:
            RuntimeError: it was recorded on another device before.
        """
        stream = current_stream() if stream is None else stream
        if self.device is None:
            self.cupy = backend().new_event(stream.device, self._timing, self._blocking, self._interprocess)
            self.device = stream.device
        elif self.device != stream.device:
            raise RuntimeError(
                f"Event device {self.device.index} does not match recording stream's device {stream.device.index}. "
                "An event belongs to the device of the stream that recorded it first: make one for each device."
            )
        with backend().on(stream.device):
            self.cupy.record(stream.cupy)

    def wait(self, stream: Stream | None = None) -> None:
        """Let what `stream` (the current one for None) is given from now on wait for the event."""
        stream = current_stream() if stream is None else stream
        if self.cupy is not None:
            with backend().on(stream.device):
                stream.cupy.wait_event(self.cupy)

    def query(self) -> bool:
        """Whether the event has happened; True if it was never recorded."""
        return self.cupy is None or bool(self.cupy.done)

    def synchronize(self) -> None:
        """Wait for the event."""
        if self.cupy is not None:
            self.cupy.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to `end_event`.

        Raises:
            ValueError: one of them does not note the time, or was not recorded.
            RuntimeError: one of them has not happened yet.
        """
        both = (self, end_event)
        if not all(event._timing for event in both):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if any(event.cupy is None for event in both):
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not all(event.query() for event in both):
            raise RuntimeError(
                "Both events must be completed before calculating elapsed time. Call synchronize() on the later one first."
            )
        return backend().elapsed(self.cupy, end_event.cupy)

    def __repr__(self) -> str:
        return (
            f"<gradx.cuda.Event {self.cuda_event:#x}>" if self.cupy is not None else "<gradx.cuda.Event uninitialized>"
        )
