"""Several processes, one for each GPU: how they start, what each gets, and how their gradients become one.

Without torchrun there is one process, rank 0 of 1, and every function here is nearly nothing.
"""

import os
import sys

import torch
import torch.distributed as dist

from common import UserError


def init_processes(device):
    """Join the other processes if torchrun started this one -> this one's device: cuda becomes cuda:1, ...

    Only rank 0 goes on writing to stdout.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return device
    if device == "mps":
        raise UserError("torchrun: gradients on mps can't be added up; take one process, or --device cpu")
    if device == "cuda":
        if int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
            raise UserError(f"torchrun: {torch.cuda.device_count()} GPUs here, --nproc-per-node asks for more")
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    if dist.get_rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return device


def rank():
    return dist.get_rank() if dist.is_initialized() else 0


def world_size():
    return dist.get_world_size() if dist.is_initialized() else 1


def any_rank(flag):
    """Whether the flag is true in any of the processes; all of them ask together."""
    flag = torch.tensor(int(bool(flag)))
    if dist.is_initialized():
        dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def my_share(batch):
    """This process's part of a NamedTuple of tensors."""
    return type(batch)(*(x.chunk(world_size())[rank()] for x in batch))


def to_device(batch, device):
    """A NamedTuple of tensors on the device; on CUDA the CPU doesn't wait for it."""
    cuda = device.startswith("cuda")
    return type(batch)(*((x.pin_memory() if cuda else x).to(device, non_blocking=cuda) for x in batch))


def average_gradients(network):
    """Under torchrun each process has the gradients of its share of the batch: all go on with their mean."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in network.parameters()]
    flat = torch.cat([g.flatten() for g in gradients])  # one message instead of dozens
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.div_(world_size()).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
