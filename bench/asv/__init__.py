"""fastconv over its history, for asv (``asv run``); what stands beside the peers is ``fastconv bench``.

These import fastconv and NumPy alone, since they also run on commits whose bench/ was another one.
"""
