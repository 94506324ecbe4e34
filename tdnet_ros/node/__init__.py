"""The ROS 2 face of tdnet_ros: the only package that imports ROS."""
