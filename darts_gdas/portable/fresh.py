"""Run an exported network where nothing of this project can be imported, and return its logits.

Started as a program by its path, `python fresh.py FORMAT FILES IMAGES LOGITS`, it is the first user
of what was exported: it reads the files as the model card says.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def load_torch(folder: Path) -> Callable[[Tensor], Tensor]:
    """The program of `torch.export`."""
    return torch.export.load(folder / "network.pt2").module()


def load_onnx(folder: Path) -> Callable[[Tensor], Tensor]:
    """The ONNX model, in onnxruntime where that is installed, else in onnx's own evaluator."""
    path = str(folder / "network.onnx")
    session: Any
    if importlib.util.find_spec("onnxruntime") is None:
        from onnx.reference import ReferenceEvaluator  # pyright: ignore[reportMissingImports]

        session = ReferenceEvaluator(path)
    else:
        from onnxruntime import InferenceSession  # pyright: ignore[reportMissingImports]

        session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def load_python(folder: Path) -> Callable[[Tensor], Tensor]:
    """The stand-alone file with its weights."""
    spec = importlib.util.spec_from_file_location("network", folder / "network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.Net()
    net.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
    return net.eval()


def load_openvino(folder: Path) -> Callable[[Tensor], Tensor]:
    """OpenVINO's model on a CPU, in float32: its own choice may be bfloat16."""
    import openvino  # pyright: ignore[reportMissingImports]

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    run = openvino.Core().compile_model(folder / "network.xml", "CPU", settings)
    return lambda images: torch.from_numpy(run([images.numpy()])[0])


def load_executorch(folder: Path) -> Callable[[Tensor], Tensor]:
    """ExecuTorch's program."""
    from executorch.runtime import Runtime  # pyright: ignore[reportMissingImports]

    program = Runtime.get().load_program(folder / "network.pte")
    method = program.load_method("forward")
    return lambda images: method.execute([images])[0].clone()


LOADERS = {
    "torch": load_torch,
    **dict.fromkeys(("onnx", "onnx_fp16", "onnx_int8"), load_onnx),
    "openvino": load_openvino,
    "executorch": load_executorch,
    "python": load_python,
}


def main(name: str, folder: str, images: str, logits: str) -> None:
    """Run the batches in one file and write what comes out into another."""
    sys.modules["darts_gdas"] = None  # type: ignore[assignment]  # importing it is an error now
    run = LOADERS[name](Path(folder))
    with torch.no_grad():
        batches = torch.load(images, weights_only=True)
        torch.save([run(batch) for batch in batches], logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
