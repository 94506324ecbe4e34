"""Pure torch networks with explicit state; no input or output, no ROS."""

from tdnet_ros.networks.catalog import build_network, load_network, network_info
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.tdnet import TDNet, TDNetState

__all__ = ["NetworkInfo", "TDNet", "TDNetState", "build_network", "load_network", "network_info"]
