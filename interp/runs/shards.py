"""Work shared out over a Ray cluster: a replica of the model in every worker, jobs handed out one by one, results in their order."""

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
from interp.runs.asking import Batches, Questioning, answered
from interp.runs.row import Cost, Row, failed

AUTO = "auto"
"""The address of the cluster that this machine is a node of."""
TRIES = 3
"""How many workers may die over one job, or one after the other while they load the model, before it is given up."""
PATIENCE = 5.0
"""Seconds until an address that does not answer is given up."""
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How a connection begins in HTTP/2, which Ray speaks: its first words and an empty frame of settings (RFC 9113, 3.4)."""
SETTINGS = b"\4"
"""The kind of the frame that is the answer."""
LONG = 30.0
"""Seconds without a single replica until that is told."""

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Lost:
    """A job without a result, and why."""

    reason: str


@final
class Replica:
    """What a worker of the cluster is: the model, loaded there, and one thread."""

    def __init__(self, folder: str) -> None:
        """Begin in the folder of the driver, where the worker has it, so that relative paths mean the same."""
        if Path(folder).is_dir():
            os.chdir(folder)
        torch.set_num_threads(1)
        self.model: Model | None = None

    def load(self, loaded: Mapping[str, Any]) -> dict[str, Any]:
        """Load the model and return what decides its replies.

        Raises:
            RuntimeError: there is no GPU here, and one is asked for.
        """
        if loaded["device_map"] is not None and not torch.cuda.is_available():
            raise RuntimeError(
                f"{socket.gethostname()} offers GPUs to the cluster, but torch {torch.__version__} finds none there: install a "
                "build of torch for its GPUs and driver, or start the node with --num-gpus=0"
            )
        self.model = load(**loaded)
        return known(self.model)

    def work(self, job: Callable[..., Any], given: Sequence[Any]) -> tuple[Any, list[Warning]]:
        """Return what a job makes of the model and of what it is given, and what it warns of."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")
            made = job(self.model, *given)
        return made, [w.message for w in said if isinstance(w.message, Warning)]


def known(model: Model) -> dict[str, Any]:
    """Return what two replicas have in common when their results may stand side by side."""
    return {**identity.model_identity(model), "versions": identity.versions()}


@final
class Shards:
    """The replicas of a model; they are started when there is work, and stay until `close`.

    Args:
        ray: Ray, connected.
        loaded: what `interp.load` is given in every worker.
        expected: what `known` says of each replica.
        room: how many replicas the cluster has room for.
        gpus: how many GPUs each has.
    """

    def __init__(
        self, ray: Any, loaded: Mapping[str, Any], expected: Mapping[str, Any], *, room: int, gpus: float
    ) -> None:
        """Start nothing yet."""
        self._ray, self._loaded, self._expected, self._room = ray, loaded, expected, room
        self._replica = ray.remote(num_cpus=1, num_gpus=gpus)(Replica)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._died = 0

    def each(self, job: Callable[..., Any], given: Sequence[Sequence[Any]]) -> Iterator[Any]:
        """Return what a job makes of everything given, in that order; `Lost` where no worker survived it.

        Args:
            job: a function of a module that the workers can import; it is called with the model and one entry of `given`.
            given: the arguments of every call.

        Raises:
            ValueError: a replica that holds another model than the driver.
            RuntimeError: workers die before they have loaded the model.
            Exception: what the job raises.
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
                        if tries[place] < TRIES:
                            log.warning("a worker died; what it had begun goes to another: %s", _line(error))
                            waiting.appendleft(place)
                        else:
                            done[place] = Lost(f"{TRIES} workers died over it: {_line(error)}")
                yield done.pop(turn)
        finally:
            for _, worker in doing.values():  # nobody waits for these any more
                self._ray.kill(worker)

    def answers(self, what: Questioning, method: Method | None, first: int, begun: bool) -> Batches:
        """Return what `asking.here` returns, made by the replicas.

        One batch goes alone until there is a reply: an error that all samples share stops the run there.
        """
        told = {
            n: getattr(what, n) for n in ("benchmark", "batch_size", "seed", "options", "system_prompt", "attention")
        }
        left = deque((told, method, index, samples) for index, samples in list(enumerate(what.batches()))[first:])
        self._fill(min(self._room, len(left)))
        while left:
            now = list(left) if begun else [left[0]]
            for (*_, index, samples), answer in zip(now, self.each(_answered, [(*n, begun) for n in now]), strict=True):
                left.popleft()
                if isinstance(answer, Lost):
                    yield [failed(s, RuntimeError(answer.reason)) for s in samples], Cost(index, 0, 0, 0.0, 0)
                    continue
                begun = begun or any(not r.error for r in answer[0])
                yield answer

    def close(self) -> None:
        """Let the replicas go."""
        for worker in [*self._idle, *self._starting.values()]:
            self._ray.kill(worker)
        self._idle, self._starting = [], {}

    def _fill(self, wanted: int) -> None:
        """Start replicas until so many are free or starting."""
        for _ in range(wanted - len(self._idle) - len(self._starting)):
            worker = self._replica.remote(str(Path.cwd()))
            self._starting[worker.load.remote(self._loaded)] = worker

    def _first(self, doing: Mapping[Any, Any]) -> Any:
        """Return an answer that is there; None when something else happened."""
        ready, _ = self._ray.wait([*doing, *self._starting], timeout=LONG)
        if not ready and not doing:
            log.warning("no replica is ready: the model is still loading, or the workers of the cluster are taken")
        if ready and ready[0] in self._starting:
            self._welcome(ready[0])
            return None
        return ready[0] if ready else None

    def _welcome(self, answer: Any) -> None:
        worker = self._starting.pop(answer)
        try:
            told = self._result(answer)
        except self._ray.exceptions.RayError as error:
            self._died += 1
            if self._died == TRIES:
                raise RuntimeError(
                    f"{TRIES} workers one after the other died while they loaded {self._loaded['source']}: {_line(error)} "
                    "Each needs memory for the whole model; fewer replicas fit on a node that was started with a smaller --num-cpus"
                ) from error
            return
        other = sorted(n for n in self._expected if told.get(n) != self._expected[n])
        if other:
            said = "; ".join(f"{n}: {told.get(n)} there, {self._expected[n]} here" for n in other)
            raise ValueError(
                f"a worker's {self._loaded['source']} is another model than the driver's ({said}); give all nodes the same "
                "files and packages, and load a model that was changed after loading from a folder it was saved to"
            )
        self._died = 0
        self._idle.append(worker)

    def _worked(self, answer: Any) -> Any:
        """Return what a job made, and warn here of what it warned of there."""
        made, said = self._result(answer)
        for warning in said:
            warnings.warn(warning, stacklevel=2)
        return made

    def _result(self, answer: Any) -> Any:
        """Return a result.

        Raises:
            RayError: the worker died.
            Exception: what went wrong in it.
        """
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error


@contextmanager
def connected(model: Model, address: str | None, gpus_per_replica: float = 0.0) -> Iterator[Shards | None]:
    """While open, replicas of a model on the cluster of an address can be given work; None without an address.

    Args:
        model: the model; its replicas are loaded as it was, by name or folder.
        address: `auto` for the cluster this machine is a node of, or HOST:PORT of a cluster that it is a node of.
        gpus_per_replica: how many GPUs each replica has; with 0 they run on CPUs.

    Raises:
        ConnectionError: no cluster answers.
        ImportError: Ray is not installed.
        ValueError: a model that was not loaded by name, no GPU where one is asked for, or an address that is none.
    """
    if address is None:
        if gpus_per_replica:
            raise ValueError(
                f"gpus_per_replica={gpus_per_replica} is for replicas on a cluster; say which: ray='auto' or HOST:PORT"
            )
        yield None
        return
    loaded = _loaded(model, gpus_per_replica)
    ray = _ray()
    ours = _connect(ray, address)
    try:
        expected = known(model) | {"device": device(model, gpus_per_replica)}
        shards = Shards(ray, loaded, expected, room=_room(ray, gpus_per_replica), gpus=gpus_per_replica)
        try:
            yield shards
        finally:
            shards.close()
    finally:
        if ours:
            ray.shutdown()


def device(model: Model, gpus_per_replica: float) -> str:
    """Return the kind of device that replies are computed on."""
    return "cuda" if gpus_per_replica else model.device.type


def _answered(
    model: Model, told: dict[str, Any], method: Method | None, index: int, samples: Sequence[Any], begun: bool
) -> tuple[list[Row], Cost]:
    return answered(Questioning(model, samples=samples, data="", **told), method, index, samples, begun=begun)


def _loaded(model: Model, gpus: float) -> dict[str, Any]:
    """Return what a worker gives `interp.load`."""
    if model.loaded is None:
        raise ValueError(
            f"{model.name} was made from objects, which cannot travel to other machines: save model and processor with "
            "save_pretrained(FOLDER) where all of them can read it, and load it from there: interp.load(FOLDER)"
        )
    if gpus < 0:
        raise ValueError(f"gpus_per_replica is 0 or more, got {gpus}")
    if gpus == 0 and model.device.type != "cpu":
        raise ValueError(
            f"{model.name} is on {model.device}, and gpus_per_replica=0 leaves its replicas on CPUs; give gpus_per_replica=1"
        )
    return {**model.loaded, "device_map": None if gpus == 0 else "cuda:0" if gpus <= 1 else "auto"}


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("a cluster needs Ray, which is not installed: pip install 'interp[ray]'") from error
    return ray


def _connect(ray: Any, address: str) -> bool:
    """Connect this process to a cluster; return whether it was not connected before."""
    if ray.is_initialized():
        if address != AUTO:
            raise ValueError(
                f"this process is connected to a Ray cluster already; give ray='{AUTO}' for that one, not {address!r}"
            )
        return False
    found = os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address
    if found != AUTO:
        _reach(found)
    try:
        ray.init(address=found, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise ConnectionError(
            f"there is no way into a Ray cluster by {address!r}: {_line(error)} Start one with ray start --head, let other machines "
            "join it with ray start --address=HOST:PORT, and run this on one of them"
        ) from error
    return True


def _reach(address: str) -> None:
    """Refuse an address that does not answer, which Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError(f"a Ray cluster is '{AUTO}' or HOST:PORT, as ray start --head prints it, not {address!r}")
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as line:
            line.settimeout(PATIENCE)
            line.sendall(HELLO)
            if os.environ.get("RAY_USE_TLS", "0") == "0" and line.recv(9)[3:4] != SETTINGS:
                raise ConnectionError("what answers there is no Ray")
    except OSError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}): see whether it runs (ray status --address {address}), whether "
            "the port is open between the machines, and what address ray start --head printed"
        ) from error


def _room(ray: Any, gpus: float) -> int:
    """Return how many replicas the nodes have room for: one for every CPU, or for every so many GPUs."""
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    room = sum(int(min(n.get("CPU", 0), n.get("GPU", 0) / gpus if gpus else inf)) for n in nodes)
    if room == 0:
        there = ", ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise ValueError(
            f"no node of the cluster has a CPU and {gpus:g} GPUs for a replica; they have {there}. Give a smaller gpus_per_replica "
            "(0: replicas on CPUs), or add a node: ray start --address=HOST:PORT --num-gpus=N"
        )
    return room


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") + "."
