"""Conv, ConvTranspose and the pools in one to three dimensions, with attributes left out at random."""

import numpy as np

from .registry import family

AUTO_PADS = ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]


def spatial(d, kernel, dilations):
    """Sizes that hold the kernel, now and then dynamic."""
    sizes = [d.int((k - 1) * r + 1, (k - 1) * r + 6) for k, r in zip(kernel, dilations)]
    return [d.dim(size, size + 3) if d.chance(0.25) else size for size in sizes]


def padding(d, kernel):
    """Attributes that pad: auto_pad, pads or neither."""
    if d.chance(0.4):
        return {"auto_pad": d.pick(AUTO_PADS)}
    if d.chance(0.3):
        return {}
    return {"pads": [d.int(0, max(k - 1, 0)) for k in kernel * 2]}


def optional(d, value, default, probability=0.6):
    """Leaves an attribute out where it says nothing new, for some."""
    return None if value == default and d.chance(probability) else value


@family
def conv(d):
    dims, groups = d.pick([1, 2, 2, 3]), d.pick([1, 1, 2, 4])
    kernel, dilations, strides = d.ints(dims, 1, 4), d.ints(dims, 1, 2), d.ints(dims, 1, 3)
    if d.chance():
        dilations = [1] * dims
    channels, filters = groups * d.int(1, 3), groups * d.int(1, 3)
    x = d.input([d.some_dim(2), channels, *spatial(d, kernel, dilations)])
    inputs = [x, d.constant(d.floats([filters, channels // groups, *kernel], 0.4))]
    if d.chance(0.6):
        inputs.append(d.constant(d.floats([filters])))
    y = d.node(
        "Conv",
        inputs,
        kernel_shape=kernel if d.chance() else None,
        dilations=optional(d, dilations, [1] * dims),
        strides=optional(d, strides, [1] * dims),
        group=optional(d, groups, 1),
        **padding(d, kernel),
    )
    if d.chance(0.3):
        y = batch_normalized(d, y, filters)
    d.output(y)


def batch_normalized(d, x, channels):
    scale, bias, mean = (d.constant(d.floats([channels])) for _ in range(3))
    variance = d.constant(np.abs(d.floats([channels])) + np.float32(0.1))
    return d.node("BatchNormalization", [x, scale, bias, mean, variance], epsilon=d.pick([None, 1e-3]))


@family
def batch_normalization_alone(d):
    channels = d.int(1, 4)
    x = d.input([d.some_dim(3), channels, *d.ints(d.int(0, 3), 1, 4)])
    d.output(batch_normalized(d, x, channels))


@family
def conv_transpose(d):
    dims, groups = d.pick([1, 2, 2, 3]), d.pick([1, 1, 2])
    kernel, dilations, strides = d.ints(dims, 1, 4), d.ints(dims, 1, 2), d.ints(dims, 1, 3)
    if d.chance(0.6):
        dilations = [1] * dims
    channels, filters = groups * d.int(1, 2), d.int(1, 3)
    x = d.input([d.some_dim(2), channels, *(d.some_dim(d.int(2, 4)) for _ in range(dims))])
    inputs = [x, d.constant(d.floats([channels, filters, *kernel], 0.5))]
    if d.chance(0.6):
        inputs.append(d.constant(d.floats([filters * groups])))
    output_padding = [d.int(0, max(s, r) - 1) for s, r in zip(strides, dilations)] if d.chance(0.4) else None
    d.output(
        d.node(
            "ConvTranspose",
            inputs,
            kernel_shape=kernel if d.chance() else None,
            dilations=optional(d, dilations, [1] * dims),
            strides=optional(d, strides, [1] * dims),
            group=optional(d, groups, 1),
            output_padding=output_padding,
            **padding(d, kernel),
        )
    )


@family
def conv_transpose_to_shape(d):
    kernel, strides, sizes = d.ints(2, 2, 4), d.ints(2, 1, 3), d.ints(2, 2, 4)
    shape = [(n - 1) * s + k - d.int(0, k - 1) for n, s, k in zip(sizes, strides, kernel)]
    x = d.input([1, 2, *sizes])
    w = d.constant(d.floats([2, 3, *kernel]))
    d.output(
        d.node(
            "ConvTranspose",
            [x, w],
            strides=strides,
            output_shape=shape,
            auto_pad=d.pick([None, *AUTO_PADS[:2]]),
        )
    )


def pool(d, op, **attributes):
    dims = d.pick([1, 2, 2, 3])
    kernel, strides, dilations = d.ints(dims, 1, 4), d.ints(dims, 1, 3), [1] * dims
    d.opset = d.pick([11, 13, 18, 19, 21])
    if op == "MaxPool" or d.opset >= 19 and op == "AveragePool":
        dilations = d.ints(dims, 1, 2) if d.chance(0.4) else dilations
        attributes["dilations"] = optional(d, dilations, [1] * dims)
    pads = padding(d, kernel)
    if "auto_pad" in pads:
        attributes.pop("dilations", None)
    x = d.input([d.some_dim(2), d.int(1, 3), *spatial(d, kernel, dilations)])
    if op != "LpPool" or d.opset >= 18:
        attributes["ceil_mode"] = d.pick([None, 0, 1])
    return d.node(
        op, [x], kernel_shape=kernel, strides=optional(d, strides, [1] * dims, 0.8), **pads, **attributes
    )


@family
def average_pool(d):
    d.output(pool(d, "AveragePool", count_include_pad=d.pick([None, 0, 1])))


@family
def max_pool(d):
    d.output(pool(d, "MaxPool"))


@family
def lp_pool(d):
    d.output(pool(d, "LpPool", p=d.pick([None, 1, 2, 3])))


@family
def global_pool(d):
    x = d.input([d.some_dim(2), d.int(1, 3), *(d.some_dim(d.int(1, 5)) for _ in range(d.int(1, 3)))])
    op = d.pick(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
    d.output(d.node(op, [x], p=d.pick([None, 1, 3]) if op == "GlobalLpPool" else None))


@family
def max_pool_with_indices(d):
    kernel = d.ints(2, 1, 3)
    x = d.input([d.int(1, 2), 2, *(k + d.int(0, 4) for k in kernel)])
    y, indices = d.node("MaxPool", [x], 2, kernel_shape=kernel, strides=d.ints(2, 1, 2))
    d.output(y)
    d.output(indices, kind=7)
