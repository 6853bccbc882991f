"""Trained networks to take away: programs, ONNX, a stand-alone Python file, and their card."""
