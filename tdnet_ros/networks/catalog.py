"""The networks by name: one description per variant, one function that builds them."""

from __future__ import annotations

from typing import Any

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import CAMVID, CAMVID_VOID
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.network import SegmentationNetwork
from tdnet_ros.networks.variants import ARSegVariant, BDNetVariant, CarriedVariant, TDARVariant, TDNetVariant, Variant

#: Mean and standard deviation that AR-Seg's authors took for CamVid, and for BiSeNet on Cityscapes.
_ARSEG_CAMVID = ((0.39068785, 0.40521392, 0.41434407), (0.29652068, 0.30514979, 0.30080369))
_ARSEG_BISENET = ((0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115))

#: What td2_mnv2's sub-networks are, of whatever network they are part.
_MOBILE_BDNET: dict[str, Any] = {
    "path": "mobile",
    "path_channels": 128,
    "head_channels": 96,
    "labels": CAMVID,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "stride": 4,
    "input_size": (360, 480),
}
_MOBILE_TDNET: dict[str, Any] = _MOBILE_BDNET | {
    "feature_groups": 2,
    "key_channels": 64,
    "value_channels": 128,
    "window_stride": 2,
    "norm": "channel",
    "head": "detail",
    "align_corners": False,
}

CATALOG: dict[str, Variant] = {
    "td4_psp18": TDNetVariant(
        summary="TD4-PSP18 of the paper: four dilated ResNet-18 paths with pyramid pooling",
        path="pyramid",
        depth=18,
        subnetworks=4,
        feature_groups=2,
        key_channels=64,
        value_channels=512,
        window_stride=4,
        norm="spatial",
        head_channels=128,
    ),
    "td2_psp50": TDNetVariant(
        summary="TD2-PSP50 of the paper: two dilated ResNet-50 paths with pyramid pooling",
        path="pyramid",
        depth=50,
        subnetworks=2,
        feature_groups=2,
        key_channels=64,
        value_channels=512,
        window_stride=4,
        norm="spatial",
        head_channels=256,
    ),
    "psp18": Variant(summary="PSPNet with ResNet-18, frame by frame", path="pyramid", depth=18, head_channels=128),
    "psp50": Variant(summary="PSPNet with ResNet-50, frame by frame", path="pyramid", depth=50, head_channels=512),
    "psp101": Variant(summary="PSPNet with ResNet-101, frame by frame", path="pyramid", depth=101, head_channels=512),
    "td4_bise18": TDNetVariant(
        summary="TD4-Bise18 of the paper, from removed official code: four BiSeNet-18 paths; no weights exist",
        path="bisenet",
        depth=18,
        subnetworks=4,
        feature_groups=2,
        key_channels=64,
        value_channels=128,
        window_stride=5,
        norm="group",
        head="leaky",
        head_channels=256,
        input_size=(768, 1536),
    ),
    "td2_fa18": TDNetVariant(
        summary="TD2-FA18 of the official training code: two FANet-18 paths; no weights exist",
        path="fanet",
        depth=18,
        subnetworks=2,
        feature_groups=1,
        key_channels=64,
        value_channels=256,
        window_stride=3,
        norm="spatial",
        head="leaky",
        head_channels=256,
        input_size=(768, 1536),
    ),
    "arseg_psp18_camvid": ARSegVariant(
        summary="AR-Seg with PSPNet-18 for CamVid, fused at full resolution: for GPUs",
        path="decoded pyramid",
        head_channels=64,
        labels=CAMVID_VOID,
        mean=_ARSEG_CAMVID[0],
        std=_ARSEG_CAMVID[1],
        stride=1,
        input_size=(720, 960),
    ),
    "arseg_bise18_camvid": ARSegVariant(
        summary="AR-Seg with BiSeNet-18 for CamVid",
        path="bisenet",
        head_channels=256,
        labels=CAMVID_VOID,
        mean=_ARSEG_CAMVID[0],
        std=_ARSEG_CAMVID[1],
        input_size=(720, 960),
        align_corners=False,
    ),
    "arseg_psp18_cityscapes": ARSegVariant(
        summary="AR-Seg with PSPNet-18 for Cityscapes", path="pyramid", head_channels=512, input_size=(1024, 2048)
    ),
    "arseg_bise18_cityscapes": ARSegVariant(
        summary="AR-Seg with BiSeNet-18 for Cityscapes",
        path="bisenet",
        head_channels=256,
        mean=_ARSEG_BISENET[0],
        std=_ARSEG_BISENET[1],
        input_size=(1024, 2048),
        align_corners=False,
    ),
    "bdnet18": BDNetVariant(summary="BDNet with DeepLabV2 on ResNet-18, reconstructed", path="atrous", depth=18),
    "bdnet50": BDNetVariant(summary="BDNet with DeepLabV2 on ResNet-50, reconstructed", path="atrous", depth=50),
    "bdnet101": BDNetVariant(summary="BDNet with DeepLabV2 on ResNet-101, reconstructed", path="atrous", depth=101),
    "bdnet_mnv2": BDNetVariant(summary="BDNet on a MobileNetV2 path of td2_mnv2, for CPUs", **_MOBILE_BDNET),
    "carried_mnv2": CarriedVariant(
        summary="a MobileNetV2 path of td2_mnv2 on keyframes, its scores carried along between, for CPUs",
        **_MOBILE_BDNET,
    ),
    "td2_mnv2": TDNetVariant(
        summary="the light one: two MobileNetV2 paths, for CPUs and small GPUs", subnetworks=2, **_MOBILE_TDNET
    ),
    "tdar_psp18": TDARVariant(
        summary="TD4-PSP18 with alternating resolution",
        path="pyramid",
        depth=18,
        subnetworks=4,
        feature_groups=2,
        key_channels=64,
        value_channels=512,
        window_stride=4,
        head_channels=128,
    ),
    "tdar_bise18": TDARVariant(
        summary="TD4-Bise18 with alternating resolution",
        path="bisenet",
        depth=18,
        subnetworks=4,
        feature_groups=2,
        key_channels=64,
        value_channels=128,
        window_stride=5,
        head="leaky",
        head_channels=128,
        input_size=(768, 1536),
    ),
    "tdar_mnv2": TDARVariant(
        summary="td2_mnv2 with alternating resolution, for CPUs and small GPUs",
        subnetworks=2,
        detail=True,
        **_MOBILE_TDNET,
    ),
    "arseg_mnv2": TDARVariant(
        summary="one sub-network of tdar_mnv2 by itself: alternating resolution without a window",
        subnetworks=1,
        detail=True,
        **_MOBILE_TDNET,
    ),
    "mnv2": Variant(
        summary="one sub-network of td2_mnv2 by itself, frame by frame",
        path="mobile",
        path_channels=128,
        head="detail",
        head_channels=96,
        labels=CAMVID,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        stride=4,
        input_size=(360, 480),
        align_corners=False,
    ),
}


def network_info(name: str) -> NetworkInfo:
    """What the catalog says of that network; weights may say otherwise. ConfigurationError for an unknown name."""
    variant = _variant(name)
    return NetworkInfo(
        name=name,
        labels=variant.labels,
        mean=variant.mean,
        std=variant.std,
        stride=variant.stride,
        minimum_size=32,
        input_size=variant.input_size,
        align_corners=variant.align_corners,
        subnetworks=variant.subnetworks,
        low_resolution=variant.low_resolution,
        keyframe_interval=variant.keyframe_interval,
        encodes_between=variant.encodes_between,
    )


def build_network(network: str | NetworkInfo) -> SegmentationNetwork:
    """The network of that name, or with those facts instead of the catalog's, with fresh weights.

    Raises ConfigurationError for a name not in the catalog.
    """
    info = network_info(network) if isinstance(network, str) else network
    return _variant(info.name).build(info)


def _variant(name: str) -> Variant:
    if name not in CATALOG:
        raise ConfigurationError(f"model is '{name}', expected one of {sorted(CATALOG)}")
    return CATALOG[name]
