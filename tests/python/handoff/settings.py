"""qconfig.py run against stand-ins for horizon_plugin_pytorch that record what they are given, and
quant_config.json against the nodes of mended.onnx; both files of JSON against their schemas."""

import importlib.util
import json
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import jsonschema

SCHEMAS = Path(__file__).resolve().parents[3] / "docs/schemas"
QMIN = {"qint8": -128, "qint16": -32768}
PACKAGE = "horizon_plugin_pytorch"


class Recorded:
    """What a class or function of the plugin was called with."""

    def __init__(self, name, args, given):
        self.name, self.args, self.given = name, args, given


def recorder(name):
    return lambda *args, **given: Recorded(name, args, given)


@contextmanager
def plugin():
    """The plugin's modules, each name in them a recorder."""
    modules = {
        "": {},
        ".dtype": {"qint8": "qint8", "qint16": "qint16"},
        ".quantization": {"get_qconfig": recorder("get_qconfig")},
        ".quantization.qconfig_setter": {
            name: recorder(name) for name in ("ModuleNameTemplate", "QconfigSetter", "SensitivityTemplate")
        },
        ".quantization.qconfig_template": {
            "ModuleNameQconfigSetter": recorder("ModuleNameQconfigSetter"),
            "calibration_8bit_weight_16bit_act_qconfig_setter": "calibration_8bit_weight_16bit_act",
            "qat_8bit_weight_16bit_act_qconfig_setter": "qat_8bit_weight_16bit_act",
            "default_calibration_qconfig_setter": "default_calibration",
            "default_qat_qconfig_setter": "default_qat",
        },
    }
    for suffix, names in modules.items():
        module = types.ModuleType(PACKAGE + suffix)
        vars(module).update(names)
        sys.modules[PACKAGE + suffix] = module
    sys.modules[PACKAGE + ".quantization"].qconfig_template = sys.modules[
        PACKAGE + ".quantization.qconfig_template"
    ]
    try:
        yield
    finally:
        for suffix in modules:
            del sys.modules[PACKAGE + suffix]


def read(folder, name, wrong):
    """A file of JSON; where it breaks its schema, `wrong` is told."""
    file = json.loads((folder / f"{name}.json").read_text())
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    broken = jsonschema.Draft202012Validator(schema).iter_errors(file)
    wrong += [f"{name}.json: {error.json_path}: {error.message}" for error in broken]
    return file


def check(case, model):
    """What is wrong with the settings of a case, whose mended.onnx is `model`."""
    folder, wrong = case / "handoff", []
    told, config = (read(folder, name, wrong) for name in ("modules", "quant_config"))
    spec = importlib.util.spec_from_file_location("qconfig", folder / "qconfig.py")
    qconfig = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(qconfig)
    with plugin():
        setter = qconfig.setter(folder, sensitive_table=[], topk_or_ratio=0.1)
        older, qat = qconfig.setters(folder), qconfig.setters(folder, qat=True)

    def expect(what, got, wanted):
        if got != wanted:
            wrong.append(f"{what} is {got!r}, not {wanted!r}")

    expect("the setter", setter.name, "QconfigSetter")
    names, table = setter.given["templates"]
    expect("freeze", names.given, {"freeze": True})
    expect("the second template", table.name, "SensitivityTemplate")
    template = told["template"]
    reference = setter.given["reference_qconfig"].given
    expect("the reference", reference["in_dtype"], template["activation"])
    expect("its weight", reference["weight_dtype"], template["weight"])
    (named,), (by_name,) = names.args, older[0].args
    expect("modules of the newer setter", set(named), set(told["quantized"]))
    expect("modules of the older setter", set(by_name), set(told["quantized"]))
    for module, ports in told["quantized"].items():
        for port, given in ports.items():
            expect(f"{module} {port}", named[module]["dtype"][port], given["dtype"])
            if "scale" in given:
                threshold = named[module]["threshold"][port]
                expect(f"threshold of {module} {port}", threshold / -QMIN[given["dtype"]], given["scale"])
            if "scales" in given:
                scales = named[module]["threshold"][port]
                if not scales or min(scales) <= 0:
                    wrong.append(f"{module} {port} has thresholds {scales!r}")
        output = ports.get("output")
        expect(f"fixed scale of {module}", by_name[module].given["fix_scale"], output and output["scale"])
    if template == {"activation": "qint16", "weight": "qint8"}:
        expect("the older setter", older[1], "calibration_8bit_weight_16bit_act")
        expect("the older setter of QAT", qat[1], "qat_8bit_weight_16bit_act")
    for part in told["modules"]:
        wrong += [
            f"{part['module']} is swapped and no setting names what is inside"
            for _ in [0]
            if not any(name.startswith(part["module"]) for name in told["quantized"])
        ]

    nodes = {node.name: node.op_type for node in model.graph.node}
    dual = {"Conv", "MatMul", "Gemm", "ConvTranspose"}
    for name, given in config["node_config"].items():
        if name not in nodes:
            wrong.append(f"quant_config.json names '{name}', which mended.onnx has not")
        elif given["qtype"] == "dual-int16" and nodes[name] not in dual:
            wrong.append(f"quant_config.json has dual-int16 for '{name}', a {nodes[name]}")
    if not config["node_config"]:
        wrong.append("quant_config.json names no node")
    return wrong
