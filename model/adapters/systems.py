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
)
"""Its code needs TensorFlow 1, or a port to `tensorflow.compat.v1`. The weights are those trained end to end.

Unsure: ``a = K / (8 scale)``, a first guess from the kernel radius in its configuration, to be corrected by
one factor (`focuspull.model.adapters.self_test`). Its own demo takes 1280 px for the middle scale.
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

MPIB = PublishedSystem(
    name="mpib",
    title="MPIB",
    paper="Peng et al., ECCV 2022",
    repository="JuewenPeng/MPIB",
    licence="Apache-2.0",
    files=("models/__init__.py", "models/bokeh_renderer.py", "utils.py", "configs/default.yaml"),
    weights_folder="checkpoints",
    weights=("mpinet.pth", "aupnet.pth", "inpnet.pth"),
    limits="radius at most 200 px; radii are whole numbers; needs CUDA and CuPy",
    child=CHILDREN / "mpib.py",
    prepare=mapping.prepare_mpib,
    restore=mapping.restore_power,
    options={"device": None, "increase_focus_range": True},
)
"""``increase_focus_range``, as published, takes half a plane off every distance to the focus: radii are
``K / 64`` smaller than K says, and what is within 1 / 64 of the focus is sharp. Its kernel is up to 0.8 px
too wide below radius 3.

Unsure: the weights' names in its published archive; they are those of its demo's arguments.
"""

DRBOKEH = PublishedSystem(
    name="drbokeh",
    title="Dr.Bokeh",
    paper="Sheng et al., CVPR 2024",
    repository="ShengCN/DrBokeh-Src",
    licence="no licence file",
    files=("app/Render/Inference.py", "app/Render/image_preprocessing.py", "app/Render/DScatter/scatter.py"),
    weights_folder="app/Render",
    weights=(
        "lama_inpaint/inpnet.pth",
        "Depth/DPT/weights/dpt_large-midas-2f21e586.pt",
        "Salient/LDF/res/resnet50-19c8e357.pth",
    ),
    weights_stay=True,
    limits="wants a matte of the subject; blurs by 0.3 px more than K says, also in focus; needs CUDA",
    child=CHILDREN / "drbokeh.py",
    prepare=mapping.prepare_drbokeh,
    restore=mapping.restore_power,
)
"""It loads networks for depth and saliency when imported, and needs their weights even though both are given.

Unsure: the matte. It wants that of the subject; given is what is nearer than the focus, which is the split
that its compositing assumes, hard, from half a pixel of blur on. And where its weights lie: the paths are
those that its code opens, while its instructions speak of other files, too.
"""

BOKEHDIFF = PublishedSystem(
    name="bokehdiff",
    title="BokehDiff",
    paper="ICCV 2025",
    repository="FreeButUselessSoul/bokehdiff",
    licence="no licence file",
    files=(
        "custom_diffusers/pipeline_sdxl.py",
        "custom_diffusers/attention_processor.py",
        "PISA_attn_processor.py",
    ),
    weights_folder="checkpoints",
    weights=("pytorch_lora_weights.safetensors", "vae.ckpt"),
    limits="diffusers 0.32.1 and no other; blurs display values through a VAE; 512-px tiles",
    child=CHILDREN / "bokehdiff.py",
    prepare=mapping.prepare_bokehdiff,
    restore=mapping.restore_bokehdiff,
    blurs="encoded",
    options={"device": None, "dtype": "float32", "base": "SG161222/RealVisXL_V5.0", "seed": 0},
)
"""``base`` is SDXL on this machine, a folder or a name in the local cache: nothing is downloaded.

Unsure: its attention measures distance per tile; a frame that is not tiled (8192 latent cells or fewer, such
as 1024x512) and not square gets another K along each side. K in its training data is off by a factor of 1 to
3, so that a factor fitted on some clips belongs into a report. Its own instructions make near = 0 out of
inverse depth where its training has near = 1; given is near = 1, which only its self-occlusion sees.
"""

ANY_TO_BOKEH_OFFICIAL = PublishedSystem(
    name="any_to_bokeh_official",
    title="Any-to-Bokeh (authors' code)",
    paper="ICLR 2026, arXiv 2505.21593",
    repository="vivoCameraResearch/any-to-bokeh",
    licence="CC BY-NC 4.0, its README says CC BY-NC-SA 4.0: not for commercial use",
    files=("pipelines/any2bokeh_pipe.py", "models/unet.py", "models/vae.py", "utils/dataset.py"),
    weights_folder="checkpoints",
    weights=("unet", "vae"),
    limits=(
        "1024x576; 13 frames or more; K a whole number at 1024 px, trained on 1 to 32; blurs display values"
    ),
    child=CHILDREN / "any_to_bokeh_official.py",
    prepare=mapping.prepare_official,
    restore=mapping.restore_official,
    takes_clips=True,
    blurs="encoded",
    options={
        "device": None,
        "base": "stabilityai/stable-video-diffusion-img2vid-xt",
        "round_k": False,
        "seed": 0,
    },
)
"""``base`` is Stable Video Diffusion on this machine, a folder or a name in the local cache.

Frames of another size of 16:9 are resized to 1024x576 and back, K with them. K that is not whole at 1024 px
is refused unless ``round_k`` is on; no factor can be fitted to it.

Unsure: whether its two precisions of the VAE fit into the memory of a given GPU, 32 GB were too little for
others. Its encoder samples, so that two runs differ unless ``seed`` is the same.
"""

SYSTEMS: dict[str, PublishedSystem] = {
    system.name: system for system in (DEEPLENS, BOKEHME, MPIB, DRBOKEH, BOKEHDIFF, ANY_TO_BOKEH_OFFICIAL)
}
"""By name, in order of publication."""
