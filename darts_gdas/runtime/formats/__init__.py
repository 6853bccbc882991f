"""Data sets in the formats of others, each read by the package that owns its format."""

from darts_gdas.runtime.formats.huggingface import HuggingFace
from darts_gdas.runtime.formats.imagenet16 import ImageNet16
from darts_gdas.runtime.formats.medmnist import MedMnist
from darts_gdas.runtime.formats.npz import Npz
from darts_gdas.runtime.formats.torchvision import Torchvision
from darts_gdas.runtime.formats.webdataset import WebDataset

__all__ = ["HuggingFace", "ImageNet16", "MedMnist", "Npz", "Torchvision", "WebDataset"]
