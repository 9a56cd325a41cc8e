"""Stands in for TensorFlow 1: as much of graph and session as one graph needs."""

import contextlib
import os
import types

import cv2
import numpy as np

float32, bool = np.float32, np.bool_  # noqa: A001


class Node:
    def __init__(self, compute):
        self.compute = compute

    def __getitem__(self, index):
        return Node(lambda run: run(self)[index])


def placeholder(dtype, shape, name):
    def missing(_):
        raise ValueError(f"{name} was not fed")

    node = Node(missing)
    node.rank = len(shape)
    return node


def constant(value, dtype, shape):
    return Node(lambda _: value)


@contextlib.contextmanager
def variable_scope(name):
    assert name == "Network"
    yield


def shape(node):
    return Node(lambda run: run(node).shape)


def _resize_bilinear(node, size):
    def compute(run):
        height, width = (int(run(side)) for side in size)
        return np.stack([cv2.resize(one, (width, height)).reshape(height, width, -1) for one in run(node)])

    return Node(compute)


image = types.SimpleNamespace(resize_bilinear=_resize_bilinear)


def global_variables():
    return ["Network/Network/Lensblur/weights"]


class Saver:
    def __init__(self, variables):
        assert variables

    def restore(self, session, path):
        assert os.path.exists(path + ".index"), path


train = types.SimpleNamespace(Saver=Saver)


class Session:
    def run(self, output, feed_dict):
        known = dict(feed_dict)
        for node, value in known.items():
            assert value.ndim == node.rank

        def evaluate(node):
            if node not in known:
                known[node] = node.compute(evaluate)
            return known[node]

        return evaluate(output)
