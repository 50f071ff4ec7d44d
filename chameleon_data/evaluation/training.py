"""A trial: a small model trained on one mixture with one seed, then judged on every held-out set.

The loop is our own, since pairing must own the sampling: two mixtures with the same seed have the same initial weights, the same
place for each domain in the order, and the same windows of it. With a branch, they also share the first part of the training, its
checkpoint with the optimiser's state included.

AdamW, learning rate 3e-3 × √(64 / width), warmed up over 5 % and then falling by a cosine to a tenth, gradients clipped at 1.
In float32 on a CPU, in bfloat16 on a GPU. Deterministic: the same trial on the same kind of device gives the same bits. The kind
enters the digest that names a trial, so trials of one kind are never compared with those of another.
Why: docs/decisions/113-trials-of-one-kind-of-device.md
Cost of 700k tokens, width 64, 2 layers: 40 s on one core.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from math import cos, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from chameleon_data.arrays import F64, Mask
from chameleon_data.evaluation.language_models import HIDDEN_SHARE, IGNORED, choose_family, make_model, token_losses
from chameleon_data.evaluation.pool import PADDING, U16, HeldOutSet, Pool, draw_domains, window_order
from chameleon_data.evaluation.trial_record import SetBits, TrialRecord, sum_by_document
from chameleon_data.evaluation.vocabulary import I32
from chameleon_data.hashing import fingerprint, key64, mix64
from chameleon_data.recipe import Judge, ModelShape
from chameleon_data.weights.embedder import Device

if TYPE_CHECKING:
    import torch

BATCH_WINDOWS = 16
"""Windows of a step, at least."""
MOST_STEPS = 1_500
"""Steps of a trial. One that trains longer takes larger batches, which a GPU needs to be busy."""
JUDGED_WINDOWS = 64
"""Windows that are judged at a time."""
LEARNING_RATE, LEAST_SHARE, WARM_UP = 3e-3, 0.1, 0.05
"""Highest rate at width 64; the share of it at the end; the share of the steps until it is reached."""
DECAY, CLIP = 0.1, 1.0
BETAS = (0.9, 0.95)
TRAINING_FORMAT = 1
"""Raise it when the loop changes, as its numbers then do."""


PRECISIONS: dict[Device, str] = {"cpu": "float32", "cuda": "bfloat16"}
"""Kind of device -> in what it multiplies."""


def find_device() -> Device:
    """A GPU, where this process sees one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class TrainingSpec:
    """What all trials of an evaluation have in common."""

    judge: Judge
    shape: ModelShape
    tokens: int
    """Tokens that a whole trial trains on."""
    branch_at: float
    """Share of the steps that all mixtures share; 0: none."""
    branch_shares: dict[str, float]
    """Domain -> share until then."""
    device: Device
    """Kind of device that every trial runs on."""

    @property
    def batch(self) -> int:
        """Windows of a step."""
        return max(BATCH_WINDOWS, round(self.tokens / (self.shape.context * MOST_STEPS)))

    @property
    def steps(self) -> int:
        return max(1, round(self.tokens / (self.batch * self.shape.context)))

    @property
    def branch_steps(self) -> int:
        return round(self.branch_at * self.steps)

    def describe(self) -> dict[str, Any]:
        """All that decides numbers, as plain JSON."""
        settings = [BATCH_WINDOWS, LEARNING_RATE, LEAST_SHARE, WARM_UP, DECAY, CLIP, *BETAS, TRAINING_FORMAT]
        plain = {**asdict(self), "shape": self.shape.model_dump(mode="json"), "loop": settings}
        return {**plain, "family": choose_family(self.judge, self.shape), "dtype": PRECISIONS[self.device]}

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> TrainingSpec:
        """The specification that `describe` described."""
        names = ("judge", "tokens", "branch_at", "branch_shares", "device")
        return cls(shape=ModelShape.model_validate(described["shape"]), **{name: described[name] for name in names})


def checkpoint_key(pool: str, spec: TrainingSpec, seed: int, without: str | None) -> str:
    """The digest that names what the trials of a seed share."""
    return fingerprint({"pool": pool, "spec": spec.describe(), "seed": seed, "without": without})


def count_parameters(spec: TrainingSpec, vocabulary: int) -> int:
    """Numbers of the model that are trained."""
    model = make_model(choose_family(spec.judge, spec.shape), spec.shape, vocabulary, 0)
    return sum(p.numel() for p in model.parameters())


def train_branch(pool: Pool, spec: TrainingSpec, seed: int, without: str | None, gpu: int = 0) -> bytes:
    """The checkpoint after the part that all mixtures share: weights, moments of the optimiser; safetensors. `gpu`: which one."""
    from safetensors.torch import save

    with _deterministic():
        trainee = _Trainee(pool, spec, seed, gpu)
        trainee.train(_shares(pool, spec.branch_shares, without), 0, spec.branch_steps)
        return save(trainee.state())


def train_and_judge(
    pool: Pool,
    spec: TrainingSpec,
    shares: dict[str, float],
    seed: int,
    without: str | None,
    key: str,
    checkpoint: bytes | None = None,
    gpu: int = 0,
) -> TrialRecord:
    """Train on a mixture, from the checkpoint where there is one, and judge. `gpu`: which one, where the device is such."""
    from safetensors.torch import load

    with _deterministic():
        trainee = _Trainee(pool, spec, seed, gpu)
        if checkpoint is not None:
            trainee.restore(load(checkpoint))
        trainee.train(_shares(pool, shares, without), spec.branch_steps if checkpoint is not None else 0, spec.steps)
        sets = {name: trainee.measure_bits(name, held_out) for name, held_out in pool.sets.items()}
        return TrialRecord(key, seed, without, shares, sets)


def _shares(pool: Pool, shares: dict[str, float], without: str | None) -> F64:
    """(domains) shares in the pool's order, without the domain that is left out."""
    from chameleon_data.evaluation.ngram import without_domain

    own = np.array([shares[name] for name in pool.names])
    return own if without is None else without_domain(own, pool.names.index(without))


class _Trainee:
    """A model at work, its optimiser, and how many windows of each domain it has seen."""

    def __init__(self, pool: Pool, spec: TrainingSpec, seed: int, gpu: int) -> None:
        import torch

        self.pool, self.spec, self.seed = pool, spec, seed
        self.device = f"cuda:{gpu}" if spec.device == "cuda" else "cpu"
        self.model = make_model(choose_family(spec.judge, spec.shape), spec.shape, len(pool.vocabulary), seed).to(self.device)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS)
        self.seen = np.zeros(len(pool.names), np.int64)

    def train(self, shares: F64, first: int, last: int) -> None:
        """Take the steps from `first` until `last` on a mixture."""
        import torch

        rate = LEARNING_RATE * sqrt(64 / self.spec.shape.width)
        self.model.train()
        for step, batch in zip(range(first, last), self._batches(shares, last - first), strict=True):
            for group in self.optimizer.param_groups:
                group["lr"] = rate * _share_of_rate(step, self.spec.steps)
            ids = torch.from_numpy(batch.astype(np.int64)).to(self.device)
            with self._casting():
                losses = token_losses(self.model, self.spec.judge, ids, self._hidden(batch, ("step", step)))
            loss = losses.nats.sum() / (losses.labels != IGNORED).sum()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
            self.optimizer.step()

    def _batches(self, shares: F64, steps: int) -> Iterator[U16]:
        """(windows, context) ids of each step."""
        names, size, count = self.pool.names, self.spec.batch, steps * self.spec.batch
        domains = draw_domains(names, shares, count, self.seed)
        windows: list[U16 | None] = [None] * count
        for number, name in enumerate(names):
            places = np.flatnonzero(domains == number)
            own, before = self.pool.windows[name], int(self.seen[number])
            order = window_order(name, len(own), self.seed, before + len(places))[before:]
            for place, window in zip(places.tolist(), order.tolist(), strict=True):
                windows[place] = own[window]
            self.seen[number] += len(places)
        for start in range(0, count, size):
            yield np.stack([window for window in windows[start : start + size] if window is not None])

    def measure_bits(self, name: str, held_out: HeldOutSet) -> SetBits:
        """The bits of each document of a held-out set."""
        import torch

        self.model.eval()
        bits, sizes, documents = [], [], []
        for start in range(0, len(held_out.windows), JUDGED_WINDOWS):
            batch = held_out.windows[start : start + JUDGED_WINDOWS]
            ids = torch.from_numpy(batch.astype(np.int64)).to(self.device)
            with torch.inference_mode(), self._casting():
                losses = token_losses(self.model, self.spec.judge, ids, self._hidden(batch, (name, start), judging=True))
            labels = losses.labels.cpu().numpy()
            scored = labels != IGNORED
            known = self.pool.vocabulary.bytes_of(np.where(scored, labels, 0).astype(np.int32))
            bits.append(losses.nats.cpu().double().numpy().sum(axis=1) / np.log(2))
            sizes.append(np.where(scored, known, 0).sum(axis=1))
            documents.append(held_out.document[start : start + JUDGED_WINDOWS])
        return _drop_empty(sum_by_document(np.concatenate(bits), np.concatenate(sizes), np.concatenate(documents)))

    def _hidden(self, batch: I32 | U16, place: tuple[str, int], judging: bool = False) -> torch.Tensor:
        """(windows, context) the tokens that a masked model is to guess, by hashes; at judging the same for every seed."""
        import torch

        if self.spec.judge != "masked":
            return torch.zeros(0)
        salt = key64(0 if judging else self.seed, "hidden", *place)
        chosen: Mask = mix64([np.arange(batch.size, dtype=np.int64)], salt) / 2.0**64 < HIDDEN_SHARE
        chosen = chosen.reshape(batch.shape) & (batch.astype(np.int64) != PADDING)
        return torch.from_numpy(chosen).to(self.device)

    def _casting(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast("cuda", torch.bfloat16) if self.spec.device == "cuda" else nullcontext()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and moments, and the windows seen."""
        import torch

        found: dict[str, torch.Tensor] = {}
        for name, parameter in self.model.named_parameters():
            moments = self.optimizer.state[parameter]
            found |= {
                f"weight.{name}": parameter.detach(),
                f"first.{name}": moments["exp_avg"],
                f"second.{name}": moments["exp_avg_sq"],
            }
        found["seen"] = torch.from_numpy(self.seen)
        return {name: tensor.cpu().contiguous().clone() for name, tensor in found.items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        import torch

        steps = torch.tensor(float(self.spec.branch_steps))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(state[f"weight.{name}"])
                first, second = (state[f"{kind}.{name}"].to(self.device) for kind in ("first", "second"))
                self.optimizer.state[parameter] = {"step": steps.clone(), "exp_avg": first, "exp_avg_sq": second}
        self.seen = state["seen"].numpy().copy()


def _drop_empty(found: SetBits) -> SetBits:
    """Leave out the documents of which no token was predicted."""
    kept = [(bits, size) for bits, size in zip(found.bits, found.bytes, strict=True) if size]
    return SetBits(tuple(bits for bits, _ in kept), tuple(size for _, size in kept))


def _share_of_rate(step: int, steps: int) -> float:
    """The share of the highest learning rate at a step: a warm-up, then a cosine."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return LEAST_SHARE + (1 - LEAST_SHARE) * (1 + cos(pi * (step - warm) / max(1, steps - warm))) / 2


@contextmanager
def _deterministic() -> Iterator[None]:
    """torch chooses kernels whose sums have one order; on a CPU, one thread."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads)
