"""GPUs are leased, one to a process."""

from __future__ import annotations

import os

import torch

from resources.device import Device


def test_two_processes_get_two_gpus_and_a_third_shares(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = [Device("auto", leases=tmp_path) for _ in range(3)]
    given = []
    for device in devices:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert device.name == "cuda"
        given.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert given == ["0", "1", "0"]
    for file in devices[0]._held:
        file.close()  # what the end of a process does
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert Device("cuda", leases=tmp_path).name == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_single_gpu_and_none_need_no_lease(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Device("auto", leases=tmp_path / "none").name == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Device("auto", leases=tmp_path / "none").name == "cuda"
    assert Device("cpu", leases=tmp_path / "none").name == "cpu"
    assert not (tmp_path / "none").exists()
