"""The process that holds one live source: it decodes every frame, keeps the newest, and hands it over when asked.

A process of its own, because a decoder fed by a network or a driver may hang or crash, and only a process can be
ended whatever it does; and because then every reconnection starts with nothing left over from before.

To add a kind of live source: one file here with a class of the shape of ``Grabber``, its row in ``child.GRABBERS``,
and one line in ``edge_claid/frames/address.py``.
"""
