"""The images that a network gets most wrong, as pictures in the run's folder."""

import io
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from darts_gdas.runtime.files import write_atomically
from darts_gdas.runtime.images import Images
from darts_gdas.tasks.answers import Answers

FOLDER = "mistakes"
MOST, SIDE = 16, 64
"""How many are kept, and the longer side of a picture at most, in pixels: 12 kB without packing."""


def write_mistakes(folder: Path, images: Images, answers: Answers) -> list[dict[str, Any]]:
    """Write the worst mistakes' pictures, in place of earlier ones, and say what they are.

    Args:
        folder: The run's folder.
        images: What was evaluated.
        answers: What the network said of it.

    Returns:
        Of each, the surest first: its position in the set, the file it is from where that is known,
        its class, the one that it is taken for, the confidence in that, and the picture's path
        within the folder.
    """
    worst = torch.tensor(answers.worst(MOST), dtype=torch.int64)
    pixels, found = images.pixels(worst.to(images.labels.device)), []
    (folder / FOLDER).mkdir(exist_ok=True)
    for earlier in (folder / FOLDER).glob("*.png"):
        earlier.unlink()
    for i, position in enumerate(worst.tolist()):
        path = f"{FOLDER}/{i + 1:02}.png"
        content = thumbnail(pixels[i])
        write_atomically(folder / path, lambda file, c=content: file.write(c))
        mistake = {
            "index": position,
            **({} if (name := images.file_of(position)) is None else {"file": name}),
            "class": images.classes[int(answers.labels[position])],
            "said": images.classes[int(answers.said[position])],
            "confidence": float(answers.confidence[position]),
            "picture": path,
        }
        found.append(mistake)
    return found


def thumbnail(pixels: Tensor) -> bytes:
    """A PNG of an image, grey unless it has three channels; scaled down where it is large.

    Args:
        pixels: uint8, [channels, height, width]; of other numbers of channels the first is shown.
    """
    shown = pixels.permute(1, 2, 0) if len(pixels) == 3 else pixels[0]
    picture = Image.fromarray(shown.contiguous().cpu().numpy())
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
