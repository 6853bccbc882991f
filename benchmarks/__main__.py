"""`python -m benchmarks PROGRAM`: the measurements of docs/benchmarks.md."""

import argparse

from benchmarks import (
    builds,
    darts_space,
    digits,
    formats,
    kernels,
    launches,
    ntk,
    program,
    regret,
    report,
    retrain_step,
    scaling,
    scaling_model,
    scores,
    search_step,
    second_order,
    soak,
    spread,
    stream,
    te_nas,
)

PROGRAMS = {
    "builds": builds,
    "search_step": search_step,
    "retrain_step": retrain_step,
    "kernels": kernels,
    "launches": launches,
    "ntk": ntk,
    "program": program,
    "scores": scores,
    "te_nas": te_nas,
    "second_order": second_order,
    "digits": digits,
    "formats": formats,
    "darts_space": darts_space,
    "regret": regret,
    "scaling": scaling,
    "scaling_model": scaling_model,
    "soak": soak,
    "spread": spread,
    "stream": stream,
    "report": report,
}


def main() -> None:
    """Run one measurement and print its table as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(dest="program")
    for name, module in PROGRAMS.items():
        module.add_arguments(commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0]))
    arguments = parser.parse_args()
    if arguments.program is None:
        arguments = parser.parse_args(["search_step"])
    PROGRAMS[arguments.program].run(arguments)


if __name__ == "__main__":
    main()
