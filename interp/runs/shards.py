"""Runs on a Ray cluster: a replica of the model in every worker, jobs distributed one by one, results in the order of the jobs.

`connect` opens a cluster and yields `Shards`, whose `map` runs any job over many arguments and whose `answer` generates the replies of
a run in place of `interp.runs.execution.answer_here`. The driver alone writes to disk.
"""

import logging
import os
import socket
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, final

import torch

from interp.interventions.method import Method
from interp.loading import load
from interp.models.model import Model
from interp.runs import identity
from interp.runs.execution import AnsweredBatches, answer_batch
from interp.runs.row import Cost, Row, build_failed_row
from interp.runs.spec import RunSpec

_AUTO = "auto"
"""The address of the cluster that this machine belongs to."""
MAX_DEATHS = 3
"""How many workers may die on one job, or in a row while they load the model, before it is given up."""
_TIMEOUT = 5.0
"""Seconds to wait for an address to answer."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""The start of an HTTP/2 connection, which Ray speaks: the preface and an empty SETTINGS frame (RFC 9113, section 3.4)."""
_SETTINGS_FRAME = b"\4"
"""The type of the SETTINGS frame that an HTTP/2 server answers with."""
_WARN_AFTER = 30.0
"""Seconds without any ready replica before a warning."""

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class LostJob:
    """A job without a result, and the reason."""

    reason: str


@final
class Replica:
    """A worker of the cluster: the model, loaded there, and one thread."""

    def __init__(self, folder: str) -> None:
        """Change to the folder of the driver, where it exists, so that relative paths mean the same."""
        if Path(folder).is_dir():
            os.chdir(folder)
        torch.set_num_threads(1)
        self.model: Model | None = None

    def load(self, loaded: Mapping[str, Any]) -> dict[str, Any]:
        """Load the model and return its identity.

        Raises:
            RuntimeError: a GPU is requested, but torch finds none.
        """
        if loaded["device_map"] is not None and not torch.cuda.is_available():
            raise RuntimeError(
                f"{socket.gethostname()} offers GPUs to the cluster, but torch {torch.__version__} finds none: install a "
                "build of torch for its GPUs and driver, or start the node with --num-gpus=0"
            )
        self.model = load(**loaded)
        return replica_identity(self.model)

    def work(self, job: Callable[..., Any], given: Sequence[Any]) -> tuple[Any, list[Warning]]:
        """Return the result of a job on the model and the given arguments, and its warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            result = job(self.model, *given)
        return result, [w.message for w in caught if isinstance(w.message, Warning)]


def replica_identity(model: Model) -> dict[str, Any]:
    """Return what replicas must have in common for their results to be interchangeable."""
    return {**identity.model_identity(model), "versions": identity.package_versions()}


@final
class Shards:
    """The replicas of a model; started when there is work, kept until `close`.

    Args:
        ray: the module ray, connected.
        loaded: the arguments of `interp.load` in every worker.
        expected: the `replica_identity` that every replica must have.
        room: how many replicas fit on the cluster.
        gpus: GPUs per replica.
    """

    def __init__(
        self, ray: Any, loaded: Mapping[str, Any], expected: Mapping[str, Any], *, room: int, gpus: float
    ) -> None:
        """Store the settings; replicas start with the first work."""
        self._ray, self._loaded, self._expected, self._room = ray, loaded, expected, room
        self._replica = ray.remote(num_cpus=1, num_gpus=gpus)(Replica)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._died = 0

    def map(self, job: Callable[..., Any], given: Sequence[Sequence[Any]]) -> Iterator[Any]:
        """Yield the result of a job for every entry of `given`, in that order; `LostJob` where no worker survived it.

        Args:
            job: a function that the workers can import; it is called with the model and the arguments of one entry.
            given: the arguments of every call.

        Raises:
            ValueError: a replica loaded another model than the driver.
            RuntimeError: workers die while they load the model.
            Exception: any exception of the job.
        """
        waiting, tries, doing, done = deque(range(len(given))), Counter[int](), dict[Any, Any](), dict[int, Any]()
        try:
            for turn in range(len(given)):
                while turn not in done:
                    self._fill(min(self._room - len(doing), len(waiting)))
                    while waiting and self._idle:
                        place, worker = waiting.popleft(), self._idle.pop()
                        doing[worker.work.remote(job, given[place])] = place, worker
                    answer = self._first(doing)
                    if answer is None:
                        continue
                    place, worker = doing.pop(answer)
                    try:
                        done[place] = self._worked(answer)
                        self._idle.append(worker)
                    except self._ray.exceptions.RayError as error:
                        tries[place] += 1
                        if tries[place] < MAX_DEATHS:
                            _log.warning("a worker died; its job goes to another worker: %s", _line(error))
                            waiting.appendleft(place)
                        else:
                            done[place] = LostJob(f"{MAX_DEATHS} workers died on it: {_line(error)}")
                yield done.pop(turn)
        finally:
            for _, worker in doing.values():  # the caller stopped early; their results are not needed
                self._ray.kill(worker)

    def answer(self, spec: RunSpec, method: Method | None, first: int, begun: bool) -> AnsweredBatches:
        """Yield what `interp.runs.execution.answer_here` yields, computed by the replicas."""
        settings = {
            n: getattr(spec, n) for n in ("benchmark", "batch_size", "seed", "options", "system_prompt", "attention")
        }
        left = deque((settings, method, index, samples) for index, samples in list(enumerate(spec.batches()))[first:])
        self._fill(min(self._room, len(left)))
        while left:
            # The first batch goes alone until there is a reply: an error that all samples share is raised before the rest is sent.
            now = list(left) if begun else [left[0]]
            for (*_, index, samples), answer in zip(
                now, self.map(_answer_batch, [(*n, begun) for n in now]), strict=True
            ):
                left.popleft()
                if isinstance(answer, LostJob):
                    yield [build_failed_row(s, RuntimeError(answer.reason)) for s in samples], Cost(index, 0, 0, 0.0, 0)
                    continue
                begun = begun or any(not r.error for r in answer[0])
                yield answer

    def close(self) -> None:
        """Stop the replicas."""
        for worker in [*self._idle, *self._starting.values()]:
            self._ray.kill(worker)
        self._idle, self._starting = [], {}

    def _fill(self, wanted: int) -> None:
        """Start replicas until `wanted` are idle or starting."""
        for _ in range(wanted - len(self._idle) - len(self._starting)):
            worker = self._replica.remote(str(Path.cwd()))
            self._starting[worker.load.remote(self._loaded)] = worker

    def _first(self, doing: Mapping[Any, Any]) -> Any:
        """Return a finished job; None when none has finished, such as when a replica became ready instead."""
        ready, _ = self._ray.wait([*doing, *self._starting], timeout=_WARN_AFTER)
        if not ready and not doing:
            _log.warning("no replica is ready: the model is still loading, or all workers of the cluster are busy")
        if ready and ready[0] in self._starting:
            self._welcome(ready[0])
            return None
        return ready[0] if ready else None

    def _welcome(self, answer: Any) -> None:
        worker = self._starting.pop(answer)
        try:
            found = self._result(answer)
        except self._ray.exceptions.RayError as error:
            self._died += 1
            if self._died == MAX_DEATHS:
                raise RuntimeError(
                    f"{MAX_DEATHS} workers in a row died while they loaded {self._loaded['source']}: {_line(error)} "
                    "Each needs memory for the whole model; start the node with a smaller --num-cpus to have fewer replicas on it"
                ) from error
            return
        other = sorted(n for n in self._expected if found.get(n) != self._expected[n])
        if other:
            differences = "; ".join(f"{n}: {found.get(n)} there, {self._expected[n]} here" for n in other)
            raise ValueError(
                f"a worker's {self._loaded['source']} differs from the driver's ({differences}); give all nodes the same "
                "files and packages; save a model that was changed after loading into a folder, and load it from there"
            )
        self._died = 0
        self._idle.append(worker)

    def _worked(self, answer: Any) -> Any:
        """Return the result of a job, and repeat its warnings in this process."""
        result, caught = self._result(answer)
        for warning in caught:
            warnings.warn(warning, stacklevel=2)
        return result

    def _result(self, answer: Any) -> Any:
        """Return a result.

        Raises:
            RayError: the worker died.
            Exception: the exception that the job raised.
        """
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error


@contextmanager
def connect(model: Model, address: str | None, gpus_per_replica: float = 0.0) -> Iterator[Shards | None]:
    """Yield the replicas of a model on the cluster at an address, or None without an address.

    Args:
        model: the model; replicas load it by the same name or folder.
        address: `auto` for the cluster that this machine belongs to, or its HOST:PORT.
        gpus_per_replica: GPUs per replica; with 0, replicas run on CPUs.

    Raises:
        ConnectionError: no cluster answers.
        ImportError: Ray is not installed.
        ValueError: a model that was not loaded by name, a missing GPU, or an invalid address.
    """
    if address is None:
        if gpus_per_replica:
            raise ValueError(
                f"gpus_per_replica={gpus_per_replica} is for replicas on a cluster; name the cluster: ray='auto' or HOST:PORT"
            )
        yield None
        return
    loaded = _loaded(model, gpus_per_replica)
    ray = _ray()
    ours = _connect(ray, address)
    try:
        expected = replica_identity(model) | {"device": device_kind(model, gpus_per_replica)}
        shards = Shards(ray, loaded, expected, room=_room(ray, gpus_per_replica), gpus=gpus_per_replica)
        try:
            yield shards
        finally:
            shards.close()
    finally:
        if ours:
            ray.shutdown()


def device_kind(model: Model, gpus_per_replica: float) -> str:
    """Return the kind of device that generates the replies."""
    return "cuda" if gpus_per_replica else model.device.type


def _answer_batch(
    model: Model, settings: dict[str, Any], method: Method | None, index: int, samples: Sequence[Any], begun: bool
) -> tuple[list[Row], Cost]:
    return answer_batch(RunSpec(model, samples=samples, data="", **settings), method, index, samples, begun=begun)


def _loaded(model: Model, gpus: float) -> dict[str, Any]:
    """Return the arguments of `interp.load` in a worker."""
    if model.loaded is None:
        raise ValueError(
            f"{model.name} was built from objects, which cannot be sent to other machines: save model and processor with "
            "save_pretrained(FOLDER) where all machines can read it, and load it from there: interp.load(FOLDER)"
        )
    if gpus < 0:
        raise ValueError(f"gpus_per_replica is 0 or more, got {gpus}")
    if gpus == 0 and model.device.type != "cpu":
        raise ValueError(
            f"{model.name} is on {model.device}, but gpus_per_replica=0 puts its replicas on CPUs; give gpus_per_replica=1"
        )
    return {**model.loaded, "device_map": None if gpus == 0 else "cuda:0" if gpus <= 1 else "auto"}


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("a cluster needs Ray, which is not installed: pip install 'interp[ray]'") from error
    return ray


def _connect(ray: Any, address: str) -> bool:
    """Connect this process to a cluster; return whether this call made the connection."""
    if ray.is_initialized():
        if address != _AUTO:
            raise ValueError(
                f"this process is already connected to a Ray cluster; give ray='{_AUTO}' for that one, not {address!r}"
            )
        return False
    found = os.environ.get("RAY_ADDRESS", _AUTO) if address == _AUTO else address
    if found != _AUTO:
        _reach(found)
    try:
        ray.init(address=found, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise ConnectionError(
            f"no connection to a Ray cluster with {address!r}: {_line(error)} Start a cluster with ray start --head, add other machines "
            "with ray start --address=HOST:PORT, and run this on one of them"
        ) from error
    return True


def _reach(address: str) -> None:
    """Refuse an address that does not answer; Ray itself would retry it for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError(f"a Ray cluster is '{_AUTO}' or HOST:PORT, as ray start --head prints it, not {address!r}")
    try:
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT) as line:
            line.settimeout(_TIMEOUT)
            line.sendall(_PREFACE)
            if os.environ.get("RAY_USE_TLS", "0") == "0" and line.recv(9)[3:4] != _SETTINGS_FRAME:
                raise ConnectionError("the server there is not Ray")
    except OSError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}): check that it runs (ray status --address {address}), that "
            "the port is open between the machines, and which address ray start --head printed"
        ) from error


def _room(ray: Any, gpus: float) -> int:
    """Return how many replicas fit on the nodes: one per CPU, or one per `gpus` GPUs."""
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    room = sum(int(min(n.get("CPU", 0), n.get("GPU", 0) / gpus if gpus else inf)) for n in nodes)
    if room == 0:
        available = ", ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise ValueError(
            f"no node of the cluster has a CPU and {gpus:g} GPUs for a replica; they have {available}. Give a smaller gpus_per_replica "
            "(0: replicas on CPUs), or add a node: ray start --address=HOST:PORT --num-gpus=N"
        )
    return room


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") + "."
