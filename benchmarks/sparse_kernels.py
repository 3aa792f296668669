"""Whether torch's CSR kernels gain time on masked layers: how many times as fast as dense ones, by the share of zeros.

    python benchmarks/sparse_kernels.py

One thread; the least of 30 runs of each, in turns, so that a busy machine disturbs both alike. Convolutions are unfolded into matrices
first, as there is no sparse convolution in torch.
"""

import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ZEROS = (0.5, 0.8, 0.9, 0.95, 0.99)
LINEAR = ((512, 512), (1024, 4096))  # outputs, inputs
CONVOLUTIONS = ((256, 14, 1), (64, 28, 3), (256, 14, 3))  # channels, height and width, kernel
BATCHES = (1, 16)
ROUNDS = 30


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR tensors a beta
    draw = torch.Generator().manual_seed(0)
    print("layer", "batch", *(f"{share:.0%}" for share in ZEROS), sep="\t")
    for batch in BATCHES:
        for outputs, inputs in LINEAR:
            x, weight = torch.randn(batch, inputs, generator=draw), torch.randn(outputs, inputs, generator=draw)
            pairs = [(linear_pair(x, masked(weight, share, draw))) for share in ZEROS]
            show(f"linear {inputs} to {outputs}", batch, pairs)
        for channels, side, kernel in CONVOLUTIONS:
            x = torch.randn(batch, channels, side, side, generator=draw)
            weight = torch.randn(channels, channels, kernel, kernel, generator=draw)
            pairs = [convolution_pair(x, masked(weight, share, draw)) for share in ZEROS]
            show(f"conv {kernel}x{kernel} of {channels}, {side}x{side}", batch, pairs)


def show(name: str, batch: int, pairs: list[tuple[Callable[[], Tensor], Callable[[], Tensor]]]) -> None:
    """A row: dense time over sparse time."""
    print(name, batch, *(f"{speedup(*pair):.2f}" for pair in pairs), sep="\t", flush=True)


def masked(weight: Tensor, share: float, draw: torch.Generator) -> Tensor:
    """The weight with this share of zeros."""
    return weight * (torch.rand(weight.shape, generator=draw) >= share)


def csr_of(weight: Tensor) -> Tensor:
    """Its rows as a CSR matrix with indices of 32 bits."""
    csr = weight.flatten(1).to_sparse_csr()
    return torch.sparse_csr_tensor(csr.crow_indices().int(), csr.col_indices().int(), csr.values(), csr.shape)


def linear_pair(x: Tensor, weight: Tensor) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """A dense and a sparse linear layer."""
    csr = csr_of(weight)
    return lambda: F.linear(x, weight), lambda: (csr @ x.t()).t()


def convolution_pair(x: Tensor, weight: Tensor) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """A dense and a sparse convolution."""
    csr, kernel = csr_of(weight), weight.shape[-1]

    def sparse() -> Tensor:
        columns = F.unfold(x, kernel, padding=kernel // 2) if kernel > 1 else x.flatten(2)
        y = csr @ columns.transpose(0, 1).reshape(csr.shape[1], -1)
        return y.view(-1, len(x), *x.shape[2:]).transpose(0, 1)

    return lambda: F.conv2d(x, weight, padding=kernel // 2), sparse


def speedup(dense: Callable[[], Tensor], sparse: Callable[[], Tensor]) -> float:
    """How many times as fast the sparse one is."""
    least = [float("inf"), float("inf")]
    with torch.inference_mode():
        torch.testing.assert_close(sparse(), dense(), rtol=1e-3, atol=1e-2)
        for _ in range(ROUNDS):
            for place, call in enumerate((dense, sparse)):
                started = time.perf_counter()
                call()
                least[place] = min(least[place], time.perf_counter() - started)
    return least[0] / least[1]


if __name__ == "__main__":
    main()
