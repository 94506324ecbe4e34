"""Serialised ROS messages to frames and video packets, and images back to messages, without any ROS package."""
