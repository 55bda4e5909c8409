"""The server in the place of another one: as `ovms` or as `tensorflow_model_server`, of the version named.

A face takes its original's flags and files, opens its ports, answers its paths, and offers nothing that it lacks. What
each version knows is told by atalaya_spec's ovms.py and tfs.py; docs/faces.md says what differs all the same.
"""
