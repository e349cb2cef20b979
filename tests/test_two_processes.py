"""Two processes that share a batch learn what one learns with group norm, not with batch norm."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from torch import nn

from course_utils.attention import ECA
from course_utils.senet import SEResNet

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel
sys.path.insert(0, sys.argv[1])
from test_two_processes import batch, build, gradients

rank = int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)
found = {}
for norm in ("group", "batch"):
    model = DistributedDataParallel(build(norm))
    x, y = batch()
    found[norm] = gradients(model, x[rank * 4 : rank * 4 + 4], y[rank * 4 : rank * 4 + 4])
try:
    DistributedDataParallel(torch.nn.SyncBatchNorm.convert_sync_batchnorm(build("batch")))(x)
except ValueError as error:
    refused = str(error)
if rank == 0:
    save_file(found, sys.argv[4], metadata={"refused": refused})
dist.destroy_process_group()
"""
NORMS = {"group": lambda channels: nn.GroupNorm(4, channels), "batch": nn.BatchNorm2d}


def build(norm):
    torch.manual_seed(0)
    return SEResNet(width=16, blocks=(1, 1), attention=ECA, norm=NORMS[norm])


def batch():
    rng = torch.Generator().manual_seed(1)
    return torch.randn(8, 1, 16, 16, generator=rng), torch.rand(8, 1, generator=rng).round()


def gradients(model, x, y):
    nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    words = [sys.executable, "-c", SCRIPT, __file__.rpartition("/")[0]]
    files = [str(folder / "meeting"), str(folder / "found.pt")]
    local = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    processes = [
        subprocess.Popen([*words, str(rank), *files], env=os.environ | local) for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    with safe_open(files[1], "pt") as file:
        return {name: file.get_tensor(name) for name in NORMS} | file.metadata()


def difference(norm, two):
    one = gradients(build(norm), *batch())
    return ((two[norm] - one).norm() / one.norm()).item()


def test_with_group_norm_two_processes_learn_what_one_does(two):
    assert difference("group", two) < 1e-5


def test_with_batch_norm_they_do_not_and_its_synchronised_form_needs_a_gpu(two):
    assert difference("batch", two) > 1e-3
    assert "only work with GPU" in two["refused"]
