"""SemiREST: stages, training step, and score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from adjobs import backbones
from adjobs.data.labels.masks import ANOMALOUS, UNKNOWN
from adjobs.errors import DataError
from adjobs.methods.contract import BatchComposition, Stage, TrainingImages
from adjobs.methods.semirest.augment import drawn_neighbour, hidden, noisy
from adjobs.methods.semirest.config import LATER, Config, Phase
from adjobs.methods.semirest.loss import aligned, mixed, share_of_mix, sharpened, soft_focal
from adjobs.methods.semirest.memory import BATCH, Memory, Store, Tokens, check_memory, choose_bank, match, take_tokens
from adjobs.methods.semirest.networks import STRIDE, PositionedFeatures, ResidualSwin
from adjobs.methods.semirest.tokens import Windows, block_targets, certain, mean_where, order_within, told_apart
from adjobs.methods.semirest.windows import bagged, cut, places
from adjobs.nn.average import WeightAverage
from adjobs.nn.blur import gaussian_blur
from adjobs.synthesis.anomalies import Strategy, simulate
from adjobs.synthesis.bank import texture_bank
from adjobs.types import Batch, Prediction, Simulated, StepLoss

SHUFFLED_GRID = (8, 8)  # patches of the picture that change places (published code)
LEAST_AREA = 12  # of a simulated defect, pixels at 256² (published code: 50 at 512²)
STANDARD = 64  # good images that give the unit of features and of what the network sees
USUAL_RATE = 1 / 32  # of the running mean of guesses, in steps; ReMixMatch takes the last 128
TOKENS_RULE = 1  # of tokens and of choosing among them; another number where either is computed otherwise
CHUNK = 64  # windows that are predicted at a time


class SemiREST(nn.Module):
    """Frozen features, the memory of good ones, and the network that judges what differs from it."""

    steps: Tensor
    gain: Tensor
    usual: Tensor

    def __init__(self, config: Config, backbone: backbones.Backbone, image_size: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self.image_size, self.seed = image_size, seed
        self.grid = image_size // STRIDE
        self.side = min(config.window, self.grid)
        self.features = PositionedFeatures(backbone, config, self.grid)
        self.memory = Memory(config.features)
        self.network = ResidualSwin(config, self.side)
        self.average = WeightAverage(self.network)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # of the phase, for the averaging and the ramp
        self.register_buffer("gain", torch.ones(()))  # of what the network sees
        self.register_buffer("usual", torch.full((2,), 0.5))  # mean of what is guessed of unknown tokens
        self._phase = config.phases[0]
        self._store: Store | None = None
        self._textures: Tensor | None = None

    # Training.

    def forward(self, batch: Batch) -> StepLoss:
        """One step's loss over some windows of the batch."""
        phase = self._phase
        windows = self._windows(self.simulate(batch), batch)
        step = int(self.steps)
        self.average.update(self.network, self.config.ema, step)
        self.steps += 1
        return self._refining(windows, batch, step) if phase.refines else self._learning(windows, batch)

    def _learning(self, windows: Windows, batch: Batch) -> StepLoss:
        """Focal loss of the tokens that are known."""
        known = windows.targets <= ANOMALOUS
        answers = self.network(self._strength(self._varied(windows, batch)))
        loss = soft_focal(answers, certain(windows.targets), self.config.alpha, self.config.gamma)
        total = mean_where(loss, known)
        return StepLoss(total, told_apart(answers, windows.targets))

    def _refining(self, windows: Windows, batch: Batch, step: int) -> StepLoss:
        """ResMixMatch: unknown tokens are guessed from several views, and, if so chosen, mixed with known ones."""
        config, generator = self.config, batch.generator
        known, unknown = windows.targets <= ANOMALOUS, windows.targets == UNKNOWN
        targets = torch.where(unknown.unsqueeze(-1), self._guess(windows, batch), certain(windows.targets))
        residuals = self._varied(windows, batch)
        if config.mix:
            residuals, targets = self._mixed(residuals, targets, known, unknown, generator)
        gone = hidden(known.shape, config.dropped, generator)
        answers = self.network(self._strength(residuals).masked_fill(gone.unsqueeze(-1), 0))
        labelled = mean_where(soft_focal(answers, targets, config.alpha, config.gamma), known & ~gone)
        # A mean of their own is one over the few tokens of a few pictures, each of which then weighs far more than any known one.
        per = None if config.unknown_apart else known & ~gone
        guessed = mean_where(soft_focal(answers, targets, config.unknown_alpha, config.gamma), unknown & ~gone, per)
        weight = config.unknown_weight * min(1.0, step / config.ramp)
        parts = {"known": labelled.detach(), "unknown": guessed.detach()}
        return StepLoss(labelled + weight * guessed, parts | told_apart(answers, windows.targets))

    def _mixed(
        self, residuals: Tensor, targets: Tensor, known: Tensor, unknown: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """All unknown and some known tokens, mixed with any of them."""
        stay = torch.rand(known.shape, generator=generator, device=known.device) < self.config.mixed
        mixing = (unknown | (known & stay)).flatten()[:, None]
        order = order_within(known | unknown, generator)
        share = share_of_mix(self.config.beta, generator)
        flat = (values.flatten(0, 2) for values in (residuals, targets))
        new = [torch.where(mixing, mixed(values, order, share), values) for values in flat]
        return new[0].view_as(residuals), new[1].view_as(targets)

    @torch.no_grad()
    def _guess(self, windows: Windows, batch: Batch) -> Tensor:
        """What the network thinks of every token, ``(N, μ, μ, 2)``: the mean over views of it, aligned and sharpened."""
        config = self.config
        views = [self.network(self._strength(self._varied(windows, batch))).float().softmax(-1) for _ in range(config.versions)]
        guess = torch.stack(views).mean(0)
        if config.in_boxes is not None:
            # The focal loss, and learning from few anomalous tokens, keep P(anomalous) low: in boxes nearly all would be normal.
            here = torch.stack([mean_where(guess[..., c], windows.targets == UNKNOWN) for c in (0, 1)]).to(self.usual.dtype)
            self.usual.lerp_(torch.where(here.sum() > 0, here, self.usual), USUAL_RATE)
            guess = aligned(guess, self.usual, config.in_boxes)
        return sharpened(guess, config.sharpening)

    def _windows(self, found: Simulated, batch: Batch) -> Windows:
        """Some of the batch's windows, drawn at random."""
        phase = self._phase
        tokens, neighbours = self._tokens(found.images, batch)
        at = places(len(tokens), self.grid, self.side, self.config.step, tokens.device)
        count = max(1, round(phase.windows * len(at)))
        at = at[torch.randperm(len(at), generator=batch.generator, device=at.device)[:count]]
        targets = block_targets(found.masks, batch.unknown & ~found.masks, phase, self.config)
        return Windows(*(cut(values, at, self.side) for values in (tokens, neighbours, targets)))

    @torch.no_grad()
    def _tokens(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens and their neighbours: kept ones of images as they are, fresh ones where a defect is simulated."""
        fresh = batch.simulate if self._store is not None else torch.ones_like(batch.simulate)
        shape = (len(images), self.grid, self.grid)
        tokens = torch.empty(*shape, self.config.features, dtype=torch.half, device=images.device)
        neighbours = torch.empty(*shape, self._nearest, dtype=torch.long, device=images.device)
        if fresh.any():
            tokens[fresh] = self.features(images[fresh])
            neighbours[fresh] = self.memory.search(tokens[fresh], self._nearest, batch.indices[fresh]).indices
        if self._store is not None and not fresh.all():
            tokens[~fresh], neighbours[~fresh] = self._store.get(batch.indices[~fresh], images.device)
        return tokens, neighbours

    @property
    def _nearest(self) -> int:
        """K; a small memory has no more than it holds."""
        return min(self.config.neighbours, len(self.memory.bank))

    def _varied(self, windows: Windows, batch: Batch) -> Tensor:
        """Signed residuals to a neighbour that is drawn, with noise, ``(N, μ, μ, d)`` float32."""
        chosen = drawn_neighbour(windows.neighbours, self.config, batch.generator)
        return noisy(self.memory.residuals(windows.tokens, chosen), self.config, batch.generator)

    def _strength(self, residuals: Tensor) -> Tensor:
        """What the network sees of them: without sign."""
        return self.gain * (residuals.square() if self.config.strength == "square" else residuals.abs())

    @torch.no_grad()
    def simulate(self, batch: Batch) -> Simulated:
        """MemSeg's structural anomalies on the images meant to be simulated, with the batch's labelled defects beside them."""
        config, images = self.config, batch.images
        strategy = Strategy(
            logical=0,
            shuffled=config.shuffled,
            structural_exponent=config.exponent,
            veiled=0,
            faint=config.faint,
            grid=SHUFFLED_GRID,
            least_area=LEAST_AREA,
        )
        drawn = simulate(images, batch.generator, strategy, textures=self._texture_bank(images.device), others=images)
        marked = batch.simulate.view(-1, 1, 1, 1)
        return Simulated(torch.where(marked, drawn.images, images), (drawn.masks & marked) | batch.masks)

    def _texture_bank(self, device: torch.device) -> Tensor:
        """The same for the same seed, so that a resumed run goes on with them; no part of the model."""
        if self._textures is None or self._textures.device != device:
            config = self.config
            self._textures = texture_bank(config.textures, config.texture_count, self.image_size, self.seed).to(device)
        return self._textures

    # Stages.

    def stages(self) -> Sequence[Stage]:
        """The memory, then what the supervision asks for; a run that begins with another one's network has its memory, too."""
        config = self.config
        learnt = [self._stage(phase) for phase in config.phases]
        if config.unsupervised_from is not None:
            return learnt
        return [Stage(name="memory", module=self, optimizer=None, prepare=self._remember, predicts=False), *learnt]

    def _stage(self, phase: Phase) -> Stage:
        names = ("normal", "simulated", "labelled")
        return Stage(
            name=phase.name,
            module=self,
            optimizer=lambda: self._optimizer(phase),
            mix=BatchComposition(normal=phase.normal, simulated=phase.simulated, anomalous=phase.labelled),
            steps=phase.steps,
            clip_norm=1.0,  # published code
            prepare=lambda data: self._start_phase(phase, data),
            on_stage_start=lambda data: self._attach(phase, data),
            size_params=tuple(f"refine_{name}" for name in names) if phase.refines else names,
            depends_on=None
            if self._goes_on(phase)
            else {**self.config.model_dump(mode="json", exclude=set(LATER)), **self._key()},
        )

    def _optimizer(self, phase: Phase) -> Optimizer:
        return AdamW(self.network.parameters(), lr=phase.lr, weight_decay=self.config.weight_decay)

    def _remember(self, data: TrainingImages) -> None:
        """Fill the memory; what cannot work is said before."""
        config, device = self.config, self.memory.bank.device
        self._texture_bank(device)
        self._check_labels(data, self.config.phases)
        check_memory(data.n_normal * self.grid**2, config.features, config.coreset, device)
        if config.standardised:
            self.features.standardise(batch.images for batch in islice(data.normal(BATCH), STANDARD // BATCH))
        key = self._key()
        tokens = take_tokens(data, self.features, key)
        self.memory.fill(*choose_bank(data, tokens, config.coreset, self.seed, key, device))
        if config.loudness is not None:
            self._quieten(tokens, config.loudness)

    def _quieten(self, tokens: Tokens, loudness: float) -> None:
        """Choose the gain by good images, so that what the network sees of their tokens has this mean."""
        self.gain.fill_(1)
        total, device = torch.zeros((), device=self.gain.device), self.gain.device
        count = min(STANDARD, tokens.n_normal)
        for start in range(0, count, BATCH):
            part = slice(start, min(start + BATCH, count))
            values, rows = (torch.from_numpy(array[part]).to(device) for array in (tokens.values, tokens.rows))
            nearest = self.memory.search(values, 1, rows).indices[..., 0]
            total += self._strength(self.memory.residuals(values, nearest)).mean((1, 2, 3)).sum()
        if not total:
            raise DataError("the good images of the training part are all the same; give others, or set params.loudness to null")
        self.gain.copy_(loudness * count / total)

    def _check_labels(self, data: TrainingImages, phases: Sequence[Phase]) -> None:
        """That there is anything to learn from in the labelled anomalies."""
        level = self.config.supervision
        for phase in phases:
            if not phase.labelled:
                continue
            wanted = UNKNOWN if phase.refines else ANOMALOUS
            found = 0
            for batch in data.anomalous(BATCH):
                found += int((block_targets(batch.masks, batch.unknown, phase, self.config) == wanted).sum())
            if not found:
                raise DataError(
                    f"params.supervision {level}: none of {data.n_anomalous} labelled anomalies in the training part has {level} "
                    "as large as a token (8 pixels); label some, or use another supervision"
                )

    def _start_phase(self, phase: Phase, data: TrainingImages) -> None:
        """A network that goes on begins with the mean of what was learnt before it."""
        self.steps.zero_()
        if self._goes_on(phase):
            self._check_labels(data, [phase])
            self.average.give(self.network)

    def _goes_on(self, phase: Phase) -> bool:
        """Whether the phase begins with what another one, or another run, has learnt."""
        return phase.refines or self.config.unsupervised_from is not None

    def _attach(self, phase: Phase, data: TrainingImages) -> None:
        """Turn to a phase, and open what is kept of the training images."""
        self._phase = phase
        key = self._key()
        tokens = take_tokens(data, self.features, key)
        self._store = Store(tokens, match(data, tokens, self.memory, self._nearest, key))

    def _key(self) -> dict[str, str | int | float]:
        """What tokens depend on beside the images."""
        return {"rule": TOKENS_RULE, **backbones.identity(self.features), "dims": self.config.features}

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Take another run's memory and what its network has learnt."""
        self.load_state_dict(weights)

    # Prediction.

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """P(anomalous) of each token, stretched and smoothed; an image scores its largest.

        Beside it ``nearest`` is the largest distance to the memory, which is PatchCore's score without its weight.
        """
        tokens = self.features(images)
        distances, nearest = self.memory.search(tokens, 1)
        at = places(len(images), self.grid, self.side, self.config.step if self.config.bagging else self.side, images.device)
        answers = []
        for part in torch.split(at, CHUNK):
            residuals = self.memory.residuals(cut(tokens, part, self.side), cut(nearest[..., 0], part, self.side))
            answers.append(self.average.call(self.network, self._strength(residuals)).float().softmax(-1)[..., 1])
        maps = bagged(torch.cat(answers), at, len(images), self.grid)[:, None]
        maps = self.stretched(maps, images)
        return Prediction(maps.flatten(1).amax(1), maps, {"nearest": distances.flatten(1).amax(1)})

    @torch.no_grad()
    def distances(self, images: Tensor) -> Tensor:
        """Distance of each token to its nearest one in the memory, as a map ``(B, 1, H, W)``: what the method sets out from."""
        return self.stretched(self.memory.search(self.features(images), 1).distances.permute(0, 3, 1, 2), images)

    def stretched(self, maps: Tensor, images: Tensor) -> Tensor:
        """A ``(B, 1, h, w)`` map at the images' size."""
        maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return gaussian_blur(maps, self.config.sigma)


def build(config: Config, *, image_size: int, seed: int) -> SemiREST:
    """The method with its pretrained features, an empty memory and a random network.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create`.
    """
    backbone = backbones.create(config.backbone, config.weights, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SemiREST(config, backbone, image_size, seed)
