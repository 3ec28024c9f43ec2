"""SemiREST: stages, training step, and prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from adjobs import backbones
from adjobs.data.labels.masks import ANOMALOUS, UNKNOWN
from adjobs.errors import DataError
from adjobs.methods.contract import BatchComposition, Stage, TrainingImages
from adjobs.methods.method import Method
from adjobs.methods.semirest.augment import add_noise, draw_dropout, draw_neighbour
from adjobs.methods.semirest.config import PREDICT_ONLY, REFINE_ONLY, Config, Phase
from adjobs.methods.semirest.labels import check_labels, one_hot_targets, token_labels
from adjobs.methods.semirest.loss import masked_mean, separation, soft_focal_loss
from adjobs.methods.semirest.memory import MemoryBank, check_bank_fits
from adjobs.methods.semirest.networks import STRIDE, PositionedFeatures, ResidualSwin
from adjobs.methods.semirest.resmixmatch import align_distribution, mix_tokens, sharpen
from adjobs.methods.semirest.token_cache import BATCH, CachedTokens, TokenStore, compute_tokens, match_tokens, select_coreset
from adjobs.methods.semirest.windows import TokenWindows, average_windows, extract_windows, window_positions
from adjobs.nn.average import WeightAverage
from adjobs.nn.blur import gaussian_blur
from adjobs.nn.normal_scales import NormalScales
from adjobs.synthesis.anomalies import SimulationConfig, simulate_anomalies
from adjobs.synthesis.texture_bank import TextureBank
from adjobs.types import Batch, Prediction, Simulated, StepLoss

PATCH_GRID = (8, 8)  # of shuffled patches (published code)
MIN_AREA = 12  # of a simulated defect, pixels at 256 px (published code: 50 at 512 px)
CALIBRATION_IMAGES = 64  # normal images from which scales of features and of the network's input are computed
PRIOR_RATE = 1 / 32  # of the running mean of pseudo-labels per step; ReMixMatch averages over the last 128 steps
TOKENS_VERSION = 1  # increase it when tokens or the coreset are computed differently, to invalidate caches
CHUNK = 64  # windows predicted at a time


class SemiREST(Method):
    """Frozen features, a memory bank of normal ones, and a network that classifies the residuals between the two."""

    steps: Tensor
    gain: Tensor
    running_prior: Tensor

    def __init__(self, config: Config, backbone: backbones.Backbone, image_size: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        self.grid = image_size // STRIDE
        self.side = min(config.window, self.grid)
        self.features = PositionedFeatures(backbone, config, self.grid)
        self.memory = MemoryBank(config.feature_dim)
        self.network = ResidualSwin(config, self.side)
        self.average = WeightAverage(self.network)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # taken in the current phase
        self.register_buffer("gain", torch.ones(()))  # scale of the network's input
        self.register_buffer("running_prior", torch.full((2,), 0.5))  # mean pseudo-label of unknown tokens
        self.scales = NormalScales(2)  # of distance and logit, on normal tokens
        self._phase = config.phases[0]
        self._token_store: TokenStore | None = None
        self._textures = TextureBank(config.textures, config.texture_count, image_size, seed)

    # Training.

    def forward(self, batch: Batch) -> StepLoss:
        """Loss of one step, over some windows of the batch."""
        windows = self._draw_windows(self.simulate(batch), batch)
        self.average.update(self.network, self.config.ema_decay, self.steps)
        self.steps += 1
        return self._refine_step(windows, batch) if self._phase.is_refinement else self._learn_step(windows, batch)

    def _learn_step(self, windows: TokenWindows, batch: Batch) -> StepLoss:
        """Focal loss of the tokens with known labels."""
        known = windows.labels <= ANOMALOUS
        logits = self.network(self._network_input(self._augmented_residuals(windows, batch)))
        loss = soft_focal_loss(logits, one_hot_targets(windows.labels), self.config.alpha, self.config.gamma)
        return StepLoss(masked_mean(loss, known), separation(logits, windows.labels))

    def _refine_step(self, windows: TokenWindows, batch: Batch) -> StepLoss:
        """ResMixMatch: the same, plus the loss of unknown tokens against their pseudo-labels."""
        config, generator = self.config, batch.generator
        known, unknown = windows.labels <= ANOMALOUS, windows.labels == UNKNOWN
        pseudo_labels = self._pseudo_labels(windows, batch)
        targets = torch.where(unknown.unsqueeze(-1), pseudo_labels, one_hot_targets(windows.labels))
        residuals = self._augmented_residuals(windows, batch)
        if config.mixup:
            residuals, targets = mix_tokens(residuals, targets, known, unknown, config, generator)
        dropped = draw_dropout(known.shape, config.token_dropout, generator)
        logits = self.network(self._network_input(residuals).masked_fill(dropped.unsqueeze(-1), 0))
        known, unknown = known & ~dropped, unknown & ~dropped
        known_loss = masked_mean(soft_focal_loss(logits, targets, config.alpha, config.gamma), known)
        # Unknown tokens are few. Averaged over these alone, each of them weighs far more than any known one.
        normalise_by = unknown if config.separate_unknown_mean else known
        unknown_losses = soft_focal_loss(logits, targets, config.unknown_alpha, config.gamma)
        unknown_loss = masked_mean(unknown_losses, unknown, normalise_by)
        ramp_up = ((self.steps - 1) / config.ramp_up_steps).clamp_max(1)
        terms = {"known": known_loss.detach(), "unknown": unknown_loss.detach()}
        return StepLoss(known_loss + config.unknown_weight * ramp_up * unknown_loss, terms | separation(logits, windows.labels))

    @torch.no_grad()
    def _pseudo_labels(self, windows: TokenWindows, batch: Batch) -> Tensor:
        """Mean prediction over augmented views, aligned with the prior and sharpened, of every token: ``(N, μ, μ, 2)``."""
        config = self.config
        views = [
            self.network(self._network_input(self._augmented_residuals(windows, batch))).float().softmax(-1)
            for _ in range(config.pseudo_label_views)
        ]
        mean = torch.stack(views).mean(0)
        if config.box_anomalous_prior is not None:
            # The focal loss and the scarcity of anomalous tokens keep P(anomalous) low: unaligned, most of a box would be normal.
            unknown = windows.labels == UNKNOWN
            prior = torch.stack([masked_mean(mean[..., c], unknown) for c in (0, 1)]).to(self.running_prior.dtype)
            self.running_prior.lerp_(torch.where(prior.sum() > 0, prior, self.running_prior), PRIOR_RATE)
            mean = align_distribution(mean, self.running_prior, config.box_anomalous_prior)
        return sharpen(mean, config.sharpening_temperature)

    def _draw_windows(self, simulated: Simulated, batch: Batch) -> TokenWindows:
        """Draw a fraction of the batch's windows at random."""
        tokens, neighbours = self._tokens_and_neighbours(simulated.images, batch)
        positions = window_positions(len(tokens), self.grid, self.side, self.config.window_stride, tokens.device)
        count = max(1, round(self._phase.window_fraction * len(positions)))
        order = torch.randperm(len(positions), generator=batch.generator, device=positions.device)
        positions = positions[order[:count]]
        labels = token_labels(simulated.masks, batch.unknown & ~simulated.masks, self._phase, self.config)
        return TokenWindows(*(extract_windows(values, positions, self.side) for values in (tokens, neighbours, labels)))

    @torch.no_grad()
    def _tokens_and_neighbours(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens and their neighbours, computed for images with simulated defects and otherwise taken from the cache."""
        store, rows = self._token_store, batch.simulated_rows
        if store is None:
            return self._compute_tokens(images, batch.indices)
        count = rows.stop - rows.start
        cached = store.get(torch.cat([batch.indices[: rows.start], batch.indices[rows.stop :]]))
        if not count:
            return cached
        computed = self._compute_tokens(images[rows], batch.indices[rows])
        joined = (torch.cat([old[: rows.start], new, old[rows.start :]]) for old, new in zip(cached, computed, strict=True))
        tokens, neighbours = joined
        return tokens, neighbours

    def _compute_tokens(self, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of images and their neighbours in other images."""
        tokens = self.features(images)
        return tokens, self.memory.search(tokens, self._neighbour_count, indices).indices

    @property
    def _neighbour_count(self) -> int:
        """K, or the size of a smaller memory bank."""
        return min(self.config.neighbours, len(self.memory.tokens))

    def _augmented_residuals(self, windows: TokenWindows, batch: Batch) -> Tensor:
        """Signed, noisy residuals to a neighbour that is drawn for each token, ``(N, μ, μ, d)`` float32."""
        neighbours = draw_neighbour(windows.neighbours, self.config, batch.generator)
        return add_noise(self.memory.residuals(windows.tokens, neighbours), self.config, batch.generator)

    def _network_input(self, residuals: Tensor) -> Tensor:
        """Element-wise distances: residuals without their sign, scaled."""
        return self.gain * (residuals.square() if self.config.residual_distance == "square" else residuals.abs())

    @torch.no_grad()
    def simulate(self, batch: Batch) -> Simulated:
        """Simulate structural anomalies on the images that ``batch.simulate`` selects; masks include labelled defects."""
        config, images = self.config, batch.images
        simulation = SimulationConfig(
            logical_fraction=0,
            shuffled_fraction=config.shuffled_fraction,
            structural_exponent=config.perlin_exponent,
            faint_fraction=0,
            structural_max_transparency=config.max_transparency,
            patch_grid=PATCH_GRID,
            min_area=MIN_AREA,
        )
        textures = self._textures.on(images.device)
        drawn = simulate_anomalies(images, batch.generator, simulation, textures=textures, other_images=images)
        selected = batch.simulate.view(-1, 1, 1, 1)
        return Simulated(torch.where(selected, drawn.images, images), (drawn.masks & selected) | batch.masks)

    # Stages.

    def stages(self) -> Sequence[Stage]:
        """The memory bank, then the phases that the supervision requires; a warm start brings its own memory bank."""
        phases = [self._stage(phase) for phase in self.config.phases]
        if self.config.unsupervised_from is not None:
            return phases
        return [Stage(name="memory", module=self, optimizer=None, prepare=self._build_memory, predicts=False), *phases]

    def _stage(self, phase: Phase) -> Stage:
        size_params = [f"{kind}_per_batch" for kind in ("normal", "simulated", "labelled")]
        depends_on = None
        if not self._is_continued(phase):
            depends_on = {**self.config.model_dump(mode="json", exclude={*REFINE_ONLY, *PREDICT_ONLY}), **self._token_key()}
        return Stage(
            name=phase.name,
            module=self,
            optimizer=lambda: AdamW(self.network.parameters(), lr=phase.lr, weight_decay=self.config.weight_decay),
            mix=BatchComposition(normal=phase.normal, simulated=phase.simulated, anomalous=phase.labelled),
            steps=phase.steps,
            clip_norm=1.0,  # published code
            prepare=lambda data: self._prepare_phase(phase, data),
            on_stage_start=lambda data: self._start_phase(phase, data),
            fit_statistics=self._fit_score,
            size_params=tuple(f"refine_{name}" if phase.is_refinement else name for name in size_params),
            capturable=True,
            depends_on=depends_on,
        )

    def _build_memory(self, data: TrainingImages) -> None:
        """Fill the memory bank; whatever may be wrong with parameters or data is checked first."""
        config, device = self.config, self.memory.tokens.device
        self._textures.on(device)
        check_labels(data, config.phases, config)
        check_bank_fits(data.n_normal * self.grid**2, config.feature_dim, config.coreset_ratio, device)
        if config.standardise_features:
            self.features.standardise(batch.images for batch in islice(data.normal(BATCH), CALIBRATION_IMAGES // BATCH))
        key = self._token_key()
        tokens = compute_tokens(data, self.features, key)
        self.memory.set_tokens(*select_coreset(data, tokens, config.coreset_ratio, self.seed, key, device))
        if config.target_mean_residual is not None:
            self._calibrate_gain(tokens, config.target_mean_residual)

    def _calibrate_gain(self, tokens: CachedTokens, target_mean: float) -> None:
        """Set the gain so that the network's input has this mean on tokens of normal images."""
        self.gain.fill_(1)
        total, device = torch.zeros((), device=self.gain.device), self.gain.device
        count = min(CALIBRATION_IMAGES, tokens.n_normal)
        for start in range(0, count, BATCH):
            chunk = slice(start, min(start + BATCH, count))
            values, image_indices = (torch.from_numpy(array[chunk]).to(device) for array in (tokens.values, tokens.image_indices))
            nearest = self.memory.search(values, 1, image_indices).indices[..., 0]
            total += self._network_input(self.memory.residuals(values, nearest)).mean((1, 2, 3)).sum()
        if not total:
            raise DataError("all normal training images are identical; add others, or set params.target_mean_residual to null")
        self.gain.copy_(target_mean * count / total)

    def _fit_score(self, data: TrainingImages) -> None:
        """Set mean and deviation of distance and logit on normal tokens, whose own images' tokens do not count as neighbours.

        Whatever scores, since a stage is shared by trials with different values of `score`.
        """
        batches = islice(data.normal(BATCH), CALIBRATION_IMAGES // BATCH)
        scores = [self._token_scores(batch.images, batch.indices, as_logits=True) for batch in batches]
        self.scales.fit(*(torch.cat(term) for term in zip(*scores, strict=True)))

    def _prepare_phase(self, phase: Phase, data: TrainingImages) -> None:
        """Reset the step counter; a network that continues training starts from its averaged weights."""
        self.steps.zero_()
        if self._is_continued(phase):
            check_labels(data, [phase], self.config)
            self.average.copy_to(self.network)

    def _is_continued(self, phase: Phase) -> bool:
        """Whether the phase continues training of an earlier phase or of another run."""
        return phase.is_refinement or self.config.unsupervised_from is not None

    def _start_phase(self, phase: Phase, data: TrainingImages) -> None:
        """Switch to a phase, and open the cached tokens and neighbours."""
        self._phase = phase
        key = self._token_key()
        tokens = compute_tokens(data, self.features, key)
        neighbours = match_tokens(data, tokens, self.memory, self._neighbour_count, key)
        self._token_store = TokenStore(tokens, neighbours, self.memory.tokens.device)

    def _token_key(self) -> dict[str, str | int | float]:
        """Everything but the images that tokens depend on."""
        return {"version": TOKENS_VERSION, **backbones.cache_key(self.features), "dims": self.config.feature_dim}

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Load another run's memory bank, network and averaged weights."""
        self.load_state_dict(weights)

    # Prediction.

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """Upsampled and smoothed scores of the tokens; the image score is the largest.

        The extra score ``nearest`` is the largest distance to the memory bank: PatchCore's score without its re-weighting.
        """
        is_combined = self.config.score == "combined"
        distances, values = self._token_scores(images, as_logits=is_combined)
        if is_combined:
            distance, logit = self.scales(distances, values)
            values = distance + logit
        maps = self._upsample(values[:, None], images)
        return Prediction(maps.flatten(1).amax(1), maps, {"nearest": distances.flatten(1).amax(1)})

    @torch.no_grad()
    def _token_scores(self, images: Tensor, indices: Tensor | None = None, *, as_logits: bool) -> tuple[Tensor, Tensor]:
        """Distance to the memory bank and what the network says, both ``(B, h, w)``: its logit, or P(anomalous).

        Args:
            images: ``(B, 3, H, W)``.
            indices: ``(B,)``, of images whose tokens may be in the memory bank.
            as_logits: average the network's logits over windows, not its probabilities.
        """
        tokens = self.features(images)
        distances, neighbours = self.memory.search(tokens, 1, indices)
        stride = self.config.window_stride if self.config.bagging else self.side
        positions = window_positions(len(images), self.grid, self.side, stride, images.device)
        predictions = []
        for chunk in torch.split(positions, CHUNK):
            token_windows, nearest = (extract_windows(values, chunk, self.side) for values in (tokens, neighbours[..., 0]))
            network_input = self._network_input(self.memory.residuals(token_windows, nearest))
            logits = self.average.call(self.network, network_input).float().diff(dim=-1).squeeze(-1)
            predictions.append(logits if as_logits else logits.sigmoid())
        return distances[..., 0], average_windows(torch.cat(predictions), positions, len(images), self.grid)

    @torch.no_grad()
    def distances(self, images: Tensor) -> Tensor:
        """Map of each token's distance to the memory bank, ``(B, 1, H, W)``: the baseline that the network improves on."""
        return self._upsample(self.memory.search(self.features(images), 1).distances.permute(0, 3, 1, 2), images)

    def _upsample(self, maps: Tensor, images: Tensor) -> Tensor:
        """Resize ``(B, 1, h, w)`` maps to the images' size and smooth them."""
        maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return gaussian_blur(maps, self.config.sigma)


def build(config: Config, *, image_size: int, seed: int) -> SemiREST:
    """Create the method with pretrained features, an empty memory bank and a random network.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create_backbone`.
    """
    backbone = backbones.create_backbone(config.backbone, config.weights, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SemiREST(config, backbone, image_size, seed)
