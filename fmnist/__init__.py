"""The learning problem: data, networks, training and evaluation, in a plain process with neither
Ray nor ONNX."""
