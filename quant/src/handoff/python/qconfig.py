"""Settings of horizon_plugin_pytorch by which a model is quantized as it was measured: dtypes and fixed
scales of every module that modules.json names, for both generations of the plugin.

    import qconfig
    setter = qconfig.setter("handoff")                    # OE 3.5 on: one QconfigSetter
    setters = qconfig.setters("handoff")                  # before: a tuple, the first that knows a module wins
    model = prepare(model, example_input, qconfig_setter=setter)

The plugin is not public. This file was run against stand-ins that record what they are given, and against
nothing else: names of classes and arguments are those of public documents and sources.
"""

import json
import pathlib
import struct

QMIN = {"qint8": -128, "qint16": -32768}


def plan(folder):
    """modules.json."""
    return json.loads((pathlib.Path(folder) / "modules.json").read_text())


def thresholds(folder):
    """What ModuleNameTemplate takes: by module, dtype and threshold of its input, weight and output. A
    threshold is scale * -qmin; that of a weight has one number for each output channel."""
    modules = plan(folder)["quantized"]
    found = {}
    for name, ports in modules.items():
        dtype, threshold = {}, {}
        for port, given in ports.items():
            dtype[port] = given["dtype"]
            if "scale" in given:
                threshold[port] = given["scale"] * -QMIN[given["dtype"]]
            elif "scales" in given:
                scales = _floats(pathlib.Path(folder) / "mended.safetensors", given["scales"])
                threshold[port] = [scale * -QMIN[given["dtype"]] for scale in scales]
        found[name] = {"dtype": dtype, "threshold": threshold}
    return found


def setter(folder, sensitive_table=None, topk_or_ratio=0.0, freeze=True):
    """The newer generation's. A sensitivity table (of `dual16 analyze`, see `sensitivity`) gives modules that
    are not named a higher precision."""
    from horizon_plugin_pytorch.dtype import qint8, qint16
    from horizon_plugin_pytorch.quantization import get_qconfig
    from horizon_plugin_pytorch.quantization.qconfig_setter import (
        ModuleNameTemplate,
        QconfigSetter,
        SensitivityTemplate,
    )

    dtypes = {"qint8": qint8, "qint16": qint16}
    template = plan(folder)["template"]
    named = {}
    for name, given in thresholds(folder).items():
        dtype = {port: dtypes[kind] for port, kind in given["dtype"].items()}
        named[name] = {"dtype": dtype}
        if given["threshold"]:
            named[name]["threshold"] = given["threshold"]
    templates = [ModuleNameTemplate(named, freeze=freeze)]
    if sensitive_table is not None:
        templates.append(
            SensitivityTemplate(
                sensitive_table=sensitive_table,
                topk_or_ratio=topk_or_ratio,
                sensitive_type=None,
                low_precision_dtype=qint8,
                high_precision_dtype=qint16,
            )
        )
    reference = get_qconfig(
        in_dtype=dtypes[template["activation"]],
        weight_dtype=dtypes[template["weight"]],
        out_dtype=dtypes[template["activation"]],
    )
    return QconfigSetter(reference_qconfig=reference, templates=templates)


def setters(folder, qat=False):
    """The older generation's: modules by name with a fixed output scale, then the template."""
    from horizon_plugin_pytorch.dtype import qint8, qint16
    from horizon_plugin_pytorch.quantization import get_qconfig
    from horizon_plugin_pytorch.quantization import qconfig_template as setters

    dtypes = {"qint8": qint8, "qint16": qint16}
    told = plan(folder)
    named = {}
    for name, ports in told["quantized"].items():
        output = ports.get("output")
        named[name] = get_qconfig(
            in_dtype=dtypes[ports.get("input", {}).get("dtype", told["template"]["activation"])],
            weight_dtype=dtypes[ports.get("weight", {}).get("dtype", told["template"]["weight"])],
            out_dtype=None if output is None else dtypes[output["dtype"]],
            fix_scale=None if output is None else output.get("scale"),
        )
    by_name = setters.ModuleNameQconfigSetter(named)
    if told["template"] == {"activation": "qint16", "weight": "qint8"}:
        stage = "qat" if qat else "calibration"
        return (by_name, getattr(setters, f"{stage}_8bit_weight_16bit_act_qconfig_setter"))
    return (by_name, setters.default_qat_qconfig_setter if qat else setters.default_calibration_qconfig_setter)


def sensitivity(path):
    """The rows of an `output_*_sensitive_ops.txt`, which `dual16 analyze` writes, as the setters read them:
    [op, type, op_type, value, dtype, flops]. `torch.save(rows, path)` makes the `.pt` of them."""
    lines = [line for line in pathlib.Path(path).read_text().splitlines() if line.strip(" -=+|")]
    rows = []
    for line in lines[1:]:
        op, kind, op_type, value, dtype, flops = line.strip().rsplit(None, 5)
        rows.append([op, kind, op_type, float("nan") if value == "-" else float(value), dtype, flops])
    return rows


def _floats(path, name):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(length))[name]
        start, end = entry["data_offsets"]
        file.seek(8 + length + start)
        data = file.read(end - start)
    return list(struct.unpack(f"<{len(data) // 4}f", data))
