"""One step of each update rule, as PyTorch defines them. Nothing is updated in place: the new values are returned."""

from __future__ import annotations

import numpy as np

from .window import f64


def sgd_step(param, grad, momentum_buffer, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    """``(param, momentum_buffer)`` after one step of stochastic gradient descent.

    The buffer is None before the first step, which sets it to the gradient, undamped; without momentum it stays None.
    """
    p = f64(param)
    direction = f64(grad) + weight_decay * p
    if momentum:
        if momentum_buffer is None:
            momentum_buffer = direction
        else:
            momentum_buffer = momentum * f64(momentum_buffer) + (1 - dampening) * direction
        direction = direction + momentum * momentum_buffer if nesterov else momentum_buffer
    return p - lr * direction, momentum_buffer


def adam_step(param, grad, exp_avg, exp_avg_sq, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """``(param, exp_avg, exp_avg_sq)`` after one step of Adam (Kingma and Ba, 2015, algorithm 1).

    ``step`` counts from 1; both averages are zeros before the first step. ``weight_decay`` is L2: part of the gradient.
    """
    p = f64(param)
    g = f64(grad) + weight_decay * p
    m = betas[0] * f64(exp_avg) + (1 - betas[0]) * g
    v = betas[1] * f64(exp_avg_sq) + (1 - betas[1]) * g**2
    m_unbiased = m / (1 - betas[0] ** step)
    v_unbiased = v / (1 - betas[1] ** step)
    return p - lr * m_unbiased / (np.sqrt(v_unbiased) + eps), m, v


def adamw_step(param, grad, exp_avg, exp_avg_sq, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
    """``(param, exp_avg, exp_avg_sq)`` after one step of AdamW (Loshchilov and Hutter, 2019, algorithm 2).

    The decay is decoupled from the gradient: ``lr * weight_decay * param`` is taken from the parameter.
    """
    decayed = f64(param) * (1 - lr * weight_decay)
    return adam_step(decayed, grad, exp_avg, exp_avg_sq, step, lr, betas, eps)


def lion(param, grad, state, lr, betas=(0.9, 0.99), weight_decay=0.0):
    """Chen et al. 2023, algorithm 2; `state` is a dict that the first call finds empty, as below."""
    m = state.setdefault("m", np.zeros_like(param))
    param = param - lr * (np.sign(betas[0] * m + (1 - betas[0]) * grad) + weight_decay * param)
    state["m"] = betas[1] * m + (1 - betas[1]) * grad
    return param


def lars(param, grad, state, lr, momentum=0.0, weight_decay=0.0, nesterov=False, trust_coefficient=1e-3, eps=1e-8):
    """You et al. 2017, algorithm 1, with SGD's momentum."""
    w, g = np.sqrt((param**2).sum()), np.sqrt((grad**2).sum())
    trust = trust_coefficient * w / (g + weight_decay * w + eps) if w > 0 and g > 0 else 1.0
    step = trust * (grad + weight_decay * param)
    state["b"] = momentum * state.get("b", 0.0) + step
    return param - lr * (step + momentum * state["b"] if nesterov else state["b"])


def lamb(param, grad, state, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-2, bias_correction=True):
    """You et al. 2020, algorithm 2."""
    state["n"] = state.get("n", 0) + 1
    state["m"] = betas[0] * state.get("m", 0.0) + (1 - betas[0]) * grad
    state["v"] = betas[1] * state.get("v", 0.0) + (1 - betas[1]) * grad**2
    m, v = state["m"], state["v"]
    if bias_correction:
        m, v = m / (1 - betas[0] ** state["n"]), v / (1 - betas[1] ** state["n"])
    u = m / (np.sqrt(v) + eps) + weight_decay * param
    w, length = np.sqrt((param**2).sum()), np.sqrt((u**2).sum())
    return param - lr * (w / length if w > 0 and length > 0 else 1.0) * u


def muon(param, grad, state, lr, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients=(3.4445, -4.775, 2.0315),
         eps=1e-7, ns_steps=5, adjust_lr_fn=None, betas=(0.9, 0.95)):
    """Jordan et al. 2024; AdamW for vectors."""
    state["n"] = state.get("n", 0) + 1
    param = param * (1 - lr * weight_decay)
    if param.ndim < 2:
        state["m"] = betas[0] * state.get("m", 0.0) + (1 - betas[0]) * grad
        state["v"] = betas[1] * state.get("v", 0.0) + (1 - betas[1]) * grad**2
        v = state["v"] / (1 - betas[1] ** state["n"])
        return param - lr * state["m"] / (1 - betas[0] ** state["n"]) / (np.sqrt(v) + 1e-8)
    m = state.get("m", np.zeros_like(param))
    state["m"] = m + (1 - momentum) * (grad - m)
    u = (1 - momentum) * grad + momentum * state["m"] if nesterov else state["m"]
    x = u.reshape(len(u), -1)
    factor = 0.2 * np.sqrt(max(x.shape)) if adjust_lr_fn == "match_rms_adamw" else np.sqrt(max(1, x.shape[0] / x.shape[1]))
    x = x / (np.sqrt((x**2).sum()) + eps)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x  # the same for the transposed matrix
    for _ in range(ns_steps):
        a = x @ x.T
        x = ns_coefficients[0] * x + (ns_coefficients[1] * a + ns_coefficients[2] * a @ a) @ x
    return param - lr * factor * (x.T if tall else x).reshape(param.shape)
