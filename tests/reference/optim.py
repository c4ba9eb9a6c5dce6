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
