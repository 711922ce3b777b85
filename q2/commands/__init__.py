"""The commands of ``q2`` that are not the main job, a file each, and what all of them print with."""
