"""The commands of ``tdnet-ros``: each a function that declares its options and returns what carries it out.

Commands import what they need when they run: ``tdnet-ros --help`` should not wait for torch, nor ask for ROS.
"""
