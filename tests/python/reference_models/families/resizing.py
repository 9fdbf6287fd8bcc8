"""Resize in all its modes, Upsample, GridSample and AffineGrid."""

import numpy as np

from .registry import family

TRANSFORMS = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
ROUNDINGS = [None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def resize(d, **attributes):
    """By scales or by sizes, of all dimensions or of the last two."""
    d.opset = d.pick([13, 18, 19])
    if d.opset < 18:
        attributes = {key: value for key, value in attributes.items() if key not in LATE}
    transforms = [one for one in TRANSFORMS if d.opset >= 19 or one != "half_pixel_symmetric"]
    sizes = [1, d.int(1, 2), d.int(2, 6), d.int(2, 6)]
    some = d.opset >= 18 and d.chance(0.4)
    axes = d.pick([[2, 3], [-2, -1], [3, 2]]) if some else None
    shape = [*sizes]
    if d.chance(0.3):
        shape[2] = d.dim(sizes[2], sizes[2] + 2)
    x = d.input(shape)
    lead = [] if some else [1, 1]
    if d.chance():
        scales = lead + [d.pick([0.5, 0.6, 1.0, 1.5, 2.0, 3.0, 0.8]) for _ in range(2)]
        inputs = [x, "", d.operand(np.array(scales, np.float32))]
        attributes.pop("keep_aspect_ratio_policy", None)
    else:
        wanted = (lead and sizes[:2]) + d.ints(2, 1, 9)
        inputs = [x, "", "", d.operand(np.array(wanted, np.int64))]
        # onnxruntime takes the ratio of an axis that is counted from the end as 1.
        if not some or axes == [-2, -1]:
            attributes.pop("keep_aspect_ratio_policy", None)
    mode = d.pick([None, *transforms])
    d.output(d.node("Resize", inputs, axes=axes, coordinate_transformation_mode=mode, **attributes))


LATE = {"antialias", "keep_aspect_ratio_policy"}
POLICIES = [None, "stretch", "not_larger", "not_smaller"]


@family
def resize_nearest(d):
    resize(
        d,
        mode=d.pick([None, "nearest"]),
        nearest_mode=d.pick(ROUNDINGS),
        keep_aspect_ratio_policy=d.pick(POLICIES),
    )


@family
def resize_linear(d):
    resize(d, mode="linear", antialias=d.pick([None, 0, 1]), keep_aspect_ratio_policy=d.pick(POLICIES))


@family
def resize_cubic(d):
    resize(
        d,
        mode="cubic",
        antialias=d.pick([None, 0]),
        cubic_coeff_a=d.pick([None, -0.5]),
        exclude_outside=d.pick([None, 0, 1]),
    )


@family
def resize_one_dimension(d):
    x = d.input([1, 2, d.some_dim(d.int(2, 6))])
    scales = d.operand(np.array([1, 1, d.pick([0.5, 1.5, 2.0])], np.float32))
    d.output(d.node("Resize", [x, "", scales], mode=d.pick(["nearest", "linear"])))


@family
def resize_three_dimensions(d):
    x = d.input([1, 1, *d.ints(3, 2, 4)])
    scales = d.operand(np.array([1, 1, *(d.pick([1.0, 1.5, 2.0]) for _ in range(3))], np.float32))
    d.output(d.node("Resize", [x, "", scales], mode=d.pick(["nearest", "linear"])))


@family
def resize_cropped(d):
    x = d.input([1, 1, 4, 5])
    region = np.array([0, 0, 0.2, -0.1, 1, 1, 0.8, 1.2], np.float32)
    # A region as large as the image is copied by onnxruntime, whatever part of it is asked for.
    sizes = d.operand(np.array([1, 1, d.pick([2, 3, 6]), d.pick([2, 3, 6])], np.int64))
    inputs = [x, d.operand(region), "", sizes]
    d.output(
        d.node(
            "Resize",
            inputs,
            coordinate_transformation_mode="tf_crop_and_resize",
            mode=d.pick(["nearest", "linear"]),
            extrapolation_value=d.pick([None, 1.5]),
        )
    )


@family
def upsample(d):
    d.opset = d.pick([7, 9])
    x = d.input([1, d.int(1, 2), *d.ints(2, 1, 4)])
    scales, mode = (
        [1.0, 1.0, d.pick([1.0, 2.0, 1.5]), d.pick([2.0, 3.0])],
        d.pick([None, "nearest", "linear"]),
    )
    if d.opset == 7:
        d.output(d.node("Upsample", [x], scales=scales, mode=mode))
    else:
        d.output(d.node("Upsample", [x, d.constant(np.array(scales, np.float32))], mode=mode))


@family
def grid_sample(d):
    d.opset = d.pick([16, 20, 20])
    three = d.opset == 20 and d.chance(0.25)
    modes = (
        [None, "linear", "nearest"] + ([] if three else ["cubic"])
        if d.opset == 20
        else [None, "bilinear", "nearest", "bicubic"]
    )
    dims = 3 if three else 2
    n = d.int(1, 2)
    x = d.input([n, d.int(1, 2), *d.ints(dims, 2, 5)])
    grid = d.input([n, *d.ints(dims, 1, 4), dims], lambda s: d.floats(s, 0.7))
    d.output(
        d.node(
            "GridSample",
            [x, grid],
            mode=d.pick(modes),
            align_corners=d.pick([None, 0, 1]),
            padding_mode=d.pick([None, "zeros", "border", "reflection"]),
        )
    )


@family
def affine_grid(d):
    d.opset = 20
    dims = d.pick([2, 2, 3])
    theta = d.input([2, dims, dims + 1])
    size = d.operand(np.array([2, 1, *d.ints(dims, 1, 4)], np.int64))
    d.output(d.node("AffineGrid", [theta, size], align_corners=d.pick([None, 0, 1])))


@family
def roi_align(d):
    d.opset = 16
    boxes = lambda s: np.concatenate(
        [d.rng.random((s[0], 2)) * 3, 4 + d.rng.random((s[0], 2)) * 3], 1
    ).astype(np.float32)
    inputs = [d.input([1, 2, 8, 8]), d.input([2, 4], boxes), d.operand(np.zeros(2, np.int64))]
    d.output(
        d.node(
            "RoiAlign",
            inputs,
            mode=d.pick([None, "avg"]),
            output_height=d.int(1, 3),
            output_width=d.int(1, 3),
            sampling_ratio=d.pick([None, 2]),
            spatial_scale=d.pick([None, 0.5]),
            coordinate_transformation_mode=d.pick([None, "half_pixel", "output_half_pixel"]),
        )
    )
