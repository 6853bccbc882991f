"""One build's search steps in a process of its own, one round of them per line that it reads."""

import sys
import time

from benchmarks.pair import NETWORKS, Pair, seeded
from darts_gdas.runtime.compute import Compute, Device, Precision


def main() -> None:
    """Say `ready`, then per line the seconds of a weight step and of an arch step."""
    network, layers, batch, threads, kind = sys.argv[1:]
    compute = Compute.select(Device.cpu, Precision.fp32, True, int(threads))
    pair = Pair(NETWORKS[network], int(layers), int(batch), compute)
    task, (weight_batch, arch_batch) = pair.task, pair.batches
    if kind == "plain":
        steps = [
            seeded(pair.noise, lambda: pair.plain_step(weight_batch, weights=True)),
            seeded(pair.noise, lambda: pair.plain_step(arch_batch, weights=False)),
        ]
    else:
        steps = [
            seeded(task.noise, lambda: task.step_weights(weight_batch, 0.5)),
            seeded(task.noise, lambda: task.arch_step(weight_batch, arch_batch, 0.5)),
        ]
    for step in steps:
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        seconds = []
        for step in steps:
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        print(*seconds, flush=True)


if __name__ == "__main__":
    main()
