"""What a model can run on: which devices this machine has, and how ONNX Runtime reaches them."""
