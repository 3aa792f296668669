"""Does `shapecalc model` count what a network computes, and what does asking cost?

Claim: over all of torchvision's classifiers dlkit's MACs equal torch's own FLOP counter; torchinfo's do not where
attention or functional calls are in. Time and memory are those of building the model and asking, each in a process of
its own, forked after `import torch`; memory is the growth of the resident set. torchinfo runs a real forward pass.

    pip install torchinfo && python benchmarks/shapecalc_vs_torchinfo.py [NAME...]
"""

import json
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
import torchinfo
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from dlkit.core.profile import model_from, profile_model


def ask_dlkit(name: str) -> int:
    """MACs by `shapecalc model`, with its memory estimates."""
    source = model_from(name)
    assert source.inputs
    return profile_model(source.model, source.inputs).macs


def ask_torchinfo(name: str) -> int:
    """MACs by torchinfo.summary, as its page shows to call it."""
    size = 299 if name == "inception_v3" else 224
    summary = torchinfo.summary(torchvision.models.get_model(name), input_size=(1, 3, size, size), verbose=0)
    return int(summary.total_mult_adds)


def reference(name: str) -> int:
    """Half of torch's FLOP counter."""
    source = model_from(name)
    assert source.inputs
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        source.model.eval()(source.inputs[0].on_meta(1))
    return counter.get_total_flops() // 2


def apart(ask: Callable[[str], int], name: str) -> dict[str, float] | None:
    """MACs, seconds and MiB of one question in a forked process; None if it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                macs = ask(name)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            answer = {"macs": macs, "seconds": time.perf_counter() - start, "mib": grown / 1024}
            os.write(writing, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


def main(names: list[str]) -> None:
    """Print one line per model and the summary."""
    torch.set_num_threads(1)
    tools = {"dlkit": ask_dlkit, "torchinfo": ask_torchinfo}
    answers: dict[str, list[tuple[int, dict[str, float] | None]]] = {tool: [] for tool in tools}
    print(f"{'model':<22}{'MACs (torch)':>17}" + "".join(f"{tool + ' MACs':>17}{'s':>7}{'MiB':>7}" for tool in tools))
    for name in names:
        truth = reference(name)
        line = f"{name:<22}{truth:>17,}"
        for tool, ask in tools.items():
            found = apart(ask, name)
            answers[tool].append((truth, found))
            line += (
                f"{found['macs'] / truth:>16.2%} {found['seconds']:>6.2f}{found['mib']:>7.0f}"
                if found
                else f"{'failed':>31}"
            )
        print(line, flush=True)
    for tool, found_all in answers.items():
        print(summary(tool, found_all))
    print(f"Python {platform.python_version()}, torch {torch.__version__}, torchinfo {torchinfo.__version__}, 1 thread")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}")


def summary(tool: str, answers: list[tuple[int, dict[str, float] | None]]) -> str:
    """Coverage, agreement, time and memory of one tool."""
    done = [(truth, found) for truth, found in answers if found]
    exact = sum(found["macs"] == truth for truth, found in done)
    near = sum(abs(found["macs"] / truth - 1) <= 0.01 for truth, found in done)
    seconds = [found["seconds"] for _, found in done]
    memory = [found["mib"] for _, found in done]
    return (
        f"{tool}: {len(done)} of {len(answers)} models, MACs equal in {exact}, within 1 % in {near}; "
        f"median {statistics.median(seconds):.2f} s (most {max(seconds):.2f}), "
        f"memory median {statistics.median(memory):.0f} MiB (most {max(memory):.0f})"
    )


if __name__ == "__main__":
    main(sys.argv[1:] or torchvision.models.list_models(module=torchvision.models))
