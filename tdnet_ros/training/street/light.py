"""Light and weather of a rendered street: chosen by the seed, drifting slowly with time."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.training.street.atlas import Sprite
from tdnet_ros.training.street.camera import Floats
from tdnet_ros.training.street.noise import cloud
from tdnet_ros.training.street.plants import wood

Colours = npt.NDArray[np.float32]
WEATHERS = ("sunny", "bright", "overcast", "hazy", "dusk")


@dataclass(frozen=True)
class Light:
    """Light at one moment: RGB factors; ``shadow`` is what is left of the light in cast shadow."""

    ambient: Colours  # (3,)
    sun: Colours  # (3,)
    shadow: float
    haze: Colours  # (3,) in 0..255
    visibility_m: float
    exposure: float


class Weather:
    """The seed's weather: where the sun stands, how the sky looks, and the camera's noise and softness."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.kind = str(rng.choice(WEATHERS, p=[0.34, 0.24, 0.2, 0.08, 0.14]))
        azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.35, 0.95)
        #: Unit vector towards the sun in world axes.
        self.sun_direction: Floats = np.array(
            [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
        )
        direct = {"sunny": 1.05, "bright": 0.7, "overcast": 0.05, "hazy": 0.25, "dusk": 0.08}[self.kind]
        level = {"sunny": 0.55, "bright": 0.62, "overcast": 0.74, "hazy": 0.76, "dusk": 0.3}[self.kind]
        self._direct = direct * float(rng.uniform(0.8, 1.15))
        self._level = level * float(np.exp(rng.normal(0.0, 0.16)))
        self._cast = rng.normal(0, 0.015, 3) + (np.array([-0.005, 0.0, 0.015]) if self.kind != "hazy" else 0.0)
        self._warm = np.array([1.06, 1.0, 0.9]) + rng.normal(0, 0.02, 3)
        self._visibility = {"hazy": 130.0, "overcast": 500.0}.get(self.kind, 900.0) * float(rng.uniform(0.7, 1.5))
        self._rates, self._phases = rng.uniform(0.05, 0.35, 3), rng.uniform(0, 2 * np.pi, 3)
        self.noise = float(rng.uniform(1.2, 3.2)) * (1.2 if self.kind == "dusk" else 1.0)
        #: Camcorders sharpen; above 0 outlines overshoot, below 0 the lens is soft.
        self.sharpening = float(rng.uniform(-0.1, 0.9))
        self.jpeg_quality = int(rng.integers(82, 96))
        self._zenith, self._horizon = self._sky_colours(rng)
        self._clouds = {"sunny": 0.25, "bright": 0.6, "overcast": 0.45, "hazy": 0.1, "dusk": 0.8}[self.kind]

    def _sky_colours(self, rng: np.random.Generator) -> tuple[Colours, Colours]:
        zenith, horizon = {
            "sunny": ((168, 212, 240), (242, 250, 252)),
            "bright": ((196, 224, 242), (244, 250, 251)),
            "overcast": ((206, 218, 224), (240, 244, 245)),
            "hazy": ((214, 224, 228), (238, 240, 238)),
            "dusk": ((96, 112, 124), (170, 184, 190)),
        }[self.kind]
        tone = float(rng.uniform(0.94, 1.04))
        return np.array(zenith, np.float32) * np.float32(tone), np.array(horizon, np.float32) * np.float32(tone)

    def sky(self, rng: np.random.Generator) -> Sprite:
        """The sky ahead, from the horizon (bottom row) to 45 degrees up, over 112 degrees."""
        height, width = 384, 1024
        up = np.linspace(1, 0, height, dtype=np.float32)[:, None, None] ** 0.7
        colours = self._horizon * (1 - up) + self._zenith * up
        puffs = cloud(rng, height, width, 150, 6, 2.4)[..., None]
        if self.kind == "dusk":
            colours = colours * (1 + 0.2 * np.tanh(puffs))
        else:
            cover = np.clip(0.5 * puffs + self._clouds - 0.3, 0, 1)
            colours = colours + cover * (np.array([250, 251, 252], np.float32) - colours)
            colours = colours * (1 - 0.05 * np.clip(-puffs, 0, 1.5) * (self.kind == "overcast"))
        x = np.linspace(-1.5, 1.5, width, dtype=np.float32)[None, :, None]
        if self.sun_direction[2] > 0.1 and self._direct > 0.2:
            glare = self.sun_direction[0] / self.sun_direction[2]
            colours = colours + 40 * np.exp(-((x - np.float32(glare)) ** 2) / 0.15)
        return Sprite(np.asarray(np.clip(colours, 0, 255), np.uint8))

    def skyline(self, rng: np.random.Generator) -> Sprite:
        """A strip of far trees, already in haze."""
        strips = [wood(rng) for _ in range(3)]
        picture = np.concatenate([strip.picture for strip in strips], axis=1).astype(np.float32)
        hazy = picture * 0.55 + self._horizon * np.float32(0.22)
        region = np.concatenate([strip.region for strip in strips if strip.region is not None], axis=1)
        soft = np.asarray(cv2.GaussianBlur(hazy, (0, 0), 2.0), np.float32)
        return Sprite(np.asarray(np.clip(soft, 0, 255), np.uint8), np.asarray(region, np.uint8))

    def at(self, time_s: float) -> Light:
        """The light at that time: the camera's exposure hunts, thin clouds pass before the sun."""
        waves = np.sin(self._rates * time_s + self._phases)
        cloud_passes = 0.7 + 0.3 * np.tanh(6 * (waves[1] + 0.7))
        direct = self._direct * float((1 + 0.25 * waves[0]) * cloud_passes)
        ambient = self._level * (1 + self._cast)
        return Light(
            ambient=np.asarray(ambient, np.float32),
            sun=np.asarray(direct * self._warm, np.float32),
            shadow=float(self._level / (self._level + 0.62 * direct)),
            haze=self._horizon * np.float32(0.92),
            visibility_m=self._visibility,
            exposure=1 + 0.1 * float(waves[2]),
        )
