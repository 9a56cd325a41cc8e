"""Stands in for Any-to-Bokeh's U-Net."""

import os


class UNetSpatioTemporalConditionModel:
    @classmethod
    def from_pretrained(cls, folder, subfolder, torch_dtype, low_cpu_mem_usage, local_files_only):
        assert local_files_only
        assert os.path.isdir(folder)
        return cls()
