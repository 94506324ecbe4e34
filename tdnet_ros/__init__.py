"""Streaming semantic segmentation for ROS 2: TDNet, AR-Seg and BDNet behind one node."""

# The generated tdnet_ros.msg lives in the installed copy of this package. Python started inside a source
# checkout would see only the checkout, so both directories are searched.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)

__version__ = "0.1.0"
