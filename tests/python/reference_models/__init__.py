"""Models with inputs and the outputs that onnxruntime gives, for the comparison of float execution."""
