"""DeepLens as a TensorFlow 1 graph from the modules of its checkout, without its depth network.

Its evaluator builds depth, lens blur and upsampling in one graph and spreads the predicted depth over [0, 1]
per image. Here the tensor behind that step, signed depth at the base scale, is an input of the graph; depth
network and min-max are not built.

Request: ``image_320`` and, by scale, ``image_640`` and ``image_1280``, ``[h, w, 3]``, blue, green, red in
[0, 1], display values; ``depth_320_signed [h, w]``; ``scale``.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any


def load(checkout: str, weights: str, options: dict[str, Any]) -> Any:
    """See `loop.serve`."""
    tf = _tensorflow()
    lensblur = import_module("core.build_lensblur")
    upsampling = import_module("core.build_sr")

    names = ("image_320", "image_640", "image_1280")
    images = {name: tf.placeholder(tf.float32, [1, None, None, 3], name=name) for name in names}
    is_training = tf.constant(False, dtype=tf.bool, shape=[])
    with tf.variable_scope("Network"):
        signed = tf.placeholder(tf.float32, [1, None, None, 1], name="depth_320_signed")
        base = lensblur.build(images["image_320"], signed, is_training)[0]
        double = upsampling.build(images["image_320"], signed, base, images["image_640"], is_training)[0]
        shape = tf.shape(double)
        finer = tf.image.resize_bilinear(signed, [shape[1], shape[2]])
        full = upsampling.build(images["image_640"], finer, double, images["image_1280"], is_training)[0]
    outputs = {1: base, 2: double, 4: full}

    session = tf.Session()
    # All but the variables of the depth network, which are not in this graph.
    tf.train.Saver(tf.global_variables()).restore(session, os.path.join(weights, "model"))

    def render(arrays: dict[str, Any], values: dict[str, Any]) -> Any:
        feed = {images[name]: arrays[name][None] for name in names if name in arrays}
        feed[signed] = arrays["depth_320_signed"][None, ..., None]
        # As its evaluator does before it shows them.
        return session.run(outputs[values["scale"]], feed_dict=feed).clip(0, 1)

    return render


def _tensorflow() -> Any:
    """TensorFlow 1, or its interface within TensorFlow 2 for a checkout that was ported."""
    try:
        tf: Any = import_module("tensorflow.compat.v1")
    except ImportError:
        return import_module("tensorflow")
    tf.disable_eager_execution()
    return tf


if __name__ == "__main__":
    import_module("loop").serve(load)
