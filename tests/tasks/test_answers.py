import pytest
import torch
from torch import nn

from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.images import ImageSet
from darts_gdas.tasks.answers import Answers, evaluate_answers
from darts_gdas.tasks.batches import evaluate

CPU = Compute(torch.device("cpu"))
NORMALIZE = Normalize(torch.tensor([0.5]), torch.tensor([0.25]))


def test_answers_are_those_of_the_network_one_image_at_a_time():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (300, 1, 2, 2), generator=generator, dtype=torch.uint8)
    images = ImageSet(pixels, torch.arange(300) % 3, ("a", "b", "c"))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(4, 3))
    found, answers = evaluate_answers(net.train(), images, NORMALIZE, CPU)
    for i in range(300):
        share = net(NORMALIZE(pixels[i : i + 1])).detach().double().softmax(1)[0]
        assert answers.said[i] == share.argmax()
        assert float(answers.confidence[i]) == pytest.approx(float(share.max()), abs=1e-6)
    plain = evaluate(net, images, normalize=NORMALIZE, batch_size=256, compute=CPU)
    assert found.metrics == plain.metrics
    assert float(answers.is_right.double().mean()) == pytest.approx(found.metrics["accuracy"])
    counts = torch.bincount(3 * answers.labels + answers.said, minlength=9).view(3, 3)
    assert torch.equal(counts, found.confusion.counts)


def test_the_worst_are_wrong_and_the_surest_first_equals_in_order():
    said = torch.tensor([0, 1, 1, 1, 2, 0])
    answers = Answers(said, torch.tensor([0.9, 0.5, 0.8, 0.7, 0.8, 0.9]), torch.zeros(6).long())
    assert answers.worst(10) == [2, 4, 3, 1]
    assert answers.worst(2) == [2, 4]
    assert answers.calibration().excess == pytest.approx(4.6 / 6 - 2 / 6)
