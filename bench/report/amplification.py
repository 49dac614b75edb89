# SPDX-License-Identifier: MIT
"""Space against writing for uniform overwrites: files of which a share t is dead are compacted;
then SA = -ln(1-t)/t and WA = 1/t."""
import math


def space_of(dead_share):
    return -math.log(1 - dead_share) / dead_share


def write_of(space):
    """WA at that SA, by bisection: SA grows with t."""
    low, high = 1e-6, 1 - 1e-9
    for _ in range(100):
        middle = (low + high) / 2
        if space_of(middle) < space:
            low = middle
        else:
            high = middle
    return 1 / low


def curve(least=1.1, most=1.8, points=71):
    step = (most - least) / (points - 1)
    return [(least + i * step, write_of(least + i * step)) for i in range(points)]
