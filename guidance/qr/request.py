"""What a request says of the QR code that its picture shall be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from guidance.qr.symbol import Ecc, Symbol, encode


class Qr(BaseModel):
    """A payload and how it is drawn. In a resolved request version and module size have values, and the mask
    where the picture does not choose it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    data: str = Field(min_length=1, max_length=2953, description="the text that a scanner shall read")
    version: Annotated[int, Field(ge=1, le=40)] | Literal["auto"] = Field(
        "auto",
        description="size of the symbol: 17 + 4 * version modules per side; auto: the smallest that holds "
        "the data, and at least 5, which leaves modules free for the picture",
    )
    ecc: Ecc = Field("M", description="error correction: 7, 15, 25 or 30 percent of the codewords")
    mask: Annotated[int, Field(ge=0, le=7)] | Literal["auto"] = Field(
        "auto", description="auto: the one nearest to the picture; without `follow` that of least penalty"
    )
    module_px: int | None = Field(None, ge=1, le=64, description="pixels per module")
    quiet_zone: int = Field(4, ge=0, le=16, description="white modules around the symbol; readers want 4")
    control_scale: float | None = Field(
        None, ge=0, le=4, description="strength of the ControlNet: 1.35 where the model has one"
    )
    follow: bool = Field(
        True, description="choose free modules and mask after the picture (the payload stays what it is)"
    )
    guarantee: Literal["none", "scannable"] = Field(
        "none", description="scannable: try again with stronger guidance, up to three times, until it is read"
    )

    @property
    def canvas_px(self) -> int:
        """Side of the symbol in pixels. Only of a resolved request."""
        assert isinstance(self.version, int)
        assert self.module_px is not None
        return self.module_px * (17 + 4 * self.version)

    @property
    def side_px(self) -> int:
        """Side of the finished picture, quiet zone included. Only of a resolved request."""
        assert isinstance(self.version, int)
        assert self.module_px is not None
        return picture_module_px(self.module_px) * (17 + 4 * self.version + 2 * self.quiet_zone)

    def resolved(self, cell_px: int, has: Collection[str]) -> Qr:
        """With all values, for a model with latent cells of `cell_px` that `has` these extras.

        ValueError says what would fit.
        """
        symbol, unit = self.symbol(), cell_px
        usual = left_open(cell_px, has)
        module_px = self.module_px or usual.module_px
        if module_px % unit:
            fit = -(-module_px // unit) * unit
            raise ValueError(
                f"module_px is {module_px}; modules fill whole latent cells of {unit} px only where it is a "
                f"multiple of {unit}, say {fit}"
            )
        scale = self.control_scale
        if scale and "controlnet" not in has:
            raise ValueError("this model has no QR ControlNet; set control_scale to 0 or leave it out")
        return self.model_copy(
            update={
                "version": symbol.version,
                "mask": self.mask if self.follow else symbol.mask,
                "module_px": module_px,
                "control_scale": usual.control_scale if scale is None else scale,
            }
        )

    def symbol(self) -> Symbol:
        """The symbol. ValueError says what would fit."""
        mask = None if self.mask == "auto" else self.mask
        if self.version != "auto":
            return encode(self.data, self.version, self.ecc, mask)
        smallest = encode(self.data, None, self.ecc, mask)
        if smallest.version >= LEAST_VERSION:
            return smallest
        return encode(self.data, LEAST_VERSION, self.ecc, mask)

    def candidates(self) -> list[Symbol]:
        """The symbols that a picture may choose from. Only of a resolved request."""
        if self.mask != "auto" or not self.follow:
            return [self.symbol()]
        return [self.model_copy(update={"mask": mask}).symbol() for mask in range(8)]


@dataclass(frozen=True, slots=True)
class LeftOpen:
    """What a request gets that says nothing of these."""

    module_px: int
    control_scale: float


def left_open(cell_px: int, has: Collection[str]) -> LeftOpen:
    """The values for a model with latent cells of `cell_px` that `has` these extras."""
    return LeftOpen(-(-LEAST_MODULE_PX // cell_px) * cell_px, CONTROL if "controlnet" in has else 0.0)


def picture_module_px(module_px: int) -> int:
    """Pixels per module of the finished picture: small modules are enlarged.

    Readers look at blocks of 8 px, which fails where none of them sees an edge: the modules should be no
    multiple of 8, also where the picture is shown at two thirds of its size.
    """
    return max(module_px, LEAST_PICTURE_MODULE_PX)


CONTROL = 1.35
LEAST_VERSION = 5
LEAST_PICTURE_MODULE_PX = 14
LEAST_MODULE_PX = 8
TRIES = 3
"""How often a guaranteed picture is tried."""
