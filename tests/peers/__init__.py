"""The work of dual16 done by what a user would run instead, both measured in one run.

PyTorch does it as the article's code does (float tensors through fake quantization), with observers
and a sensitivity pass as a vendor's plugin has them; onnxruntime with `quantize_static`. Layout:

- `fake_quant`, `observers`, `states`, `ways`, `decompose`: the simulated chip, in PyTorch.
- `small_model`, `onnx_graph`: the two models that run on it.
- `timing`, `probe`, `cluster`, `places`: clocks, and dual16's programs as processes.
- `compare_*`: one comparison each; it measures, checks that both sides did the same work, and
  returns rows.
- `report`: rows as a table.

Nothing here shares code with dual16, so agreement of results is evidence for both.
"""
