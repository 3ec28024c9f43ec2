"""Freed memory stays with the process while networks compute, and not longer."""

from __future__ import annotations

import ctypes
import resource

import psutil
import pytest
import torch

from adjobs import allocator
from adjobs.allocator import freed_memory_kept

MIB = 1 << 20
BLOCK = 64 * MIB  # above what glibc keeps by itself

needs_glibc = pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")


def faults_of_blocks(count: int) -> int:
    """Pages that the kernel provides for blocks that are filled and freed, one after the other."""
    libc = allocator._glibc()
    assert libc is not None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        block = libc.malloc(BLOCK)
        ctypes.memset(block, 1, BLOCK)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return psutil.Process().memory_info().rss


@needs_glibc
def test_pages_of_freed_blocks_are_used_again():
    with freed_memory_kept():
        faults_of_blocks(1)
        assert faults_of_blocks(8) < BLOCK // resource.getpagesize()  # fewer than one block has; without, all eight


@needs_glibc
def test_memory_goes_back_at_the_end_of_the_outermost_use():
    before = resident()
    with freed_memory_kept():
        with freed_memory_kept():
            blocks = [torch.ones(BLOCK, dtype=torch.uint8) for _ in range(4)]
            del blocks
        assert resident() > before + 3 * BLOCK
    assert resident() < before + BLOCK


@needs_glibc
def test_an_error_ends_the_use():
    with pytest.raises(KeyError), freed_memory_kept():
        raise KeyError
    assert not allocator._uses


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with freed_memory_kept():
        assert not allocator._uses
