"""The rendered street: driving video of unlimited length with exact labels and exact motion.

``street`` is the drive that the others are put together to. What stands there: ``layout``, ``scene``, ``plots``,
``kerbside``, ``sketch``; who moves: ``actors``, ``people``, ``vehicles``; what it is painted with: ``library``,
``facades``, ``furniture``, ``plants``, ``noise``, ``atlas``; how it becomes a picture: ``camera``, ``faces``,
``ground``, ``draw``, ``light``, ``lens``.
"""

from tdnet_ros.training.street.street import Street, StreetFrame, write_clip

__all__ = ["Street", "StreetFrame", "write_clip"]
