"""The ROS 2 face of tdnet_ros: the only package that imports ROS."""

import os

from tdnet_ros.node.heap import share_one_heap

# Set before torch is imported: its threads, when they wait for each other, should sleep. Spinning, they take the
# core from the thread that receives images and publishes masks, and from the camera driver.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

share_one_heap()  # before rclpy is imported
