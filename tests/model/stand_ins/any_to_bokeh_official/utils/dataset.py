"""Stands in for Any-to-Bokeh's data set: the same table, file names, groups, weights and 8-bit values."""

import csv
import math
import os

import numpy as np
import torch
from PIL import Image


class BokehCocMPIDatasetWholeVid:
    def __init__(self, csv_path, sample_size, overlap_frames, group_frames):
        with open(csv_path) as file:
            self.rows = list(csv.DictReader(file))
        self.size, self.overlap, self.group = sample_size, overlap_frames, group_frames

    def __getitem__(self, i):
        row = self.rows[i]
        assert row["k"] == "change"
        images, disparities = files(row["aif_folder"]), files(row["disp_folder"])
        assert len(images) == len(disparities)
        step = self.group - self.overlap
        groups = []
        for first in range(0, max(len(images) - self.overlap, 1), step):
            fade_in = [0.5 * (1 - math.cos(math.pi * j / self.overlap)) for j in range(self.overlap)]
            is_first, is_last = first == 0, first + self.group >= len(images)
            weight = ([1.0] * self.overlap if is_first else fade_in) + (
                [1.0] * self.overlap if is_last else [1 - one for one in fade_in]
            )
            frames = [
                self.frame(images[j], disparities[j])
                for j in range(first, min(first + self.group, len(images)))
            ]
            while len(frames) < self.group:
                frames.append([torch.zeros_like(part) for part in frames[0]])
                weight[len(frames) - 1] = 0.0
            image, coc, k = (torch.stack([frame[part] for frame in frames]) for part in range(3))
            groups.append({"pixel_values": image, "coc": coc, "k": k, "weight": torch.tensor(weight)})
        return groups

    def frame(self, image_path, disparity_path):
        image = np.asarray(Image.open(image_path), np.float32) / 255
        disparity = np.asarray(Image.open(disparity_path).convert("L"), np.float32) / 255
        assert image.shape[:2] == disparity.shape == tuple(self.size)
        focus, k = os.path.basename(disparity_path).split("zf_")[1].replace(".png", "").split("_k_")
        coc = torch.from_numpy(np.abs(disparity - float(focus)))
        return [torch.from_numpy(image).permute(2, 0, 1) * 2 - 1, coc[None] * 2 - 1, torch.tensor(float(k))]


def files(folder):
    names = sorted(os.listdir(folder), key=lambda name: int(name.split("_")[0].split(".")[0]))
    return [os.path.join(folder, name) for name in names]


def collate_fn_val_coc_mpi_whole_video(clips):
    (groups,) = clips
    batch = {key: torch.stack([group[key] for group in groups]) for key in groups[0]}
    return {**batch, "mpi_mask": torch.zeros_like(batch["coc"][:, :, 0])}
