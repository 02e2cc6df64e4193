"""Weights are mapped from the .pte, never copied, and an expert that no token uses is never read.

Measured in /proc/self: the mapping of the file, how much of it is resident, and the process's anonymous memory.
ExecuTorch's Python binding locks a program's pages where it may, which reads the whole file; C++ programs with
LoadMode::Mmap do not. The tests undo that (`forget`) to see what the delegate itself touches.
"""

import ctypes
import mmap
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.delegate.programs import SEGMENT_ALIGNMENT, Stack, chunk, execute, frozen, load, ops

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self")

D, F, E = 256, 4096, 8
EXPERT_BYTES = 2 * D * F * 4  # 8 MiB: Linux may map up to 2 MiB around a page that is touched
WEIGHT_BYTES = E * EXPERT_BYTES


class Wide(nn.Module):
    """One expert per input feature: x = e_i activates expert i alone."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.router = frozen(torch.eye(E, D))
        self.router_norm = frozen(torch.ones(E))
        self.up = frozen(torch.randn(E, F, D, generator=generator) / D**0.5)
        self.down = frozen(torch.randn(E, D, F, generator=generator) / F**0.5)

    def forward(self, x):
        return ops.chunk_sparse_ffn(
            x, self.router, self.router_norm, self.up, self.down, "none", 1e-5, 1.0, 1.0, "fp32"
        )


@pytest.fixture(scope="module")
def wide(lowered):
    path, delegated = lowered("wide", Wide(), (torch.zeros(2, D),))
    assert delegated == {"chunk_sparse_ffn": 1}
    return path


def mappings(path):
    """[address, bytes, resident bytes, permissions] of every mapping of the file."""
    found, current = [], None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if "-" in fields[0] and not fields[0].endswith(":"):
            current = None
            if fields[-1] == str(path):
                start, end = (int(x, 16) for x in fields[0].split("-"))
                current = [start, end - start, 0, fields[1]]
                found.append(current)
        elif current is not None and fields[0] == "Rss:":
            current[2] = int(fields[1]) * 1024
    return found


def resident(path):
    return sum(m[2] for m in mappings(path))


def forget(path):
    """Unlocks the file's pages and takes them out of this process, as if it had just been mapped."""
    libc = ctypes.CDLL(None, use_errno=True)
    for address, size, *_ in mappings(path):
        span = ctypes.c_void_p(address), ctypes.c_size_t(size)
        assert libc.munlock(*span) == 0 and libc.madvise(*span, mmap.MADV_DONTNEED) == 0, ctypes.get_errno()
    assert resident(path) == 0


def anonymous_bytes():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


def only_expert(e, tokens=1):
    return nn.functional.one_hot(torch.full((tokens,), e), D).float()


def test_weights_are_mapped_and_not_copied(wide):
    before = anonymous_bytes()
    method = load(wide)
    forget(wide)
    for e in range(E):
        execute(method, only_expert(e))
    mapped = mappings(wide)
    assert sum(m[1] for m in mapped) >= WEIGHT_BYTES
    assert all("w" not in permissions for *_, permissions in mapped)
    assert resident(wide) >= 0.9 * WEIGHT_BYTES  # they were read, through the mapping ...
    assert anonymous_bytes() - before < 0.1 * WEIGHT_BYTES  # ... and nowhere else


def test_unused_experts_are_never_paged_in(wide):
    method = load(wide)
    forget(wide)
    execute(method, -only_expert(0))
    idle = resident(wide)
    assert idle < EXPERT_BYTES  # the program, the router, and what the kernel maps around them
    execute(method, only_expert(5, tokens=8))
    grown = resident(wide) - idle
    assert 0.9 * EXPERT_BYTES < grown < 2 * EXPERT_BYTES
    execute(method, only_expert(5, tokens=8))
    assert resident(wide) - idle == grown  # nothing new for the same expert


def test_weights_lie_on_large_pages(wide, lowered):
    """Experts start on 16 KB pages of the file, the largest that phones use."""
    data = Path(wide).read_bytes()
    ffn = data.index(b"BFFF")
    experts_at, stride = (int.from_bytes(data[ffn + at : ffn + at + 8], "little") for at in (48, 56))
    assert SEGMENT_ALIGNMENT == 16384
    assert ffn % 16384 == 0 and (ffn + experts_at) % 16384 == 0 and stride % 16384 == 0


def test_the_cache_costs_memory_only_as_it_fills(lowered):
    """Nothing touches the rows of the context that no token has reached."""

    def inputs(tokens):
        return torch.zeros(1, tokens, dtype=torch.int64), *chunk(tokens, 0), torch.tensor([0])

    module = Stack("int8", context=1 << 18)  # 2^18 rows of 66 floats: 66 MiB
    path, _ = lowered("stack-long-context", module, inputs(7))
    before = anonymous_bytes()
    method = load(path)
    execute(method, *inputs(64))
    assert anonymous_bytes() - before < 16 << 20
