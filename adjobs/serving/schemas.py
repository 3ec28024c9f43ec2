"""Requests and answers, as the description of the interface shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class PredictRequest(BaseModel):
    """Images to predict, in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: Annotated[list[Base64], Field(min_length=1, description="Contents of image files (PNG, JPEG, BMP, TIFF, WebP).")]
    anomaly_map: Annotated[bool, Field(description="Answer the anomaly maps, too.")] = False
    overlay: Annotated[bool, Field(description="Answer pictures of the images with their heat maps, too.")] = False


class ModelAnswer(BaseModel):
    """The model that predicted all images of an answer."""

    name: str
    version: int | None
    run_id: str | None
    method: str
    image_size: Annotated[int, Field(description="Side in pixels to which images are stretched, and of anomaly maps.")]
    threshold: float
    pixel_threshold: float | None


class MapAnswer(BaseModel):
    """An anomaly map: a grey PNG of 16 bits, ``value = low + pixel / 65535 * (high - low)``."""

    png: Base64
    low: float
    high: float


class PredictionAnswer(BaseModel):
    """What is predicted of one image."""

    score: Annotated[float, Field(description="Higher is more anomalous.")]
    decision: Literal["normal", "anomalous"]
    threshold: Annotated[float, Field(description="The image is anomalous when its score is at least this.")]
    regions: Annotated[
        list[Annotated[list[int], Field(min_length=4, max_length=4)]],
        Field(description="Boxes [left, top, right, bottom] in pixels of the upright image, largest first; of anomalous images."),
    ]
    defect_area: Annotated[float | None, Field(description="Share of pixels that reach the pixel threshold.")]
    width: Annotated[int, Field(description="Of the upright image.")]
    height: int
    warning: Annotated[str | None, Field(description="How the image differs from the training images in bit depth.")] = None
    anomaly_map: MapAnswer | None = None
    overlay: Annotated[Base64 | None, Field(description="PNG: the image, and at its right its heat map if there is one.")] = None


class PredictAnswer(BaseModel):
    """Predictions in the order of the images, all by one model."""

    predictions: list[PredictionAnswer]
    model: ModelAnswer


class ErrorAnswer(BaseModel):
    """Why a request was refused, in one line."""

    error: str
    index: Annotated[int | None, Field(description="Of the image at fault, from 0.")] = None


class HealthAnswer(BaseModel):
    """The process answers."""

    status: str
    version: str


class FollowAnswer(BaseModel):
    """The alias that is followed."""

    alias: str
    checked_at: Annotated[float | None, Field(description="When the registry last answered, in seconds since the epoch.")]
    error: Annotated[str | None, Field(description="Why what the alias stands for is not in force.")]


class ReadyAnswer(BaseModel):
    """Whether requests should come."""

    status: Literal["ready", "loading", "stopping"]
    model: str | None
    following: FollowAnswer | None


class ServerMetadata(BaseModel):
    """The server, in the protocol V2."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor, in the protocol V2; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The model, in the protocol V2."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class StateAnswer(BaseModel):
    """A state, in the protocol V2."""

    model_config = ConfigDict(extra="allow")


class InferInput(BaseModel):
    """An input tensor."""

    name: Annotated[str, Field(max_length=100)]
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=4)]
    datatype: Literal["BYTES", "UINT8"]
    parameters: dict[str, Any] = {}
    data: Annotated[
        list[Any] | None, Field(description="Base64 of image files (BYTES), or numbers 0 to 255 (UINT8), nested or flat.")
    ] = None


class InferOutput(BaseModel):
    """An output tensor that is wanted."""

    name: Annotated[str, Field(max_length=100)]
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """A request of the protocol V2."""

    id: Annotated[str, Field(max_length=200)] = ""
    parameters: dict[str, Any] = {}
    inputs: Annotated[list[InferInput], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[InferOutput], Field(max_length=10)] = []


class InferTensor(BaseModel):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferAnswer(BaseModel):
    """An answer of the protocol V2."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferTensor]
