"""Train a small classifier of handwritten digits, then compare backward passes on CPU and GPU."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import gradx
import gradx.nn.functional as F
from gradx import Tensor
from gradx.cli import bench
from gradx.cli.kernels import KERNELS
from gradx.cli.report import show
from gradx.cli.timing import QUICK
from gradx.placement import resolve

HIDDEN, BATCH, LEARNING_RATE, MOMENTUM = 128, 32, 0.1, 0.9
REQUIRED_ACCURACY = 0.95


@dataclass(frozen=True)
class Digits:
    """scikit-learn's digits: 8x8 pixels in [0, 1] as rows of 64 (float32), and classes 0 to 9 (int64)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass
class History:
    """What happened in training: the loss of each mini-batch, the test accuracy after each epoch."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


def load_digits(device: str, seed: int) -> Digits:
    """The data set on `device`, a quarter of it set aside for the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    parts = train_test_split(images, labels, test_size=0.25, random_state=seed, stratify=labels)
    train_images, test_images, train_labels, test_labels = (gradx.tensor(part, device=device) for part in parts)
    return Digits(train_images, train_labels, test_images, test_labels)


def initial_parameters(device: str, sizes: tuple[int, ...] = (64, HIDDEN, 10)) -> list[Tensor]:
    """Weights by He et al. 2015, N(0, 2/inputs), and zero biases, layer by layer."""
    parameters = []
    for inputs, outputs in itertools.pairwise(sizes):
        weight = gradx.randn(inputs, outputs, device=device) * (2 / inputs) ** 0.5
        parameters += [weight.requires_grad_(), gradx.zeros(outputs, device=device, requires_grad=True)]
    return parameters


def logits(images: Tensor, parameters: list[Tensor]) -> Tensor:
    """The network: (n, 64) images to (n, 10) unnormalised log-probabilities."""
    weight1, bias1, weight2, bias2 = parameters
    return F.relu(images @ weight1 + bias1) @ weight2 + bias2


def accuracy(digits: Digits, parameters: list[Tensor]) -> float:
    """The share of test images whose most probable class is the right one."""
    with gradx.no_grad():
        guesses = logits(digits.test_images, parameters).argmax(dim=1)
        return float((guesses == digits.test_labels).float().mean().item())


def step(digits: Digits, batch: Tensor, parameters: list[Tensor], velocities: list[Tensor]) -> Tensor:
    """One step of gradient descent with momentum, in place, on the images numbered in `batch`; the loss."""
    loss = F.cross_entropy(logits(digits.train_images[batch], parameters), digits.train_labels[batch])
    gradients = gradx.autograd.grad(loss, parameters)
    with gradx.no_grad():
        for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
            velocity *= MOMENTUM
            velocity += gradient
            parameter -= LEARNING_RATE * velocity
    return loss.detach()


def train(digits: Digits, parameters: list[Tensor], epochs: int, seed: int, advance: Callable[[str], None]) -> History:
    """Minimise the cross-entropy, changing `parameters` in place; after each epoch, tell `advance` of it."""
    history = History()
    rng = np.random.default_rng(seed)
    velocities = [gradx.zeros_like(parameter) for parameter in parameters]
    count = len(digits.train_labels)
    for epoch in range(1, epochs + 1):
        order = gradx.as_tensor(rng.permutation(count), device=digits.train_labels.device)
        batches = [order[start : start + BATCH] for start in range(0, count, BATCH)]
        losses = gradx.stack([step(digits, batch, parameters, velocities) for batch in batches])
        history.losses += losses.tolist()  # once an epoch: to read a number is to wait for the device
        history.accuracies.append(accuracy(digits, parameters))
        advance(f"epoch {epoch}: loss {losses.mean().item():.4f}")
    return history


def plot(history: History, path: Path) -> None:
    """Write a picture of the loss of each mini-batch and the test error after each epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    epochs = len(history.accuracies)
    steps = len(history.losses) // epochs
    axes.plot(
        np.arange(1, len(history.losses) + 1) / steps,
        history.losses,
        linewidth=0.5,
        label="loss of a mini-batch",
    )
    errors = [1 - accuracy for accuracy in history.accuracies]
    axes.plot(range(1, epochs + 1), errors, "o-", markersize=3, label="test error")
    axes.set(
        xlabel="epoch",
        ylabel="cross-entropy, share of wrong answers",
        yscale="log",
        title="gradx demo: digits",
    )
    axes.legend()
    figure.savefig(path, dpi=120)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gradx demo`."""
    parser.add_argument("--epochs", type=_positive, default=20, help="passes over the training images (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the shuffling (0)")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto takes a GPU if there is one"
    )
    parser.add_argument("--out", type=Path, default=Path("gradx_demo_loss.png"), help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help="compare fewer kernels")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of epochs")
    return int(text)


def packages(arguments: argparse.Namespace) -> dict[str, str]:
    """The optional packages the command needs, and what to install to have them."""
    return dict.fromkeys(["rich", "matplotlib", "sklearn"], "gradx[demo]")


def run(arguments: argparse.Namespace) -> int:
    """Train, judge, draw, compare."""
    from rich.progress import Progress

    try:
        device = str(resolve(arguments.device))
    except RuntimeError as refused:  # by the policy "error"
        print(refused, file=sys.stderr)
        return 1
    if not gradx.cuda.is_available():
        print(bench.without_gpu())
    gradx.manual_seed(arguments.seed)
    digits = load_digits(device, arguments.seed)
    parameters = initial_parameters(device)
    with Progress() as progress:
        task = progress.add_task("training", total=arguments.epochs)
        history = train(
            digits,
            parameters,
            arguments.epochs,
            arguments.seed,
            lambda words: progress.update(task, advance=1, description=words),
        )
    plot(history, arguments.out)
    reached = history.accuracies[-1]
    print(f"test accuracy {reached:.1%} on {digits.test_images.device} after {arguments.epochs} epochs")
    print(f"loss curve in {arguments.out}")
    if reached < REQUIRED_ACCURACY:
        print(f"That is less than the {REQUIRED_ACCURACY:.0%} it should reach.", file=sys.stderr)
        return 1
    compare(arguments.quick)
    return 0


def compare(quick: bool) -> None:
    """Time the backward passes of the kernels on every device, and print the table."""
    devices = ["cpu", "cuda"] if gradx.cuda.is_available() else ["cpu"]
    names = ["mul", "sum", "softmax", "mse_loss"] if quick else list(KERNELS)
    plan = bench.Plan(devices, [KERNELS[name] for name in names], [(512, 256)], QUICK, directions=("backward",))
    show(bench.run_with_progress(plan))
