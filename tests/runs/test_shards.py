"""Work that is shared out: the order of results on a stand-in for Ray, everything else on a real cluster of two nodes."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

import interp
from interp.bench.base import Benchmark, Counts, Reading, Sample
from interp.bench.steps import Steps
from interp.cli.app import main
from interp.runs import shards as module
from interp.runs.execution import execute
from interp.runs.prompt_sweep import sweep_heads
from interp.runs.shards import MAX_DEATHS, LostJob, Replica, Shards, connect, device_kind
from interp.runs.spec import build_spec

# ------------------------------------------------------------------------------------------------ the order of results


class DiedError(Exception):
    """A worker died."""


class ToldError(DiedError):
    """A worker says what went wrong in it."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class InTurn:
    """Ray as far as shards know it: answers come in an order that is drawn; a job that raises `DiedError` ends its worker."""

    exceptions = SimpleNamespace(RayError=DiedError, RayTaskError=ToldError)

    def __init__(self, seed: int = 0, load: Callable[[Any], Any] = lambda given: {}) -> None:
        self.draw, self.load, self.calls, self.killed, self.started = np.random.default_rng(seed), load, {}, [], 0
        self.dead: set[int] = set()
        self.job = lambda job, given: Replica.work(SimpleNamespace(model=None), job, given)

    def remote(self, **_: Any) -> Any:
        return lambda kind: SimpleNamespace(remote=lambda folder: self.worker())

    def worker(self) -> Any:
        self.started += 1
        name = self.started
        call = lambda f, *given: self.ref(name, lambda: f(*given))  # noqa: E731
        load = SimpleNamespace(remote=lambda told: call(self.load, told))
        work = SimpleNamespace(remote=lambda job, given: call(self.job, job, given))
        return SimpleNamespace(name=name, load=load, work=work)

    def ref(self, worker: int, call: Callable[[], Any]) -> object:
        assert worker not in self.dead
        answer = object()
        self.calls[answer] = worker, call
        return answer

    def wait(self, answers: Sequence[object], timeout: float) -> tuple[list[object], list[object]]:
        ready = answers[self.draw.integers(len(answers))]
        return [ready], [a for a in answers if a is not ready]

    def get(self, answer: object) -> Any:
        worker, call = self.calls.pop(answer)
        try:
            return call()
        except DiedError:
            self.dead.add(worker)
            raise

    def kill(self, worker: Any) -> None:
        self.killed.append(worker.name)


def shared(ray: InTurn, room: int = 2, **expected: Any) -> Shards:
    return Shards(ray, {"source": "scenes"}, expected, room=room, gpus=0.0)


@given(some.lists(some.integers(0, MAX_DEATHS + 1), max_size=8), some.integers(1, 4), some.integers(0, 99))
def test_results_come_in_order_each_once_whoever_dies(deaths, room, seed) -> None:
    tried: Counter[int] = Counter()

    def job(model: None, place: int) -> int:
        tried[place] += 1
        if tried[place] <= deaths[place]:
            raise DiedError
        return place

    ray = InTurn(seed)
    every = shared(ray, room)
    found = list(every.map(job, [(i,) for i in range(len(deaths))]))
    assert [f for f, d in zip(found, deaths, strict=True) if d < MAX_DEATHS] == [
        i for i, d in enumerate(deaths) if d < MAX_DEATHS
    ]
    assert all(isinstance(f, LostJob) == (d >= MAX_DEATHS) for f, d in zip(found, deaths, strict=True))
    assert [tried[i] for i in range(len(deaths))] == [min(d, MAX_DEATHS - 1) + 1 for d in deaths]
    assert ray.started - len(ray.dead) <= room
    every.close()
    assert not set(range(1, ray.started + 1)) - ray.dead - set(ray.killed)


def test_who_stops_listening_lets_the_busy_workers_go() -> None:
    ray = InTurn()
    each = shared(ray, room=3).map(lambda model, i: i, [(i,) for i in range(9)])
    assert next(each) == 0
    before = len(ray.killed)
    each.close()
    assert len(ray.killed) > before


def test_what_goes_wrong_in_a_job_is_raised_here() -> None:
    def job(model: None) -> None:
        raise ToldError(KeyError("its own"))

    with pytest.raises(KeyError, match="its own"):
        list(shared(InTurn()).map(job, [()]))


def test_warnings_of_a_job_are_repeated_here() -> None:
    def job(model: None) -> int:
        warnings.warn("nothing changed", UserWarning, stacklevel=1)
        return 1

    with pytest.warns(UserWarning, match="nothing changed"):
        assert list(shared(InTurn()).map(job, [()])) == [1]


def test_a_batch_over_which_workers_died_is_recorded_and_the_run_goes_on(scenes, tmp_path) -> None:
    ray, seen = InTurn(), []

    def work(job: Any, given: Any) -> Any:
        seen.append(given[2])
        if given[2] == 1:
            raise DiedError("gone")
        return job(scenes, *given), []

    ray.job = work
    what = build_spec(scenes, Steps(n=4), batch_size=1, options={"max_new_tokens": 3})
    run = execute(what, None, tmp_path, answerer=shared(ray).answer)
    assert [bool(r.error) for r in run.rows()] == [False, True, False, False]
    assert run.rows()[1].error == "RuntimeError: 3 workers died on it: gone."
    assert Counter(seen) == {0: 1, 1: MAX_DEATHS, 2: 1, 3: 1}
    assert [c.samples for c in run.costs()] == [1, 0, 1, 1]


def test_an_error_that_all_samples_share_stops_a_shared_run_at_the_first_batch(scenes, tmp_path) -> None:
    ray, seen = InTurn(), []

    def work(job: Any, given: Any) -> Any:
        seen.append(given[2])
        try:
            return job(scenes, *given), []
        except ValueError as error:
            raise ToldError(error) from error

    ray.job = work
    what = build_spec(scenes, Steps(n=4), batch_size=1, options={"repetition_penalty": -1.0})
    with pytest.raises(ValueError, match="penalty"):
        execute(what, None, tmp_path, answerer=shared(ray).answer)
    assert seen == [0]


def test_workers_that_die_while_they_load_are_given_up() -> None:
    def die(given: Any) -> None:
        raise DiedError("out of memory\nand more")

    ray = InTurn(load=die)
    with pytest.raises(
        RuntimeError, match=rf"{MAX_DEATHS} workers .* died while they loaded scenes: out of memory\. Each needs mem"
    ):
        list(shared(ray, room=1).map(lambda model: 1, [()]))
    assert ray.started == MAX_DEATHS


def test_another_model_than_the_drivers_is_refused() -> None:
    ray = InTurn(load=lambda given: {"weights": "b", "dtype": "float32"})
    with pytest.raises(ValueError, match=r"a worker's scenes differs from the driver's \(weights: b there, a here\)"):
        list(shared(ray, weights="a", dtype="float32").map(lambda model: 1, [()]))


def test_a_long_time_without_workers_gives_a_warning(monkeypatch, caplog) -> None:
    ray = InTurn()
    plain, waited = ray.wait, []
    monkeypatch.setattr(
        ray, "wait", lambda a, timeout: plain(a, timeout) if waited else (waited.append(timeout) or [], a)
    )
    with caplog.at_level(logging.WARNING):
        assert list(shared(ray).map(lambda model: 1, [()])) == [1]
    assert "no replica is ready" in caplog.text


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.fixture(scope="module")
def scenes() -> Any:
    return interp.load("scenes")


def enter(*given: Any) -> None:
    with connect(*given):
        pytest.fail("it was not refused")


def test_without_ray_it_says_what_to_install(scenes, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'interp\[ray\]'"):
        enter(scenes, "auto")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A port that is open, and says nothing by itself."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def test_an_address_that_does_not_answer_is_refused_soon(scenes, server, monkeypatch) -> None:
    address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    with pytest.raises(ConnectionError, match=rf"no Ray cluster answers at {address} \(timed out\)"):
        enter(scenes, address)
    server.close()
    with pytest.raises(ConnectionError, match=rf"answers at {address} \(.*refused\): check that it runs"):
        enter(scenes, address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConnectionError, match=rf"no Ray cluster answers at {address}"):
        enter(scenes, "auto")


def test_another_server_is_no_cluster(scenes, server, forked) -> None:
    def answer() -> None:
        line, _ = server.accept()
        line.sendall(b"220 mail.example ready\r\n")

    child = forked(answer)
    with pytest.raises(ConnectionError, match="the server there is not Ray"):
        enter(scenes, f"127.0.0.1:{server.getsockname()[1]}")
    os.waitpid(child, 0)


@pytest.mark.parametrize("address", ["there", "there:", "ray://there:10001", ":6379"])
def test_an_address_is_a_host_and_a_port(scenes, address) -> None:
    with pytest.raises(ValueError, match=rf"a Ray cluster is 'auto' or HOST:PORT.*not '{address}'"):
        enter(scenes, address)


def test_a_process_that_is_connected_stays_so(scenes, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    with pytest.raises(ValueError, match="already connected to a Ray cluster; give ray='auto'"):
        enter(scenes, "127.0.0.1:6379")


def test_a_machine_without_a_cluster_is_told_how_to_start_one(scenes, monkeypatch) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance. Specify\nmore.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(
        ConnectionError, match=r"to a Ray cluster with 'auto': Could .* Specify\. Start a cluster with ray start --head"
    ):
        enter(scenes, "auto")


def test_a_model_that_was_handed_over_cannot_travel(model_of) -> None:
    with pytest.raises(ValueError, match=r"was built from objects.*save_pretrained\(FOLDER\).*interp.load\(FOLDER\)"):
        enter(model_of("llava"), "auto")


def test_gpus_are_for_replicas(scenes, monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"gpus_per_replica=1.0 is for replicas on a cluster"):
        enter(scenes, None, 1.0)
    with pytest.raises(ValueError, match="gpus_per_replica is 0 or more, got -1"):
        enter(scenes, "auto", -1.0)
    monkeypatch.setattr(interp.Model, "device", torch.device("cuda"))
    with pytest.raises(ValueError, match="scenes is on cuda, but gpus_per_replica=0 puts its replicas on CPUs"):
        enter(scenes, "auto")


def test_a_node_whose_gpus_torch_does_not_find_is_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        RuntimeError, match=f"{socket.gethostname()} offers GPUs to the cluster, but torch .* finds none"
    ):
        Replica("/nowhere").load({"source": "scenes", "device_map": "cuda:0"})


def test_stability_is_that_of_this_machine(capsys) -> None:
    assert main(["compare", "--bench", "steps", "--stability", "--ray", "auto"]) != 0
    assert "--stability compares computations on this machine; leave --ray out" in capsys.readouterr().err


def test_where_replies_are_computed_is_a_part_of_what_a_run_is(scenes) -> None:
    what = build_spec(scenes, Steps(n=2))
    assert replace(what, device=device_kind(scenes, 0.0)).identity(None) == what.identity(None)
    assert replace(what, device=device_kind(scenes, 1.0)).identity(None)["device"] == "cuda"


def test_a_folder_is_loaded_from_anywhere(scenes, tmp_path, monkeypatch) -> None:
    scenes.module.save_pretrained(tmp_path / "saved")
    scenes.processor.save_pretrained(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    loaded = interp.load("saved", dtype="float32").loaded
    assert loaded["source"] == str(tmp_path / "saved")
    assert module.replica_identity(interp.load(**loaded, device_map=None)) == module.replica_identity(scenes)
    assert interp.load("saved", processor=scenes.processor).loaded is None


# ------------------------------------------------------------------------------------------------------- a real cluster


def users(folder: str) -> set[int]:
    """Return the other processes that have a file below a folder open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink().is_relative_to(folder):
                found.add(int(link.parts[2]))
    return found - {os.getpid()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with one CPU each; nothing of it is left behind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        session = made.head_node.get_session_dir_path()
        assert users(session) or not Path("/proc").is_dir()  # else what is left behind would not be seen
        yield made.address
        made.shutdown()
    end = time.monotonic() + 20
    while users(session) and time.monotonic() < end:
        time.sleep(0.1)
    assert not users(session)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leave out what Ray warns of for itself, and its threads' sockets."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*accelerator visible devices.*", category=FutureWarning)
        yield


@final
@dataclass(frozen=True)
class Perilous(Benchmark):
    """Questions about noise; the first worker that looks at a perilous one is killed."""

    folder: str
    driver: int
    peril: str
    longest: int = 6

    def samples(self) -> Sequence[Sample]:
        return [Sample(f"q{i}", "What do you see?", f"{i}") for i in range(7)]

    def image(self, sample: Sample) -> Any:
        if os.getpid() != self.driver:
            seen = Path(self.folder) / f"{sample.id}-{os.getpid()}-{torch.get_num_threads()}"
            first = not list(Path(self.folder).glob(f"{sample.id}-*"))
            seen.touch()
            if first and sample.id == self.peril:
                os.kill(os.getpid(), signal.SIGKILL)
        return np.random.default_rng(int(sample.image)).integers(0, 255, (64, 64, 3), dtype=np.uint8)

    def read(self, reply: str, sample: Sample) -> Reading:
        return {"length": len(reply)}

    def count(self, group: Sequence[tuple[Sample, Reading]]) -> dict[str, float]:
        return {"n": float(len(group)), "length": float(sum(r["length"] for _, r in group))}

    def scores(self, counts: Counts) -> dict[str, np.ndarray]:
        return {"length": np.asarray(counts["length"] / counts["n"])}


def rows(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every run's rows by the run's name."""
    return {p.parent.name: p.read_bytes() for p in folder.glob("*/rows.jsonl")}


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_loses_nothing_and_duplicates_nothing(
    scenes, cluster, tmp_path, monkeypatch
) -> None:
    from ray import cloudpickle

    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    settings = {"batch_size": 2, "do_sample": True, "seed": 3}
    perilous = Perilous(str(seen), os.getpid(), "q3")
    local = execute(
        build_spec(scenes, perilous, batch_size=2, seed=3, options={"do_sample": True}), None, tmp_path / "local"
    )
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers have no such module
    try:
        interp.run(scenes, perilous, folder=tmp_path / "shared", progress=False, ray="auto", **settings)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert rows(tmp_path / "shared") == {local.name: (local.path / "rows.jsonl").read_bytes()}
    looked = [p.name.split("-") for p in seen.iterdir()]
    assert len({pid for sample, pid, _ in looked if sample == "q3"}) == 2
    assert {sample: n for sample, n in Counter(s for s, *_ in looked).items() if n > 1} == {"q2": 2, "q3": 2}
    assert len({pid for _, pid, _ in looked}) >= 2
    assert {threads for *_, threads in looked} == {"1"}


@pytest.mark.slow
def test_a_driver_killed_in_the_middle_goes_on_to_the_same_bytes(scenes, cluster, tmp_path) -> None:
    call = [
        "compare",
        "--bench",
        "steps:n=6",
        "--batch-size",
        "1",
        "--folder",
        "shared",
        "--format",
        "csv",
        "--ray",
    ]
    program = [sys.executable, "-c", "import sys; from interp.cli.app import main; sys.exit(main())", *call, cluster]
    started = subprocess.Popen(
        program, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    while started.poll() is None and sum(r.count(b"\n") for r in rows(tmp_path / "shared").values()) < 2:
        time.sleep(0.05)
    started.kill()
    said = started.communicate()[1]
    assert started.returncode == -signal.SIGKILL, said
    settings = {"batch_size": 1, "progress": False}
    interp.run(scenes, "steps:n=6", folder=tmp_path / "local", **settings)
    whole, part = rows(tmp_path / "local"), rows(tmp_path / "shared")
    assert all(whole[name].startswith(kept) for name, kept in part.items())
    assert part != whole
    interp.run(scenes, "steps:n=6", folder=tmp_path / "shared", ray=cluster, **settings)
    assert rows(tmp_path / "shared") == whole


@pytest.mark.slow
def test_heads_are_erased_by_the_cluster_as_here(scenes, cluster, tmp_path) -> None:
    picture = interp.world.scenes("test", 1, 0)[0].image
    asked = [scenes.prepare(picture, "What do you see?").with_response(ids) for ids in ([5, 6], [7, 8])]
    some_heads = [(0, 1), (7, 2)]
    settings = {"heads": some_heads, "progress": False}
    local = sweep_heads(scenes, [*asked, scenes.prepare(picture, "What?")], folder=tmp_path / "local", **settings)
    there = sweep_heads(
        scenes, [*asked, scenes.prepare(picture, "What?")], folder=tmp_path / "there", ray=cluster, **settings
    )
    for one, other in zip(local, there, strict=True):
        torch.testing.assert_close(one.erased, other.erased, rtol=0, atol=0, equal_nan=True)
    assert there.failed == local.failed
    assert [f.sample for f in there.failed] == [2]


def test_gpus_that_no_node_has_are_refused(scenes, cluster) -> None:
    with pytest.raises(
        ValueError, match="no node of the cluster has a CPU and 2 GPUs for a replica; they have 1 CPUs and 0 GPUs, 1"
    ):
        enter(scenes, cluster, 2.0)
