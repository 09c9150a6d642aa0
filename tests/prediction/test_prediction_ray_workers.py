"""How a prediction is laid on the machines of a cluster; no Ray is needed to ask."""

import pytest

from metagene_classifier.errors import ConfigError
from metagene_classifier.prediction.ray_cluster import READING_CPUS, TOKENIZING_CPUS, choose_workers

LAPTOP = [{"CPU": 2.0}]
FARM = [{"CPU": 16.0}] * 3
GPUS = [{"CPU": 32.0, "GPU": 4.0}] * 2 + [{"CPU": 8.0}]


def workers(nodes, device="auto", asked=None, threads=8):
    return choose_workers(nodes, device=device, asked=asked, threads=threads)


def test_each_gpu_gets_a_worker_and_each_machine_without_any():
    assert (workers(GPUS).scoring, workers(GPUS).gpus) == (8, 1)
    assert workers(GPUS, asked=3).scoring == 3
    assert (workers(FARM).scoring, workers(FARM).gpus, workers(FARM).threads) == (3, 0, 8)
    assert (workers(GPUS, device="cpu").scoring, workers(GPUS, device="cpu").gpus) == (3, 0)


def test_a_worker_of_a_cpu_counts_with_as_many_threads_as_a_single_process_has_if_it_is_alone():
    assert workers(LAPTOP, threads=2).threads == 2
    assert workers(FARM, asked=6).threads == 8
    assert workers(FARM, asked=12).threads == 4


@pytest.mark.parametrize("nodes", [[{"CPU": 1.0}], LAPTOP, FARM, [{"CPU": 64.0}], [{"CPU": 2.0}, {"CPU": 48.0}]])
@pytest.mark.parametrize("asked", [None, 1, 2])
def test_all_of_it_fits_at_once_so_that_no_stage_waits_for_another_for_ever(nodes, asked):
    cpus = sum(node["CPU"] for node in nodes)
    if asked == 2 and cpus == 1:
        with pytest.raises(ConfigError, match="--workers 2: too many for the 1 CPUs"):
            workers(nodes, asked=asked)
        return
    laid = workers(nodes, asked=asked)
    assert laid.scoring * laid.cpus + READING_CPUS + TOKENIZING_CPUS <= cpus
    assert laid.cpus <= min(node["CPU"] for node in nodes)
    assert laid.cpus < 1 or laid.cpus == int(laid.cpus)
    assert laid.tokenizing >= 1


def test_what_the_cluster_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="--workers 9: the cluster has 8 GPUs"):
        workers(GPUS, asked=9)
    with pytest.raises(ConfigError, match="the cluster has no GPU: use --device cpu"):
        workers(FARM, device="cuda")
    with pytest.raises(ConfigError, match="--device auto, cuda or cpu, not cuda:1"):
        workers(GPUS, device="cuda:1")
    with pytest.raises(ConfigError, match="no machine with a free CPU"):
        workers([{"GPU": 1.0}])
