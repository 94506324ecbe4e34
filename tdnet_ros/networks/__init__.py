"""Pure torch networks with explicit state; no input or output, no ROS."""

from tdnet_ros.networks.catalog import build_network, network_info
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.loading import AUTO, load_network
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan
from tdnet_ros.networks.tdnet import TDNet, TDNetState

__all__ = [
    "AUTO",
    "NetworkInfo",
    "SegmentationNetwork",
    "StepPlan",
    "TDNet",
    "TDNetState",
    "build_network",
    "load_network",
    "network_info",
]
