"""The dataset contract of focuspull: optics, clips, shards, index, checks and previews."""
