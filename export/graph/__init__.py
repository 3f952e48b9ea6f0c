"""From PyTorch to an ONNX graph."""
