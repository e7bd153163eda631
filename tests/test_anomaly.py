"""Anomaly detection, and inference mode: the same programs on torch and on gradx."""

from __future__ import annotations

import warnings

import pytest
from twin import same

import gradx


def leaf(m, *values):
    return m.tensor(values or (1.0, 2.0), dtype=m.float64, requires_grad=True)


def negative_root(m):
    return m.sqrt(leaf(m, -1.0) * 2)


def quietly(program):
    def quiet(m):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return program(m)

    return quiet


def nan_is_an_error(m):
    with m.autograd.detect_anomaly():
        negative_root(m).backward()


def nan_is_allowed(m):
    with m.autograd.detect_anomaly(check_nan=False):
        x = leaf(m, -1.0)
        m.sqrt(x).backward()
    return x.grad


def off_again(m):
    with m.autograd.detect_anomaly():
        pass
    return m.is_anomaly_enabled()


def nested(m):
    with m.autograd.set_detect_anomaly(True):
        with m.autograd.set_detect_anomaly(False):
            inner = m.is_anomaly_enabled()
        return inner, m.is_anomaly_enabled()


def detected_in_the_second_derivative(m):
    with m.autograd.detect_anomaly():
        x = leaf(m, 0.0)
        (first,) = m.autograd.grad((x**1.5).sum(), x, create_graph=True)
        m.autograd.grad((first * 0).sum(), x)


@pytest.mark.parametrize(
    "program",
    [nan_is_an_error, nan_is_allowed, off_again, nested, detected_in_the_second_derivative],
    ids=lambda program: program.__name__,
)
def test_anomalies_as_in_torch(program):
    same(quietly(program), rtol=1e-15)


def test_detection_is_announced():
    with pytest.warns(UserWarning, match="Anomaly Detection has been enabled"):
        gradx.autograd.detect_anomaly()


def test_the_line_of_the_forward_pass_is_shown():
    with gradx.autograd.set_detect_anomaly(True):
        y = negative_root(gradx)
        warning = pytest.warns(UserWarning, match=r"Error detected in SqrtBackward0\. Traceback of forward call")
        with warning as caught, pytest.raises(RuntimeError, match="returned nan values in its 0th output") as error:
            y.backward()
    assert "return m.sqrt(leaf(m, -1.0) * 2)" in str(caught[0].message)
    assert "return m.sqrt(leaf(m, -1.0) * 2)" in error.value.__notes__[0]


def test_the_backward_pass_that_made_a_node_is_shown():
    with gradx.autograd.set_detect_anomaly(True, check_nan=True):
        x = leaf(gradx, 0.0)
        (first,) = gradx.autograd.grad((x**1.5).sum(), x, create_graph=True)
        warning = pytest.warns(UserWarning, match=r"Previous calculation was induced by PowBackward0")
        with warning, pytest.raises(RuntimeError, match="returned nan"):
            gradx.autograd.grad((first * 0).sum(), x)


def test_nothing_is_known_of_what_was_recorded_before():
    y = negative_root(gradx)
    warning = pytest.warns(UserWarning, match="No forward pass information available")
    with gradx.autograd.set_detect_anomaly(True), warning, pytest.raises(RuntimeError, match="returned nan"):
        y.backward()


# ---- inference mode -------------------------------------------------------------------------------------------------


def made_in_inference(m):
    with m.inference_mode():
        return m.ones(2), leaf(m) * 2


def flags(m):
    with m.inference_mode():
        inside = m.is_grad_enabled(), m.is_inference_mode_enabled()
        t = m.ones(2)
        with m.inference_mode(False):
            within = m.is_grad_enabled(), m.is_inference_mode_enabled(), m.ones(2).is_inference()
    return inside, within, t.is_inference(), m.ones(2).is_inference(), m.is_inference_mode_enabled()


def views_of_normal_tensors_are_normal(m):
    x = m.ones(3)
    with m.inference_mode():
        v = x[:2]
        w = m.ones(3)[:2]
    return v.is_inference(), w.is_inference()


def saved(m):
    return leaf(m) * made_in_inference(m)[1]


def not_saved(m):
    y = leaf(m) + made_in_inference(m)[1]
    return y, y.requires_grad


def changed_outside(m):
    made_in_inference(m)[0].add_(1)


def changed_inside(m):
    with m.inference_mode():
        return m.ones(2).add_(1)


def requiring(m):
    made_in_inference(m)[0].requires_grad_()


def version(m):
    return made_in_inference(m)[0]._version


def cloned(m):
    x = leaf(m)
    (x * made_in_inference(m)[1].clone()).sum().backward()
    return x.grad


@pytest.mark.parametrize("decorated", [True, False])
def test_inference_mode_decorates(decorated):
    @gradx.inference_mode
    def bare():
        return gradx.ones(1)

    @gradx.inference_mode(mode=decorated)
    def called():
        return gradx.ones(1)

    assert bare().is_inference()
    assert called().is_inference() is decorated


@pytest.mark.parametrize(
    "program",
    [
        made_in_inference,
        flags,
        views_of_normal_tensors_are_normal,
        saved,
        not_saved,
        changed_outside,
        changed_inside,
        requiring,
        version,
        cloned,
    ],
    ids=lambda program: program.__name__,
)
def test_inference_as_in_torch(program):
    same(program, rtol=1e-15)
