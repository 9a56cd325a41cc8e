"""The published systems that there are adapters for: what they are, what they need, what is unsure.

Facts are from the systems' public code and papers. A checkout is the user's own; licences say what is known,
and several are unclear or forbid copying, which is why nothing of any system is here.
"""

from __future__ import annotations

from focuspull.model.adapters import mapping
from focuspull.model.adapters.record import CHILDREN, PublishedSystem

DEEPLENS = PublishedSystem(
    name="deeplens",
    title="DeepLens",
    paper="Wang et al., SIGGRAPH Asia 2018",
    repository="scott89/deeplens_eval",
    licence="no licence file",
    files=("core/build_lensblur.py", "core/build_sr.py", "network/feature_net.py", "network/srnet.py"),
    weights_folder="model/model_end2end",
    weights=("model.index",),
    limits=(
        "blur saturates near 7 px times the scale (2 from 640 px, 4 from 1280 px); long side 1280 at most; "
        "blurs display values"
    ),
    child=CHILDREN / "deeplens.py",
    prepare=mapping.prepare_deeplens,
    restore=mapping.restore_deeplens,
    blurs="encoded",
    options={"checkpoint": "model", "moving_average": False},
)
"""Its code needs TensorFlow 1, or a port to `tensorflow.compat.v1`.

Unsure: ``a = K / (8 scale)`` is a first guess from the kernel radius in its configuration, to be corrected by
one factor (`focuspull.model.adapters.self_test`); the checkpoint's name, an option, is the published one's;
whether the published weights were saved as moving averages, which the option of that name says.
"""

BOKEHME = PublishedSystem(
    name="bokehme",
    title="BokehMe",
    paper="Peng et al., CVPR 2022",
    repository="JuewenPeng/BokehMe",
    licence="MIT and a non-commercial licence both occur in its history",
    files=("neural_renderer.py", "classical_renderer/scatter.py"),
    weights_folder="checkpoints",
    weights=("arnet.pth", "iunet.pth"),
    limits="needs CUDA and CuPy; colours above display white are lost",
    child=CHILDREN / "bokehme.py",
    prepare=mapping.prepare_bokehme,
    restore=mapping.restore_power,
    options={"device": None},
)
"""The gamma that its networks see is 2.2, from their training range of 1 to 5. Without ``--highlight``.

Unsure: which of the two licences holds. Names that CuPy has dropped are given back to it by the child.
"""

SYSTEMS: dict[str, PublishedSystem] = {system.name: system for system in (DEEPLENS, BOKEHME)}
"""By name, in order of publication."""
