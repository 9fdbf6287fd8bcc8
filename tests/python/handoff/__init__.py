"""What a job hands back, opened by the tools that it is for: onnx.checker and onnxruntime, stand-ins for the
plugin, and, where it is installed, PyTorch."""
