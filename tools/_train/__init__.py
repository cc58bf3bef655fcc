"""The machinery of tools/train.py. Its modules import the pack: start the host, if there is one, before."""
