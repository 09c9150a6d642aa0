"""The configuration: one typed model per section, every default in one place.

It is read once, at the edge; functions further in take the values that they need. A key that is not known is an error
that names the nearest known one; a key of earlier versions that has lost its meaning is accepted, and one line says
what replaced it (``config_file.py``).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "DEFAULT_HEADER_REGEX",
    "Config",
    "DatasetConfig",
    "LoraConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PerClass",
    "SchedulerConfig",
    "TokenizerConfig",
    "TrainingConfig",
]

DEFAULT_HEADER_REGEX = (
    r"^lbl\|(?P<class_id>[^|]+)(?:\|(?P<tax_id>[^|]*))?(?:\|(?P<readlen>\d*))?"
    r"(?:\|(?P<name>.*?))?(?:/(?P<mate>[12]))?$"
)


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, values are checked, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class TokenizerConfig(Section):
    """How reads become token ids."""

    name_or_path: str = "metagene-ai/METAGENE-1"
    """Hub name, folder, or a minbpe ``.model`` file."""
    use_hf_tokenizer: bool = True
    max_length: int = Field(512, ge=8)
    """Tokens of the longest piece that the encoder sees at once, special tokens included."""
    long_reads: Literal["window", "truncate", "error"] = "window"
    """What happens to reads of more than ``max_length`` tokens."""
    window_overlap: float = Field(0.125, ge=0.0, lt=1.0)
    """The share of a window that the next one repeats."""
    add_bos: bool = True
    add_eos: bool = True
    pack_short_reads: bool | None = None
    padding: str | bool | None = None
    truncation: bool | None = None


class LoraConfig(Section):
    """Low-rank adapters on the encoder's linear layers (arXiv 2106.09685)."""

    enabled: bool = True
    r: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0)
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    target_modules: Annotated[list[str], Field(min_length=1)] | Literal["all-linear"] = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    ]
    bias: Literal["none", "all", "lora_only"] = "none"
    task_type: str | None = None


class ModelConfig(Section):
    """The encoder, its adapter and the head."""

    encoder_path: str = "metagene-ai/METAGENE-1"
    """Hub name, folder, or ``builtin:NAME`` for an architecture that ships with the package."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    init: Literal["pretrained", "random"] = "pretrained"
    """``random`` builds the architecture with new weights and trains all of them."""
    trust_remote_code: bool = False
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Of the encoder's weights; ``auto`` follows ``training.precision`` and the device."""
    attention: Literal["auto", "flash_attention_2", "varlen", "flex_attention", "sdpa", "eager"] = "auto"
    device_map: Literal["auto"] | None = None
    """``auto`` spreads the encoder over the devices there are; for prediction only."""
    pooling: Literal["mean", "max", "cls", "last"] = "mean"
    num_classes: int | Literal["auto"] = "auto"
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    """Before the head."""
    freeze: Literal["none", "encoder"] = "none"
    """``encoder`` trains the head alone."""
    freeze_layers: int = Field(0, ge=0)
    """The lowest layers that learn nothing: they get no adapter and keep no activations."""
    quantization: Literal["auto", "none", "int8", "nf4"] = "auto"
    """Of the encoder's linear layers, by bitsandbytes; ``auto`` quantizes only where nothing else fits."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Recompute activations in the backward pass instead of keeping them. It never changes the result."""
    checkpoint_every: Count | Literal["auto"] = "auto"
    """Of so many layers one is checkpointed; 1 is all of them."""
    checkpoint_offload: bool | Literal["auto"] = "auto"
    """Keep the checkpoints in the host's memory."""
    lora: LoraConfig = LoraConfig()

    @model_validator(mode="before")
    @classmethod
    def _checkpoints_are_meant_to_be_made(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        shaped = values.get("checkpoint_every", "auto") != "auto" or values.get("checkpoint_offload") is True
        if shaped and values.get("gradient_checkpointing", "auto") == "auto":
            return {**values, "gradient_checkpointing": True}
        return values

    @model_validator(mode="after")
    def _checkpoints_are_made(self) -> ModelConfig:
        if self.gradient_checkpointing is False and (
            self.checkpoint_every != "auto" or self.checkpoint_offload is True
        ):
            raise ValueError("checkpoint_every and checkpoint_offload need gradient_checkpointing: true")
        return self

    @property
    def learns(self) -> Literal["all", "adapter", "head"]:
        """What is trained: all weights, the adapter and the head, or the head alone."""
        if self.init == "random" or (self.freeze == "none" and not self.lora.enabled):
            return "all"
        return "head" if self.freeze == "encoder" else "adapter"


class PerClass(Section):
    """Sampling of a number of reads from every class."""

    per_class: Count


class DatasetConfig(Section):
    """Labelled reads and the table of classes."""

    train_fasta: str | list[str] | None = None
    val_fasta: str | list[str] | None = None
    test_fasta: str | list[str] | None = None
    mapping_tsv: str | None = None
    labels_from: Literal["header", "tsv", "filename"] = "header"
    """Where a read's class stands: in its header, in ``labels_tsv``, or in the name of its file."""
    labels_tsv: str | None = None
    """Read id and class, tab-separated."""
    header_regex: str = DEFAULT_HEADER_REGEX
    strict_classes: bool = True
    """``false`` skips and counts reads whose class is not in the mapping."""
    label_column: str = "label_name"
    class_column: str = "class_id"
    tax_column: str = "tax_id"
    val_fraction: float = Field(0.1, ge=0.0, lt=1.0)
    """Share of the training reads held out where no ``val_fasta`` is given; mates stay together."""
    max_reads: Count | None = None
    """Train on so many of the training reads, drawn at random once for the whole run; all by default."""
    max_val_reads: Count | None = None
    """Validate on so many of the validation reads, drawn at random once; by default as many as memory has room for."""
    sampling: Literal["natural", "balanced", "sqrt"] | PerClass = "natural"
    """How often each class is seen in an epoch: as often as it has reads, as often as every other, or by the square
    root of its reads; ``{per_class: n}`` draws at most ``n`` reads of every class, anew in each epoch."""
    shuffle: Literal["auto", "all", "blocks"] = "auto"
    """``all`` draws an epoch's order from all permutations; ``blocks`` shuffles blocks of the store and the reads
    within a buffer, for stores larger than memory; ``auto`` goes by the store's size alone."""
    shuffle_buffer: Count = 2**22
    """Reads that ``blocks`` shuffles among one another."""
    prepare_workers: Count | Literal["auto"] = "auto"
    """Processes that turn reads into tokens; ``auto`` is one for each core, 8 at most."""
    taxonomy: str | None = None
    """Folder of NCBI's ``nodes.dmp`` and ``names.dmp``: gives the classes ranks and lineages, which the model keeps."""
    file_format: str | None = None
    gzip: str | bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_table_is_meant_to_be_used(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("labels_tsv") and "labels_from" not in values:
            return {**values, "labels_from": "tsv"}
        return values

    @field_validator("header_regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if "class_id" not in groups:
            raise ValueError("needs a group named class_id, as in (?P<class_id>[^|]+)")
        return value


class EarlyStoppingConfig(Section):
    """Stop when the metric has not improved for ``patience`` evaluations."""

    enabled: bool = True
    patience: int = Field(3, ge=1)
    metric: Literal["macro_f1", "micro_f1", "weighted_f1", "accuracy", "mcc", "auroc", "loss"] = "macro_f1"
    mode: Literal["max", "min"] = "max"

    @model_validator(mode="after")
    def _keeps_the_best(self) -> EarlyStoppingConfig:
        needed = "min" if self.metric == "loss" else "max"
        if self.mode != needed:
            raise ValueError(f"metric {self.metric} with mode {self.mode} keeps the worst model: set mode: {needed}")
        return self


class CheckpointConfig(Section):
    """Which models are kept."""

    save_best: bool = True
    save_last: bool = True
    every_steps: int | None = Field(None, ge=1)
    """Besides the end of every epoch."""


class TrainingConfig(Section):
    """The training run."""

    output_dir: str = "outputs/exp1"
    batch_size: int = Field(128, ge=1)
    """Reads of a step on one device; with ``grad_accum_steps`` and the ranks it makes the optimizer's step."""
    grad_accum_steps: int = Field(1, ge=1)
    max_epochs: int = Field(10, ge=1)
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps after which training ends, whatever ``max_epochs`` says."""
    max_tokens: Count | Literal["auto"] = "auto"
    """Tokens of a micro-batch: what is in memory at once. It changes rounding at most (with 8-bit weights a little)."""
    fit: Literal["auto", "off"] = "auto"
    """``auto`` fills every ``auto`` that decides memory from the plan of what fits the device; ``off`` never looks."""
    memory_limit: str | None = Field(None, pattern=r"^\d+(\.\d+)? ?(GiB|GB|MiB|MB)$")
    """What the run may take of the device, as in ``12GiB``; all that is free by default."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """What several ranks share out: the reads alone (``ddp``, every rank holds the whole model), or the model's weights
    as well (``fsdp``); ``auto`` shares the weights out only where one device cannot hold them."""
    layout: Literal["auto", "packed", "buckets", "padded"] = "auto"
    """How reads lie in a micro-batch; ``padded`` (all to ``max_length``) is for comparison only."""
    reverse_complement: Literal["none", "augment", "consistency"] = "none"
    """``augment`` learns from either strand of each read, drawn anew in each epoch; ``consistency`` learns from both at
    once, and that they agree (arXiv 2509.18529), which is twice the work."""
    consistency_weight: float = Field(1.0, gt=0)
    """Of the strands' disagreement against the loss itself."""
    precision: Literal["bf16-mixed", "fp16-mixed", "32"] = "bf16-mixed"
    max_grad_norm: float = Field(1.0, gt=0)
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    torch_compile: bool = False

    @field_validator("precision", mode="before")
    @classmethod
    def _number_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("fit", mode="before")
    @classmethod
    def _yaml_reads_off_as_false(cls, value: Any) -> Any:
        return "off" if value is False else value


class OptimizerConfig(Section):
    """AdamW (arXiv 1711.05101), its state in float32 or, by bitsandbytes, in 8 bits (arXiv 2110.02861)."""

    name: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """``paged`` keeps the state where the card and the host can both hold it."""
    lr: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[Share, Share] = (0.9, 0.999)


class SchedulerConfig(Section):
    """The learning rate over the run."""

    name: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = Field(100, ge=0)
    num_training_steps: Count | Literal["auto"] = "auto"


class LossConfig(Section):
    """What is minimised."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    class_weights: Literal["balanced"] | dict[str, Positive] | None = None
    """``balanced`` (inverse frequency) or a weight for each label; those not named weigh 1."""


class MetricsConfig(Section):
    """What evaluation computes and writes."""

    primary: Literal["macro_f1", "micro_f1", "weighted_f1", "accuracy", "mcc", "auroc"] = "macro_f1"
    compute_auroc: bool = True
    confusion_matrix: bool = True
    per_class_report: bool = True


class CallingConfig(Section):
    """From class scores to calls: what is measured at the end of training, and what is never called."""

    calibrate: bool = True
    """Fit temperatures and the default threshold on the validation reads."""
    calibration_reads: Count = 20000
    """Validation reads for it at most."""
    open_set: bool = True
    """Choose the threshold also by reads of taxa that were left out of the head, so that strangers are refused."""
    open_set_reads: Count = 4096
    """Training reads, and as many validation reads, at most, whose embeddings heads without a taxon are fitted on."""
    folds: int = Field(10, ge=2, le=10)
    """Of the classes: each fold is left out once."""
    min_tokens: int = Field(8, ge=0)
    """A read of fewer tokens is unclassified."""
    min_complexity: Share = 0.55
    """A read of less, such as a repeat of up to seven bases, is unclassified; 0 calls every read."""
    strand: Literal["single", "average"] = "single"
    """``average`` scores both strands of a read and averages, for twice the work."""


class LoggingConfig(Section):
    """Where the run's figures go."""

    log_interval: int = Field(10, ge=1)
    """Optimizer steps between two lines of the log."""
    tensorboard: bool = True
    use_wandb: bool = False
    wandb_project: str = "metagene-classification"
    wandb_entity: str | None = None


class MemoryOptimizationConfig(Section):
    """Accepted from earlier versions."""

    empty_cache_steps: int | None = None


class Config(Section):
    """A whole configuration."""

    seed: int = Field(42, ge=0, lt=2**32)
    device: str = Field("cuda", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """``auto``, ``cuda``, ``cuda:1``, ``mps`` or ``cpu``; falls to what is there, and a line says so."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    dataset: DatasetConfig = DatasetConfig()
    training: TrainingConfig = TrainingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    loss: LossConfig = LossConfig()
    metrics: MetricsConfig = MetricsConfig()
    calling: CallingConfig = CallingConfig()
    logging: LoggingConfig = LoggingConfig()
    memory_optimization: MemoryOptimizationConfig = MemoryOptimizationConfig()

    @model_validator(mode="after")
    def _goes_together(self) -> Config:
        model = self.model
        if model.init == "random" and model.freeze == "encoder":
            raise ValueError("model.freeze: encoder with model.init: random would freeze weights that never learned")
        if model.learns == "all" and model.quantization in ("int8", "nf4"):
            raise ValueError(
                f"model.quantization: {model.quantization} holds weights that cannot learn: set it to none, or train "
                "adapters (model.lora.enabled: true, model.init: pretrained)"
            )
        if model.freeze == "encoder" and model.freeze_layers:
            raise ValueError("model.freeze_layers is for training the layers above: model.freeze: encoder trains none")
        if self.dataset.labels_from == "tsv" and self.dataset.labels_tsv is None:
            raise ValueError("dataset.labels_from: tsv needs dataset.labels_tsv")
        return self
