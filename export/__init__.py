"""The shipped model: ONNX export, verification, latency, and a client that needs no PyTorch."""
